"""The contract of a backend: client.encrypt -> server.matmul -> client.decrypt, on signed integers.

    plan = backend.plan(weight_int, activation_bits=8)
    client, server = backend.client(plan).prepare(weight_int), backend.server(plan, weight_int)
    y = client.decrypt(server.matmul(client.encrypt(x_int)))      # T x K integers -> T x D, int64

Only the client object has keys. The server object is made from the plan and the public weight alone; what it needs from
the client's key generation (an evaluation key) travels as public material.
"""

from __future__ import annotations

import io
import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields
from typing import Protocol

import numpy as np

MAGIC = b"PLR1"
DIGEST_BYTES = 16
PACK_HEADER_BYTES = 4 + 16 + DIGEST_BYTES  # magic, key id, digest; the numbers of a message come on top
CLEAR_HEADER_BYTES = 256  # magic and NumPy's header of a matrix, with room to spare


@dataclass(frozen=True)
class Plan:
    """What both sides agree on before the first ciphertext.

    backend: its name. inputs, outputs: K and D. activation_bits, weight_bits: signed integers of these widths.
    bound: largest absolute value an exact output can take, from the real weight columns.
    exact: whether decrypted outputs equal the integer product. noise_std: of the error otherwise, in integer units.
    security_bits: 0 for a backend that does not encrypt. parameters: the scheme's own, for the sidecar.
    """

    backend: str
    inputs: int
    outputs: int
    activation_bits: int | None
    weight_bits: int | None
    bound: int
    exact: bool = True
    noise_std: float = 0.0
    security_bits: int = 0
    parameters: dict = field(default_factory=dict)

    def report(self) -> dict:
        """What a sidecar says of a product."""
        return {
            "inputs": self.inputs,
            "outputs": self.outputs,
            "bound_bits": self.bound.bit_length(),
            "security_bits": self.security_bits,
            "parameters": self.parameters,
        }


@dataclass
class Counters:
    """What one side of a run did; sums over layers by `+`.

    int8_operations: multiplications and additions of int8 matrix products, by the servers that count them. Over a network,
    all by the client: products (answers that were decrypted and not rejected), encrypted_questions (sent as ciphertexts),
    verified_rows and unverified_rows (of those answers, with and without a check), round_trips (questions that were answered),
    retries (asked again, for whatever reason), rejected_answers (found wrong), and sent_bytes and received_bytes of all
    messages, handshakes included, as the client serialized them.

    decrypted_values: by clients whose answers are exact, one for each digit of the weight, rejected answers included.
    failure_probability: union bound on that of any of them being wrong.
    """

    products: int = 0
    encrypted_products: int = 0
    upload_ciphertext_bytes: int = 0
    download_ciphertext_bytes: int = 0
    int8_operations: int = 0
    round_trips: int = 0
    retries: int = 0
    rejected_answers: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    encrypted_questions: int = 0
    verified_rows: int = 0
    unverified_rows: int = 0
    decrypted_values: int = 0
    failure_probability: float = 0.0

    def __add__(self, other: Counters) -> Counters:
        return Counters(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def add_decrypted(self, values: int, failure_log2: float) -> None:
        """Count values each of which is wrong with a probability of 2^failure_log2 at most."""
        self.decrypted_values += values
        self.failure_probability += values * 2.0**failure_log2


@dataclass
class Offline:
    """What a client computed that no data goes into: seconds for encrypting and for decrypting `rows` rows, used or not."""

    encrypt_s: float = 0.0
    decrypt_s: float = 0.0
    rows: int = 0

    def since(self, before: Offline) -> Offline:
        """What came on top."""
        return Offline(*(getattr(self, f.name) - getattr(before, f.name) for f in fields(self)))


@dataclass(frozen=True)
class Cost:
    """What a question of some rows takes of a server, at most; none of it depends on what is in the question.

    question, answer: bytes of the messages. work: bytes of all else that is in memory until the answer is a message.
    operations: multiplications and additions, in int8's.
    """

    question: int
    answer: int
    work: int
    operations: int

    @property
    def bytes(self) -> int:
        """Of memory, altogether."""
        return self.question + self.answer + self.work


def integer_bits(values: np.ndarray) -> int:
    """Smallest signed bit-width that holds every value (at least 2)."""
    low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
    # -2^(n-1) fits n bits, 2^(n-1) does not.
    return max(2, 1 + max((high if high >= 0 else -high - 1).bit_length(), (low if low >= 0 else -low - 1).bit_length()))


def accumulator_bound(weight: np.ndarray, activation_bits: int) -> int:
    """Largest |x W| over all signed `activation_bits`-bit x: 2^(bits-1) times the largest column L1 norm of W (K x D)."""
    if weight.size == 0:
        return 0
    column_norms = np.abs(weight.astype(np.int64)).sum(axis=0)
    return int(column_norms.max()) * 2 ** (activation_bits - 1)


def unsigned_accumulator_bound(weight: np.ndarray, activation_bits: int) -> int:
    """Largest |x W| over all unsigned `activation_bits`-bit x: their largest value times a column's larger sum of one sign."""
    columns = weight.astype(np.int64)
    positive, negative = (np.maximum(part, 0).sum(axis=0) for part in (columns, -columns))
    return int(np.maximum(positive, negative).max(initial=0)) * (2**activation_bits - 1)


def lowest_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """Integers reduced to so many signed bits: what is left of a sum that wrapped around."""
    half = 2 ** (bits - 1)
    return ((values + half) & (2 * half - 1)) - half


def check_integer_weight(weight: np.ndarray) -> None:
    """Nothing if `weight` is a K x D integer matrix; raises ValueError otherwise."""
    if weight.ndim != 2 or 0 in weight.shape:
        raise ValueError(f"the weight must be a non-empty inputs x outputs matrix, its shape is {weight.shape}")
    if not np.issubdtype(weight.dtype, np.integer):
        raise ValueError(f"the weight must hold signed integers, its type is {weight.dtype}: quantize it first")


def check_activations(plan: Plan, x: np.ndarray) -> None:
    """Nothing if `x` is T x K and its integers fit the plan's bits; raises ValueError otherwise."""
    if x.ndim != 2 or x.shape[1] != plan.inputs:
        raise ValueError(f"activations must be rows of {plan.inputs} values, their shape is {x.shape}")
    if np.issubdtype(x.dtype, np.floating):
        raise ValueError(f"activations must be signed integers, their type is {x.dtype}: quantize them first")
    half = 2 ** (plan.activation_bits - 1)
    if x.size and (int(x.min()) < -half or int(x.max()) >= half):
        raise ValueError(f"activations do not fit {plan.activation_bits} signed bits: values must be in [{-half}, {half - 1}]")


class AnswerError(Protocol):
    """The error y - x W of an approximate answer y (T x D): sub-Gaussian, and independent from row to row."""

    def variances(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Variance proxies (S each) of the error of a row times each of S integer vectors (S x D).

        The first is divided by the square of the row's scale, the second comes on top as it is.
        """

    def scales(self, x: np.ndarray) -> np.ndarray:
        """Scale of each row (T)."""


class Backend(ABC):
    """Makes plans, clients and servers. `name` is its descriptor's."""

    name: str

    def __init__(self, device: str = "cpu"):
        self.device = device

    @abstractmethod
    def plan(self, weight: np.ndarray, activation_bits: int) -> Plan:
        """Parameters for x W; raises ValueError, in one sentence, if an output could overflow."""

    @abstractmethod
    def client(self, plan: Plan, keys=None) -> Client:
        """The data owner's side; makes fresh keys, or works with `keys`, another client's."""

    @abstractmethod
    def server(self, plan: Plan, weight: np.ndarray) -> Server:
        """The worker's side, which holds the weight and no secret."""

    def error_of_answers(self, plan: Plan, weight: np.ndarray) -> AnswerError | None:
        """How far the answers of a plan that is not exact are from x W; None where nothing bounds sums of their errors."""
        return None

    def metrics(self, keys) -> dict[str, tuple[float, str]]:
        """Value and unit, by the result schema's names, of what the clients with these keys keep; most keep nothing."""
        return {}

    def report(self) -> dict:
        """What a sidecar should say of how this backend computes here; most have nothing to say."""
        return {}

    def close(self, keys) -> None:  # noqa: B027 - most backends have no keys
        """Wipe what the clients with these keys keep of secrets; they cannot be used any more."""

    def start_step(self, step: int) -> None:  # noqa: B027 - most backends have nothing to do
        """Told at the start of each training step, so that simulated randomness is a function of the step."""

    @abstractmethod
    def ciphertext_from_bytes(self, data: bytes):
        """What `to_bytes` of this backend's messages wrote; raises ValueError when it is not that."""

    def public_material_from_bytes(self, data: bytes):
        """What `to_bytes` of a client's public material wrote; raises ValueError when it is not that, or none is needed."""
        raise ValueError(f"backend {self.name!r} needs no public material")


class Client(ABC):
    """Holds the secret keys (None for a backend without), encrypts rows, decrypts answers, counts both."""

    def __init__(self, plan: Plan, keys=None):
        self.plan = plan
        self.keys = keys
        self.counters = Counters()
        self.offline = Offline()

    def prepare(self, weight: np.ndarray) -> Client:
        """This client, once it has looked at the public weight that answers will be products with; the weight is not kept.

        To be called before the first question. Most clients need nothing of the weight.
        """
        return self

    def get_ready(self, question) -> None:  # noqa: B027 - most clients have nothing to do before an answer is there
        """Do what decrypting the answer will need and does not depend on it: while waiting for it, this costs no time."""

    @abstractmethod
    def encrypt(self, x: np.ndarray):
        """Message for the server from T x K integers; raises ValueError if they do not fit the plan."""

    @abstractmethod
    def decrypt(self, message) -> np.ndarray:
        """T x D integers (int64) from the server's answer."""

    def largest_answer(self, rows: int) -> int:
        """Most bytes of an answer to so many rows; by default, of values in the clear. Whoever sends more does not answer."""
        return CLEAR_HEADER_BYTES + 8 * rows * self.plan.outputs

    def forget(self, question) -> None:  # noqa: B027 - most clients keep nothing of a question
        """Drop what was kept for a question's answer, which will not be decrypted."""

    def public_material(self):
        """What the server needs besides ciphertexts (an evaluation key), or None."""
        return None


class Server(ABC):
    """Holds the plan and the weight; multiplies messages."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.counters = Counters()

    @abstractmethod
    def matmul(self, message):
        """Message with the product of the rows inside; raises ValueError when it is not for this weight."""

    def cost(self, rows: int) -> Cost:
        """What a question of so many rows takes; by default, of values in the clear."""
        inputs, outputs = self.plan.inputs, self.plan.outputs
        question, answer = CLEAR_HEADER_BYTES + 8 * rows * inputs, CLEAR_HEADER_BYTES + 8 * rows * outputs
        # Copies: read, sliced, buffered, as digits of wider integers; products of digits, joined, buffered, written.
        work = 8 * question + 6 * answer
        return Cost(question, answer, work, 8 * rows * inputs * outputs)  # two digits on either side

    def accept(self, public_material) -> None:  # noqa: B027 - most backends need none
        """Keep a client's public material, beside that of others; the default has no use for any."""

    def release(self, public_material) -> None:  # noqa: B027 - most backends need none
        """Drop what `accept` was given."""


def is_ciphertext(message) -> bool:
    """Whether a message is encrypted: its class says so, and one that says nothing is taken to be in the clear."""
    return getattr(type(message), "IS_CIPHERTEXT", False) is True


@dataclass(frozen=True)
class ClearMessage:
    """Rows in the clear, as the backends without encryption pass them; not a ciphertext and not counted as one."""

    values: np.ndarray

    @property
    def rows(self) -> int:
        """Of the matrix."""
        return len(self.values) if self.values.ndim else 0

    def to_bytes(self) -> bytes:
        """Magic, then the array in NumPy's own format (no pickle)."""
        buffer = io.BytesIO()
        np.save(buffer, self.values, allow_pickle=False)
        return MAGIC + buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> ClearMessage:
        """The message that `to_bytes` wrote; raises ValueError on anything else."""
        if data[:4] != MAGIC:
            raise ValueError("these bytes are not a message of this protocol version")
        buffer = io.BytesIO(data[4:])
        values = np.load(buffer, allow_pickle=False)
        if buffer.read(1):
            raise ValueError("these bytes go on after the end of the message")
        return cls(values)


class ClearBackend(Backend):
    """What the backends without encryption share: messages in the clear."""

    def ciphertext_from_bytes(self, data: bytes) -> ClearMessage:
        return ClearMessage.from_bytes(data)

    def client(self, plan: Plan, keys=None) -> Client:
        return ClearClient(plan)


class ClearClient(Client):
    """A client without keys: checks the rows and passes them on."""

    def encrypt(self, x: np.ndarray) -> ClearMessage:
        check_activations(self.plan, x)
        return ClearMessage(x)

    def decrypt(self, message: ClearMessage) -> np.ndarray:
        return message.values


def pack(*payload: bytes, numbers: tuple[int, ...], key_id: bytes) -> bytes:
    """Message bytes: magic, 16 bytes of key id, little-endian 64-bit numbers, digest of all that and the payload, payload."""
    header = MAGIC + key_id + struct.pack(f"<{len(numbers)}Q", *numbers)
    return b"".join([header, _digest(header, *payload), *payload])


def unpack(data: bytes, count: int) -> tuple[bytes, tuple[int, ...], memoryview]:
    """Key id, `count` numbers and payload; raises ValueError when the bytes are not ours, cut short or altered.

    The digest finds damage, not malice: it holds no key.
    """
    size = 4 + 16 + 8 * count
    view = memoryview(data)
    header, digest, payload = bytes(view[:size]), view[size : size + DIGEST_BYTES], view[size + DIGEST_BYTES :]
    if len(data) < size + DIGEST_BYTES or header[:4] != MAGIC:
        raise ValueError("these bytes are not a message of this protocol version, or end too early")
    if _digest(header, payload) != digest:
        raise ValueError("these bytes were cut short or altered on the way: their digest does not match")
    return header[4:20], struct.unpack(f"<{count}Q", header[20:]), payload


def _digest(*parts: bytes) -> bytes:
    """XXH3, because SHA-256 would take longer than all else that is done to a large message on its way."""
    import xxhash  # here, because a process that sends nothing does without

    digest = xxhash.xxh3_128()
    for part in parts:
        digest.update(part)
    return digest.digest()
