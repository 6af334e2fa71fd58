"""What every call must be before a method sees it: it has a deadline, and its messages are ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import grpc
from google.protobuf.message import DecodeError

from private_lora.network.wire.parts import BrokenStream
from private_lora.network.worker.metrics import WorkerMetrics

INVALID = grpc.StatusCode.INVALID_ARGUMENT


class CheckedCalls(grpc.ServerInterceptor):
    """Refuses calls, those of health included, that set no deadline or one of more than `longest_s` seconds; counts them.

    It does what gRPC would do before a method is called, because gRPC keeps a thread until a request's one message has come,
    if that takes forever, and a stream of the connection, for good, when a message cannot be decoded.
    """

    def __init__(self, longest_s: float, metrics: WorkerMetrics):
        self._longest_s, self._metrics = longest_s, metrics

    def intercept_service(self, continuation, handler_call_details):
        """The method's handler behind the checks; None, which refuses the call, for methods that there are not.

        Nor is there one that answers a single message with a stream: it would watch the health for as long as clients like.
        """
        handler = continuation(handler_call_details)
        if handler is None or handler.response_streaming > handler.request_streaming:
            return None
        method = handler_call_details.method.rpartition("/")[2]
        if handler.response_streaming:
            serve, make = handler.stream_stream, grpc.stream_stream_rpc_method_handler
        else:
            serve = handler.stream_unary or self._with_first(handler.unary_unary, method)
            make = grpc.stream_unary_rpc_method_handler

        def checked(requests, context):
            left = context.time_remaining()
            if left is None or left > self._longest_s:
                self._refuse(context, method, f"set a deadline of at most {self._longest_s:g} seconds on every request")
            return serve(_decoded(requests, handler.request_deserializer), context)

        return make(checked, None, handler.response_serializer)

    def _with_first(self, serve: Callable, method: str) -> Callable:
        """A function of the stream of requests, from one of the first of them."""

        def serve_first(requests, context):
            try:
                request = next(requests, None)
            except BrokenStream as error:
                self._refuse(context, method, str(error))
            if request is None:
                self._refuse(context, method, "the request ended before its message")
            return serve(request, context)

        return serve_first

    def _refuse(self, context, method: str, reason: str) -> None:
        """Raises what ends the call."""
        with self._metrics.request(method) as outcome:
            outcome.code = INVALID
        context.abort(INVALID, reason)


def _decoded(requests: Iterator[bytes], decode: Callable) -> Iterator:
    """The messages of a stream; raises BrokenStream on bytes that are none."""
    for data in requests:
        try:
            message = decode(data)
        except DecodeError:
            raise BrokenStream("the stream has a message that is none of this protocol") from None
        yield message
