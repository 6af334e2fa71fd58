"""`glwe`: the paper's scheme through concrete-ml-extensions: every row encrypted, multiplied and packed under GLWE.

Results carry an error of about 19 integer units and keep 27 bits; a larger result would wrap around silently in the
extension, so plans that could overflow are refused here. Security of the extension's parameters: 128 bits claimed by its
authors; this project states their claim and has not checked it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from private_lora.backends.contract import (
    PACK_HEADER_BYTES,
    Backend,
    Client,
    Cost,
    Plan,
    Server,
    accumulator_bound,
    check_activations,
    check_integer_weight,
    integer_bits,
    pack,
    unpack,
)
from private_lora.backends.glwe.layout import answer_bytes, check_answer, check_key, check_question, question_bytes
from private_lora.core.errors import UserError
from private_lora.core.secrets import OneProcess

RESULT_BITS = 27
NOISE_STD = 19.05  # model of the bundled noise profiles; our runs measure it and print both
SECURITY_BITS = 128
_NUMBERS = 3  # in front of a ciphertext: rows, columns, whether it is a result
_MESSAGE_BYTES = PACK_HEADER_BYTES + 8 * _NUMBERS
# Generous bounds: copies of a message at one time, and bytes of the row that a core works on.
COPIES, ROW_BYTES = 4, 2**27
# One value of an answer is taken for so many operations of int8, however many inputs it has: a core that needs 26 ms for it
# (one packing key switch) does 4.8e11 of them in a second for `packed`, with VNNI, which is 2^33.5 in that time. So by the
# default limit of a turn most layers take one row at a time. The extension cannot be stopped, and gains nothing from many rows.
VALUE_OPERATIONS = 2**34
NOISE_MARGIN = 10  # standard deviations kept free below the wrap-around


def checked_bound(weight: np.ndarray, activation_bits: int, noise_std: float) -> int:
    """Largest possible |output|; raises ValueError, in one sentence, if it could wrap around in 27 bits."""
    bound = accumulator_bound(weight, activation_bits)
    if bound + NOISE_MARGIN * noise_std >= 2 ** (RESULT_BITS - 1):
        raise ValueError(
            f"glwe keeps {RESULT_BITS} bits of a result and this layer ({weight.shape[0]} inputs, {activation_bits}-bit "
            f"activations, {integer_bits(weight)}-bit weights) could need {bound.bit_length() + 1}: use fewer bits"
        )
    return bound


def _extension():
    """The concrete-ml-extensions module, imported late because only this backend needs it."""
    try:
        import concrete_ml_extensions
    except ImportError as error:
        raise UserError(f"backend 'glwe' needs the package concrete-ml-extensions: {error}") from None
    return concrete_ml_extensions


def _parameters() -> dict:
    """The extension's default parameters."""
    return json.loads(_extension().default_params())


class GlweBackend(Backend):
    """CPU by default; `device="cuda"` uses the CUDA code inside the extension's wheel, or fails if there is no GPU."""

    name = "glwe"

    def __init__(self, device: str = "cpu"):
        super().__init__(device)
        # A build of the extension without CUDA code does not have the second function.
        if device == "cuda" and not (_extension().is_cuda_enabled() and _extension().is_cuda_available()):
            raise UserError("backend 'glwe' was asked for device 'cuda' and this machine has no usable CUDA GPU")

    def plan(self, weight: np.ndarray, activation_bits: int) -> Plan:
        check_integer_weight(weight)
        return Plan(
            self.name,
            *weight.shape,
            activation_bits,
            integer_bits(weight),
            checked_bound(weight, activation_bits, NOISE_STD),
            exact=False,
            noise_std=NOISE_STD,
            security_bits=SECURITY_BITS,
            parameters=_parameters(),
        )

    def client(self, plan: Plan, keys: GlweKeys | None = None) -> GlweClient:
        return GlweClient(plan, keys or GlweKeys.generate(self.device))

    def server(self, plan: Plan, weight: np.ndarray) -> GlweServer:
        return GlweServer(plan, weight, self.device)

    def ciphertext_from_bytes(self, data: bytes) -> GlweCiphertext:
        return GlweCiphertext.from_bytes(data)

    def public_material_from_bytes(self, data: bytes) -> GlwePublicMaterial:
        return GlwePublicMaterial.from_bytes(data, self.device)


@dataclass(frozen=True)
class GlweKeys:
    """A secret key and the packing key-switching key made with it. The randomness is the extension's own, OS-seeded."""

    secret: object = field(repr=False)
    public: GlwePublicMaterial = field(repr=False)
    process: OneProcess = field(default_factory=OneProcess, repr=False)

    @classmethod
    def generate(cls, device: str) -> GlweKeys:
        """Fresh keys (about 2 s); the packing key is 134 MB."""
        extension = _extension()
        parameters = extension.MatmulCryptoParameters.deserialize(extension.default_params())
        # By name: the extension's own create_private_key takes a GPU whenever it finds one.
        make = extension.cuda_create_private_key if device == "cuda" else extension.cpu_create_private_key
        secret, packing_key = make(parameters)
        return cls(secret, GlwePublicMaterial(packing_key, os.urandom(16), device))

    def __reduce__(self):
        raise TypeError("secret keys are not serialized: they stay in the client's process")


@dataclass(frozen=True)
class GlwePublicMaterial:
    """The packing key-switching key, safe to send; `key_id` is random and names the key it belongs to."""

    packing_key: object
    key_id: bytes
    device: str = "cpu"

    def to_bytes(self) -> bytes:
        """Header and the extension's own serialization."""
        return pack(bytes(self.packing_key.serialize()), numbers=(int(self.device == "cuda"),), key_id=self.key_id)

    @classmethod
    def from_bytes(cls, data: bytes, device: str) -> GlwePublicMaterial:
        """What `to_bytes` wrote; raises ValueError when it is not that, or the key is for another device."""
        key_id, (on_gpu,), payload = unpack(data, 1)
        if on_gpu != (device == "cuda"):
            raise ValueError(f"this packing key is not for {device}, where the server multiplies")
        extension = _extension()
        if not on_gpu:  # the layout of the other kind is not known
            check_key(payload, _parameters())
        kind = extension.CudaCompressionKey if on_gpu else extension.CpuCompressionKey
        return cls(_deserialized(kind, payload), key_id, device)


@dataclass(frozen=True)
class GlweCiphertext:
    """Encrypted rows, on the way up (`EncryptedMatrix`) or down (`CompressedResultEncryptedMatrix`).

    rows, columns: of the matrix inside. public: the public material, by reference and never part of the bytes, so that a
    server in the same process can find it; a remote one gets it once through `Server.accept`.
    """

    IS_CIPHERTEXT: ClassVar[bool] = True
    payload: object
    rows: int
    columns: int
    is_result: bool
    key_id: bytes
    public: GlwePublicMaterial | None = None

    @property
    def byte_count(self) -> int:
        """Length of `to_bytes`; only the extension's serialization knows it."""
        return len(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Header and the extension's own serialization."""
        numbers = self.rows, self.columns, int(self.is_result)
        return pack(bytes(self.payload.serialize()), numbers=numbers, key_id=self.key_id)

    @classmethod
    def from_bytes(cls, data: bytes) -> GlweCiphertext:
        """What `to_bytes` wrote; raises ValueError when it is not that."""
        key_id, (rows, columns, is_result), payload = unpack(data, _NUMBERS)
        if not rows or not columns:
            raise ValueError(f"these bytes are no ciphertext: {rows} rows, {columns} columns")
        (check_answer if is_result else check_question)(payload, rows, columns, _parameters())
        extension = _extension()
        kind = extension.CompressedResultEncryptedMatrix if is_result else extension.EncryptedMatrix
        return cls(_deserialized(kind, payload), rows, columns, bool(is_result), key_id)


def _deserialized(kind, payload: memoryview):
    try:
        return kind.deserialize(bytes(payload))
    except BaseException as error:  # a Rust panic is no Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise ValueError(f"these bytes are not a {kind.__name__} of concrete-ml-extensions: {error}") from None


class GlweClient(Client):
    """Encrypts rows of signed integers; negative ones as two's complement, which the torus wraps correctly."""

    def __init__(self, plan: Plan, keys: GlweKeys):
        super().__init__(plan, keys)
        self._extension = _extension()
        self._parameters = self._extension.MatmulCryptoParameters.deserialize(json.dumps(plan.parameters))
        self._chunk = plan.parameters["packing_ks_polynomial_size"]

    def public_material(self) -> GlwePublicMaterial:
        return self.keys.public

    def encrypt(self, x: np.ndarray) -> GlweCiphertext:
        self.keys.process.check()
        check_activations(self.plan, x)
        rows = np.ascontiguousarray(x, dtype=np.int64).view(np.uint64)
        payload = self._extension.encrypt_matrix(pkey=self.keys.secret, crypto_params=self._parameters, data=rows)
        public = self.keys.public
        return GlweCiphertext(payload, len(x), self.plan.inputs, False, public.key_id, public)

    def largest_answer(self, rows: int) -> int:
        return _MESSAGE_BYTES + answer_bytes(rows, self.plan.outputs, self.plan.parameters)

    def decrypt(self, message: GlweCiphertext) -> np.ndarray:
        self.keys.process.check()
        if not message.is_result or message.columns != self.plan.outputs:
            raise ValueError(f"this is no answer for a layer of {self.plan.outputs} outputs")
        if message.key_id != self.keys.public.key_id:
            raise ValueError("this answer belongs to another key: decrypt it with the client that encrypted the question")
        in_last = self.plan.outputs % self._chunk or self._chunk
        values = self._extension.decrypt_matrix(message.payload, self.keys.secret, self._parameters, in_last)
        return np.asarray(values).astype(np.int64)


class GlweServer(Server):
    """Multiplies encrypted rows with the clear weight; one result ciphertext per 2048 outputs and row."""

    def __init__(self, plan: Plan, weight: np.ndarray, device: str):
        super().__init__(plan)
        self._extension = _extension()
        self._device = device
        self._weight = np.ascontiguousarray(weight, dtype=np.int64).view(np.uint64)
        self._cached: tuple[bytes, object] | None = None
        self._public: dict[bytes, GlwePublicMaterial] = {}

    def accept(self, public_material: GlwePublicMaterial) -> None:
        self._public[public_material.key_id] = public_material

    def release(self, public_material: GlwePublicMaterial) -> None:
        self._public.pop(public_material.key_id, None)

    def matmul(self, message: GlweCiphertext) -> GlweCiphertext:
        public = message.public or self._public.get(message.key_id)
        if public is None or public.key_id != message.key_id:
            raise ValueError("the server has no packing key for this ciphertext: send the client's public material first")
        if message.is_result or message.columns != self.plan.inputs:
            raise ValueError(f"this ciphertext does not hold rows of {self.plan.inputs} values for this layer")
        payload = self._multiply(message.payload, public)
        self.counters.products += 1
        self.counters.encrypted_products += 1
        return GlweCiphertext(payload, message.rows, self.plan.outputs, True, message.key_id)

    def cost(self, rows: int) -> Cost:
        parameters, columns = self.plan.parameters, self.plan.outputs
        question = _MESSAGE_BYTES + question_bytes(rows, self.plan.inputs, parameters)
        answer = _MESSAGE_BYTES + answer_bytes(rows, columns, parameters)
        work = COPIES * (question + answer) + (os.cpu_count() or 1) * ROW_BYTES
        return Cost(question, answer, work, rows * columns * VALUE_OPERATIONS)

    def _multiply(self, payload, public: GlwePublicMaterial):
        if self._device != "cuda":
            return self._extension.cpu_matrix_multiplication(
                encrypted_matrix=payload, data=self._weight, compression_key=public.packing_key
            )
        if self._cached is None or self._cached[0] != public.key_id:
            # Without this cache the extension uploads the weight again at every call.
            on_gpu = self._extension.make_cuda_clear_matrix(self._weight, public.packing_key)
            self._cached = (public.key_id, on_gpu)
        return self._extension.cuda_matrix_multiplication(
            encrypted_matrix=payload, data=self._cached[1], compression_key=public.packing_key
        )
