"""What client and worker must agree on before the first ciphertext, and sentences that name both sides' values."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

from private_lora.backends.contract import Plan
from private_lora.core.errors import UserError
from private_lora.network.wire import protocol_pb2 as messages
from private_lora.specs.worker import check_remote

PROTOCOL_VERSION = 2
# Characters of a value in a sentence.
LONGEST_SHOWN = 200
# The flag of `worker` that sets what the other side expects.
FLAGS = {"model": "--model", "share_inputs": "--share-inputs or --no-share-inputs"}


@dataclass(frozen=True)
class Settings:
    """How weights were, or must be, quantized. model: which weights, see `model_identity`; backend_options: canonical JSON."""

    model: str
    backend: str
    backend_options: str
    activation_bits: int
    weight_bits: int
    weight_quantizer: str
    constant_rows: str
    share_inputs: bool

    @classmethod
    def of(cls, spec, model: str) -> Settings:
        """Of a `RunSpec`, or of anything with the same fields; raises UserError on a backend that cannot be remote."""
        check_remote(spec.backend)
        options = json.dumps(spec.backend_options, sort_keys=True)
        quantization = spec.activation_bits or 0, spec.weight_bits or 0, spec.weight_quantizer, spec.constant_rows
        return cls(model, spec.backend, options, *quantization, spec.share_inputs)

    def message(self) -> messages.Settings:
        """For the handshake."""
        return messages.Settings(**asdict(self))

    @classmethod
    def from_message(cls, message: messages.Settings) -> Settings:
        """What `message` wrote."""
        return cls(**{f.name: getattr(message, f.name) for f in fields(cls)})


def model_identity(model: str, revision: str | None, weights: str, seed: int) -> str:
    """Which weights: the hash of the model's files, or the architecture's with the seed of its random weights."""
    from private_lora.models.load import model_hash

    files = model_hash(model, revision)
    return files if weights == "pretrained" else f"{files} random weights of seed {seed}"


def plan_json(plan: Plan) -> str:
    """A plan as canonical JSON; numbers with 12 digits, because the last ones may differ between processors."""
    text = json.dumps(asdict(plan), sort_keys=True)
    return json.dumps(json.loads(text, parse_float=lambda digits: float(f"{float(digits):.12g}")), sort_keys=True)


def compare_settings(address: str, theirs: Settings, ours: Settings) -> None:
    """Nothing if both sides agree; raises UserError that names the first difference."""
    for f in fields(Settings):
        there, here = getattr(theirs, f.name), getattr(ours, f.name)
        if there != here:
            flag = FLAGS.get(f.name, "--" + f.name.replace("_", "-"))
            raise UserError(
                f"worker {address} has {f.name.replace('_', ' ')} {_shown(there)} where this run has {here!r}: "
                f"start it with the run's {flag}, or change the run"
            )


@dataclass(frozen=True)
class Expected:
    """What the client computed of one product by itself: the digest of its weight and its plan."""

    name: str
    weight_sha256: bytes
    plan: str


def compare_products(address: str, theirs: Iterable[messages.Product], ours: dict[str, Expected]) -> set[str]:
    """Names of our products that a worker holds; raises UserError if one of them has another weight or other parameters."""
    held = set()
    for product in theirs:
        expected = ours.get(product.name)
        if expected is None:
            continue  # of a layer that this run does not have, or does not send
        if product.weight_sha256 != expected.weight_sha256:
            there, here = (digest.hex()[:16] for digest in (product.weight_sha256, expected.weight_sha256))
            raise UserError(
                f"worker {address}, layer {product.name}: its quantized weight has SHA-256 {there}... "
                f"where ours has {here}...: both sides need the same model files and quantizers"
            )
        if product.plan != expected.plan:
            there, here = _first_difference(_parsed(product.plan), json.loads(expected.plan))
            raise UserError(
                f"worker {address}, layer {product.name}: its parameters have {there} where ours have {here}: "
                "both sides need the same version of private_lora"
            )
        held.add(product.name)
    return held


def _parsed(plan: str) -> dict:
    """A plan that the other side sent; empty if it is none."""
    try:
        found = json.loads(plan)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _first_difference(theirs: dict, ours: dict) -> tuple[str, str]:
    """The first differing entry of two nested mappings, as text."""
    for key in sorted(theirs.keys() | ours.keys()):
        there, here = theirs.get(key), ours.get(key)
        if there != here:
            if isinstance(there, dict) and isinstance(here, dict):
                return _first_difference(there, here)
            return f"{_shown(key)[1:-1]} {_shown(there)}", f"{_shown(key)[1:-1]} {_shown(here)}"
    return "the same", "the same"


def _shown(value) -> str:
    """A value of the other side in one line of a sentence, however large or deep it is."""
    try:
        text = repr(value)
    except RecursionError:
        text = "something deeply nested"
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "..."
