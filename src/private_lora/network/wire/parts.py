"""Messages of any size as streams of parts: a header that says how long, then data."""

from __future__ import annotations

from collections.abc import Iterator

from private_lora.network.wire import protocol_pb2 as messages

PART_BYTES = 2**20
# What a part may weigh on the wire; gRPC refuses anything larger before it reaches us.
LARGEST_PART = PART_BYTES + 2**16
REQUEST_ID_BYTES = 16


class BrokenStream(ValueError):
    """A stream that is no header followed by as much data as it says."""


def parts_of(data: bytes, **header) -> Iterator[messages.Part]:
    """The stream of a message; header: fields of `Header` besides its size."""
    yield messages.Part(header=messages.Header(size=len(data), **header))
    view = memoryview(data)
    for start in range(0, len(view), PART_BYTES):
        yield messages.Part(data=bytes(view[start : start + PART_BYTES]))


def read_header(parts: Iterator[messages.Part]) -> messages.Header:
    """The first part's header; raises BrokenStream when there is none."""
    first = next(parts, None)
    if first is None or first.WhichOneof("content") != "header":
        raise BrokenStream("the stream does not begin with a header")
    return first.header


def read_data(parts: Iterator[messages.Part], size: int) -> bytearray:
    """The data after a header; raises BrokenStream when it is not `size` bytes. Never holds more than that."""
    data = bytearray()
    for part in parts:
        if part.WhichOneof("content") != "data" or not part.data:
            raise BrokenStream("a stream has one header, and parts with data after it")
        if len(data) + len(part.data) > size:
            raise BrokenStream(f"the stream goes on after the {size} bytes that its header announced")
        data += part.data
    if len(data) != size:
        raise BrokenStream(f"the stream ended after {len(data)} of the {size} bytes that its header announced")
    return data
