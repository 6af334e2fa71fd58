"""What every call must be before a method sees it: of a client that is trusted, with a deadline and messages of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
from google.protobuf.message import DecodeError

from private_lora.network.wire.parts import BrokenStream
from private_lora.network.worker.limits import Refusal
from private_lora.network.worker.metrics import WorkerMetrics
from private_lora.network.worker.pace import Paces
from private_lora.network.worker.quotas import Budget
from private_lora.network.worker.service import identity_of

INVALID, DENIED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED


class CheckedCalls(grpc.ServerInterceptor):
    """Refuses calls, those of health included, that set no deadline or one of more than `longest_s` seconds, or that are more
    than a client may make at one time; counts them.

    Before that, those of clients whose certificate is revoked: `revoked` says so of a call's context, and ends their sessions.

    It does what gRPC would do before a method is called, because gRPC keeps a thread until a request's one message has come,
    if that takes forever, and a stream of the connection, for good, when a message cannot be decoded.
    """

    def __init__(
        self,
        longest_s: float,
        metrics: WorkerMetrics,
        budget: Budget,
        paces: Paces,
        revoked: Callable[[grpc.ServicerContext], bool],
    ):
        self._longest_s, self._metrics, self._budget, self._paces = longest_s, metrics, budget, paces
        self._revoked = revoked

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
            with self._place(context, method):
                return serve(_decoded(requests, handler.request_deserializer), context)

        def checked_stream(requests, context):
            with self._place(context, method):
                yield from serve(_decoded(requests, handler.request_deserializer), context)

        return make(checked_stream if handler.response_streaming else checked, None, handler.response_serializer)

    @contextmanager
    def _place(self, context, method: str) -> Iterator[None]:
        """One of the calls that a client may make at one time, which a thread is kept for; ends the call when there is none."""
        client = identity_of(context)
        try:
            self._budget.calls.take(client)
        except Refusal as error:  # at once: there is no place in which to wait
            self._metrics.refused(error.limit)
            self._end(context, method, error.reason, error.code)
        try:
            if self._revoked(context):
                self._refuse(context, method, "the certificate of this client was revoked: get a new one", DENIED)
            left = context.time_remaining()
            if left is None or left > self._longest_s:
                self._refuse(context, method, f"set a deadline of at most {self._longest_s:g} seconds on every request")
            yield
        finally:
            self._budget.calls.give_back(client)

    def _with_first(self, serve: Callable, method: str) -> Callable:
        """A function of the stream of requests, from one of the first of them."""

        def serve_first(requests, context):
            try:
                with self._paces.watched(context):
                    request = next(requests, None)
            except BrokenStream as error:
                self._refuse(context, method, str(error))
            if request is None:
                self._refuse(context, method, "the request ended before its message")
            return serve(request, context)

        return serve_first

    def _refuse(self, context, method: str, reason: str, code: grpc.StatusCode = INVALID) -> None:
        """Raises what ends the call, when its client may know of one more refusal."""
        self._budget.refusals.wait(identity_of(context))
        self._end(context, method, reason, code)

    def _end(self, context, method: str, reason: str, code: grpc.StatusCode) -> None:
        """Raises what ends the call."""
        with self._metrics.request(method) as outcome:
            outcome.code = code
        context.abort(code, reason)


def _decoded(requests: Iterator[bytes], decode: Callable) -> Iterator:
    """The messages of a stream; raises BrokenStream on bytes that are none."""
    for data in requests:
        try:
            message = decode(data)
        except DecodeError:
            raise BrokenStream("the stream has a message that is none of this protocol") from None
        yield message
