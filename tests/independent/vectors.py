"""Writes the vectors of docs/wire.md, tests/known_answers/vectors, from the scheme in large integers:

    PYTHONPATH=tests/independent python tests/independent/vectors.py

The package takes no part in it, so agreement is agreement with the page. Secrets and errors are written out: a vector does not
depend on how they are sampled. How the package
samples them is not on the wire; sampler.json keeps it, see test_vectors.py.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

import numpy as np
import scheme
from scheme import LANES, SLOTS, Parameters

HERE = Path(__file__).resolve().parents[1] / "known_answers" / "vectors"
ROWS, INPUTS, OUTPUTS = 3, 33, 2
BITS, WEIGHT_BITS = 4, 3
ID, KEY, SEED = (hashlib.sha256(name).digest() for name in (b"question", b"mask", b"session"))
EXACT = Parameters(1024, 20, 496, 2, 18, 16, 1024)
APPROXIMATE = Parameters(1024, 20, 0, 2, 14, 12, 1024)
SCALES = [500.0, 612.25, 433.875]
KINDS = {
    f"{mask}_{name}": Parameters(**vars(p) | {"slots": SLOTS if mask == "session" else p.ring_size})
    for mask in ("fresh", "session")
    for name, p in (("exact", EXACT), ("approximate", APPROXIMATE))
}


def uniform(name: str, low: int, high: int, shape) -> np.ndarray:
    """Integers in [low, high), from SHAKE-256 of a name: words of 32 bits modulo the width."""
    count = int(np.prod(shape))
    words = np.frombuffer(hashlib.shake_256(name.encode()).digest(4 * count), "<u4")
    return (words % (high - low)).astype(np.int64).reshape(shape) + low


def inputs_of(kind: str) -> dict:
    """What a vector starts from. Errors: small ones, for all columns of the question's tiles."""
    p, padded = KINDS[kind], -(-INPUTS // LANES) * LANES
    return {
        "parameters": vars(p),
        "question_id": ID[:16].hex(),
        "mask_key": KEY.hex(),
        "x": uniform("x", -(2 ** (BITS - 1)), 2 ** (BITS - 1), (ROWS, INPUTS)).tolist(),
        "weight": uniform("weight", -(2 ** (WEIGHT_BITS - 1)), 2 ** (WEIGHT_BITS - 1), (INPUTS, OUTPUTS)).tolist(),
        "scales": SCALES if not p.delta else [float(p.delta)] * ROWS,
        "secrets": uniform("secrets", -1, 2, (1, p.ring_size)).tolist(),
        "errors": uniform("errors", -9, 10, (ROWS, padded)).tolist(),
        "coins": uniform("coins", 0, 2, (ROWS, padded)).tolist(),
    }


def computed(kind: str) -> tuple[dict, dict[str, bytes]]:
    """A vector: what it starts from with the plaintext that comes out, and its files by name."""
    given, p = inputs_of(kind), KINDS[kind]
    names = "x", "weight", "errors", "coins", "secrets"
    x, weight, errors, coins, secrets = (np.array(given[name], object) for name in names)
    session, padded = p.slots < p.ring_size, errors.shape[1]
    a = scheme.mask(KEY, padded, p)
    message = np.zeros(errors.shape, object)
    message[:, :INPUTS] = np.rint(np.array(given["scales"])[:, None] * x.astype(float)).astype(np.int64)
    residues = scheme.encrypt(message, scheme.times_secrets(a, secrets, ROWS, p), errors, p, coins)
    whole_hint, short = scheme.hint(a[:, :INPUTS], weight, p), p.log2_q - p.mask_bits
    mask_part = scheme.rounded(whole_hint, short) % 2**p.mask_bits
    body = residues[:, :INPUTS].dot(weight) % 2**p.upload_bits
    body = scheme.rounded(body, p.upload_bits - p.body_bits) % 2**p.body_bits
    written, sent = scheme.write_matrix, (p.ring_size, p.log2_q, p.dropped_bits, p.mask_bits, p.body_bits)
    if session:
        sent = p.upload_bits, p.body_bits
        question = scheme.session_question(ID[:16], residues[:, :INPUTS], p)
        answer, files = written(body, p.body_bits), {"hint": written(mask_part, p.mask_bits)}
    else:
        question = scheme.fresh_question(ID[:16], KEY, residues, INPUTS, p)
        answer, files = written(mask_part, p.mask_bits) + written(body, p.body_bits), {}
    numbers = scheme.SESSION_ANSWER if session else scheme.ANSWER, ROWS, OUTPUTS, *sent
    files |= {"question": question, "answer": scheme.pack(numbers, ID[:16], answer)}
    of_mask = scheme.times_secrets(mask_part, secrets, ROWS, p) % 2**p.mask_bits
    y = scheme.decrypt(body, of_mask, p.mask_bits, given["scales"], p)
    assert not p.delta or np.array_equal(y, x.dot(weight))
    return given | {"plaintext": y.tolist()}, {f"{kind}_{name}": data for name, data in files.items()}


def masks() -> dict:
    """A session's seed, what its masks belong to, and the masks of keys at several moduli: first residues and digests."""
    weight = np.array(inputs_of("session_exact")["weight"], np.int8)
    inner = hashlib.sha256(weight.tobytes()).digest()
    identity = hashlib.sha256(json.dumps([list(weight.shape), 1024, 20]).encode() + inner).digest()
    derived = {
        "seed": SEED.hex(),
        "weight": "of session_exact, int8",
        "identity": identity.hex(),
        "mask_key": hmac.new(SEED, b"mask " + identity, hashlib.sha256).hexdigest(),
    }
    expanded = []
    for ring_size, log2_q in ((1024, 20), (1024, 26), (2048, 45), (4096, 49)):
        a = scheme.mask(KEY, INPUTS, Parameters(ring_size, log2_q, 0, 0, 1, 1, ring_size))
        data = a.astype("<u8").tobytes()
        first = [int(v) for v in (a[0, 0], a[0, 1], a[1, 0], a[0, 32], a[-1, 32])]
        numbers = {"ring_size": ring_size, "log2_q": log2_q, "columns": INPUTS}
        expanded.append(numbers | {"residues": first, "sha256_of_uint64": hashlib.sha256(data).hexdigest()})
    return {"derived": derived, "mask_key": KEY.hex(), "expanded": expanded}


def main() -> None:
    """Write every file."""
    HERE.mkdir(exist_ok=True)
    for kind in KINDS:
        vector, files = computed(kind)
        for name, data in files.items():
            (HERE / f"{name}.bin").write_bytes(data)
        digests = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
        write(f"{kind}.json", vector | {"files": digests})
    write("masks.json", masks())


def write(name: str, content: dict) -> None:
    """One entry a line."""
    lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in content.items())
    (HERE / name).write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
