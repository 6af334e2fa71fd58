"""The layout of concrete-ml-extensions' serialized objects, checked before its own code sees bytes from outside.

That code trusts the lengths and sizes that stand between the ciphertexts: altered ones make it allocate without bound, which
ends the process, or compute for hours. All of them follow from the matrix and the parameters; what is left is ciphertext, of
which every bit pattern is as good as any other.
"""

from __future__ import annotations

import numpy as np

_WORD_BITS = 64
# The modulus of the torus, 2^64: a 128-bit zero and the bits of a scalar.
_NATIVE_MODULUS = (0, 0, _WORD_BITS)
_SEED_WORDS = 2
QUESTION, ANSWER, KEY = "EncryptedMatrix", "CompressedResultEncryptedMatrix", "CpuCompressionKey"


def check_question(payload: memoryview, rows: int, columns: int, parameters: dict) -> None:
    """Nothing; raises ValueError unless this is an `EncryptedMatrix` of rows x columns values under the plan's parameters."""
    numbers = _question_numbers(parameters)
    vectors, length = -(-columns // parameters["polynomial_size"]), max(numbers) + 1
    words = _words(payload, question_bytes(rows, columns, parameters) * 8 // _WORD_BITS, QUESTION)
    body = words[1:-2].reshape(rows, -1)
    sizes = words[0] == rows and (words[-2:] == (rows, columns)).all() and (body[:, 0] == vectors).all()
    _check(sizes and (body[:, -1] == columns).all(), QUESTION)
    _check_numbers(body[:, 1:-1].reshape(rows * vectors, length), numbers, QUESTION)


def question_bytes(rows: int, columns: int, parameters: dict) -> int:
    """Length of a serialized `EncryptedMatrix`."""
    vectors, length = -(-columns // parameters["polynomial_size"]), max(_question_numbers(parameters)) + 1
    return _WORD_BITS // 8 * (1 + rows * (1 + vectors * length + 1) + 2)


def check_answer(payload: memoryview, rows: int, columns: int, parameters: dict) -> None:
    """Nothing; raises ValueError unless this is a `CompressedResultEncryptedMatrix` of rows x columns values."""
    size = parameters["packing_ks_polynomial_size"]
    full, last = (_answer_numbers(width, parameters) for width in (size, (columns - 1) % size + 1))
    vectors, length = -(-columns // size), max(full) + 1
    words = _words(payload, answer_bytes(rows, columns, parameters) * 8 // _WORD_BITS, ANSWER)
    body = words[1:].reshape(rows, -1)
    _check(words[0] == rows and (body[:, 0] == vectors).all(), ANSWER)
    end = 1 + (vectors - 1) * length
    _check_numbers(body[:, 1:end].reshape(rows * (vectors - 1), length), full, ANSWER)
    _check_numbers(body[:, end:], last, ANSWER)


def answer_bytes(rows: int, columns: int, parameters: dict) -> int:
    """Length of a serialized `CompressedResultEncryptedMatrix`."""
    size = parameters["packing_ks_polynomial_size"]
    full, last = (max(_answer_numbers(width, parameters)) + 1 for width in (size, (columns - 1) % size + 1))
    return _WORD_BITS // 8 * (1 + rows * (1 + (-(-columns // size) - 1) * full + last))


def check_key(payload: memoryview, parameters: dict) -> None:
    """Nothing; raises ValueError unless this is a `CpuCompressionKey` for the parameters."""
    dimension, size = parameters["packing_ks_glwe_dimension"], parameters["packing_ks_polynomial_size"]
    inputs = parameters["encryption_glwe_dimension"] * parameters["polynomial_size"]
    level, base = parameters["packing_ks_level"], parameters["packing_ks_base_log"]
    stored = inputs * level * (dimension + 1) * size
    tail = base, level, dimension + 1, size, *_NATIVE_MODULUS, size, parameters["output_storage_ciphertext_modulus"]
    numbers = {0: stored} | _from(1 + stored, tail)
    _check_numbers(_words(payload, max(numbers) + 1, KEY)[None], numbers, KEY)


def _question_numbers(parameters: dict) -> dict[int, int]:
    """Numbers around one ciphertext of a question, by place."""
    size, bits = parameters["polynomial_size"], parameters["input_storage_ciphertext_modulus"]
    stored = _words_of(size * bits)
    head = bits, size, bits, parameters["encryption_glwe_dimension"], size
    return {0: stored} | _from(1 + stored, head) | _from(1 + stored + len(head) + _SEED_WORDS, _NATIVE_MODULUS)


def _answer_numbers(width: int, parameters: dict) -> dict[int, int]:
    """Numbers around one ciphertext of `width` values, by place."""
    dimension, size = parameters["packing_ks_glwe_dimension"], parameters["packing_ks_polynomial_size"]
    bits, values = parameters["output_storage_ciphertext_modulus"], dimension * size + width
    stored = _words_of(bits * values)
    return {0: stored} | _from(1 + stored, (bits, values, dimension, size, width, *_NATIVE_MODULUS))


def _words_of(bits: int) -> int:
    return -(-bits // _WORD_BITS)


def _from(start: int, numbers: tuple[int, ...]) -> dict[int, int]:
    return dict(enumerate(numbers, start))


def _words(payload: memoryview, count: int, name: str) -> np.ndarray:
    """The payload as little-endian 64-bit words; raises ValueError when there are not so many."""
    needed = count * _WORD_BITS // 8
    if len(payload) != needed:
        raise ValueError(f"these {len(payload)} bytes are no {name} of concrete-ml-extensions: its sizes ask for {needed}")
    return np.frombuffer(payload, "<u8")


def _check_numbers(blocks: np.ndarray, numbers: dict[int, int], name: str) -> None:
    """blocks: one in each row, whose words at these places must be these numbers."""
    _check(all((blocks[:, place] == number).all() for place, number in numbers.items()), name)


def _check(right: bool, name: str) -> None:
    if not right:
        raise ValueError(f"these bytes are no {name} of concrete-ml-extensions for the sizes and parameters agreed on")
