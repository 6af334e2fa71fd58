"""A client for a worker, written from docs/wire.md and protocol.proto alone: no line of it is the package's, or generated.

    python tests/independent/client.py 127.0.0.1:7001 resources/nano/model.safetensors model.layers.0.self_attn.o_proj

asks for the product of random rows with one weight forward, under the kind of masks that the worker has, and compares it with
the product in the clear. Its samplers are not constant-time: it is for tests, not for secrets.
"""

from __future__ import annotations

import hashlib
import json
import math
import secrets as system
import struct
import sys

import grpc
import numpy as np
import scheme

VERSIONS = 2, 1  # tried in this order; 1 does not know a header's `rows`, and reads over it
# Largest log2 Q by ring size that this client accepts from a worker, whatever the plan says of its security.
MOST_LOG2_Q = {1024: 27, 2048: 54, 4096: 109, 8192: 218}
ERROR_STD, TAIL = 3.2, 32


def field(number: int, value: int | bytes) -> bytes:
    """One protobuf field: a varint, or bytes with their length before them."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    """Seven bits a byte, lowest first, with the top bit where more follow."""
    more, out = value, b""
    while more >= 128:
        out, more = out + bytes([more % 128 + 128]), more >> 7
    return out + bytes([more])


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """A value, and where the next field is."""
    value = shift = 0
    while True:
        value, shift, at = value | (data[at] & 127) << shift, shift + 7, at + 1
        if data[at - 1] < 128:
            return value, at


def read(data: bytes) -> dict[int, list]:
    """Values of a protobuf message by field number: integers, or bytes."""
    found, at = {}, 0
    while at < len(data):
        key, at = read_varint(data, at)
        if key & 7 == 0:
            value, at = read_varint(data, at)
        else:
            size, at = (8, at) if key & 7 == 1 else read_varint(data, at)
            value, at = data[at : at + size], at + size
        found.setdefault(key >> 3, []).append(value)
    return found


class Worker:
    """A session at a worker. products: SHA-256 of the weight and plan, by name."""

    def __init__(self, address: str):
        self._channel = grpc.insecure_channel(address)
        welcome = self._opened()
        (self._session,) = welcome[2]
        self.largest_message = welcome[5][0]
        products = [read(product) for product in welcome[4]]
        self.products = {p[1][0].decode(): (p[2][0], json.loads(p[3][0])) for p in products}

    def _opened(self) -> dict[int, list]:
        """The worker's welcome, in the newest version that it speaks."""
        for version in VERSIONS:
            try:
                (welcome,) = self._call("Open", [field(1, version)])
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.FAILED_PRECONDITION:
                    raise
            else:
                return read(welcome)
        raise ValueError("the worker speaks another version of the protocol")

    def _call(self, method: str, requests: list[bytes]) -> list[bytes]:
        call = self._channel.stream_stream(f"/private_lora.v1.Worker/{method}")  # bytes as they are, up and down
        return list(call(iter(requests), timeout=60))

    def multiply(self, product: str, question: bytes, rows: int) -> bytes:
        """The answer's bytes."""
        header = field(1, len(question)) + field(2, self._session) + field(3, system.token_bytes(16))
        header += field(4, product.encode()) + field(6, rows)
        parts = [field(2, question[i : i + 2**20]) for i in range(0, len(question), 2**20)]
        first, *rest = (read(part) for part in self._call("Multiply", [field(1, header), *parts]))
        answer = b"".join(part[2][0] for part in rest)
        assert len(answer) == read(first[1][0])[1][0]
        return answer

    def close(self) -> None:
        """Say goodbye."""
        self._call("Close", [field(1, self._session)])
        self._channel.close()


def weight_of(path: str, layer: str) -> tuple[np.ndarray, bytes]:
    """The 8-bit integers (K x D) of a layer's weight, one scale for each output, and the digest that a worker must name."""
    with open(path, "rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        entry = json.loads(file.read(size))[f"{layer}.weight"]
        start, stop = entry["data_offsets"]
        file.seek(8 + size + start)
        kind = {"F16": np.float16, "F32": np.float32}[entry["dtype"]]
        weight = np.frombuffer(file.read(stop - start), kind).reshape(entry["shape"]).T.astype(np.float32)
    low, high = weight.min(axis=0), weight.max(axis=0)
    scale = (high - low) / np.float32(255)
    zero = np.rint(-low / scale)
    values = np.clip(np.rint(weight / scale) + zero - np.float32(128), -128, 127).astype(np.int8)
    digest = hashlib.sha256()
    for array in (values, scale[None], zero[None].astype(np.int64) - 128):
        digest.update(f"{array.dtype.str} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes())
    return values, digest.digest()


def draw_secrets(rows: int, p: scheme.Parameters) -> np.ndarray:
    """A ternary secret of N coefficients for each `slots` rows."""
    count = -(-rows // p.slots)
    return np.array([[system.randbelow(3) - 1 for _ in range(p.ring_size)] for _ in range(count)], object)


def draw_errors(shape: tuple[int, int]) -> np.ndarray:
    """Discrete Gaussian errors of standard deviation 3.2."""
    values = range(-TAIL, TAIL + 1)
    weights = [math.exp(-(v**2) / (2 * ERROR_STD**2)) for v in values]
    return np.array(system.SystemRandom().choices(values, weights, k=math.prod(shape)), object).reshape(shape)


def check_plan(plan: dict, weight: np.ndarray) -> scheme.Parameters:
    """The parameters; raises ValueError where they would show too much, or answers would be wrong."""
    p = scheme.Parameters.of_plan(plan["parameters"])
    bound = int(np.abs(weight.astype(np.int64)).sum(axis=0).max()) * 2 ** (plan["activation_bits"] - 1)
    if p.log2_q > MOST_LOG2_Q.get(p.ring_size, 0):
        raise ValueError(f"a modulus of {p.log2_q} bits is too large for a ring of {p.ring_size}")
    if p.delta * (2 * bound + 1) > 2**p.log2_q or (plan["inputs"], plan["outputs"]) != weight.shape:
        raise ValueError("the plan is not one of this weight")
    return p


def product(worker: Worker, name: str, weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    """x W through a worker: fresh mask, secrets and errors; A W by ourselves where the mask does not travel."""
    plan = worker.products[name][1]
    p, rows, question_id = check_plan(plan, weight), len(x), system.token_bytes(16)
    key, secrets = system.token_bytes(32), draw_secrets(len(x), p)
    a = scheme.mask(key, len(weight), p)
    residues = scheme.encrypt(p.delta * x, scheme.times_secrets(a, secrets, rows, p), draw_errors(x.shape), p)
    if plan["parameters"]["mask"] == "session":
        question, hint = scheme.session_question(question_id, residues, p), scheme.hint(a, weight, p)
    else:
        question, hint = scheme.fresh_question(question_id, key, residues, len(weight), p), None
    answer = worker.multiply(name, question, rows)
    return scheme.open_answer(answer, question_id, secrets, [p.delta] * rows, weight.shape[1], p, hint)


def main(address: str, path: str, layer: str, rows: int = 3) -> None:
    """One product, compared."""
    worker, (weight, digest) = Worker(address), weight_of(path, layer)
    name = f"{layer} forward"
    assert worker.products[name][0] == digest, "the worker holds another weight"
    x = np.array([[system.randbelow(256) - 128 for _ in range(len(weight))] for _ in range(rows)])
    y = product(worker, name, weight, x)
    worker.close()
    assert np.array_equal(y, x @ weight.astype(np.int64)), "the answer is wrong"
    print(f"{name}: {y.size} values of an encrypted product are right")


if __name__ == "__main__":
    main(*sys.argv[1:4])
