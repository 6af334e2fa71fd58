"""Everything that the known answers take from `private_lora`.

When a module moves, this file changes and no other of this directory; what has another name in records, too, is in `renamed`.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import renamed

from private_lora import backends
from private_lora.backends.contract import Plan
from private_lora.crypto import sampling
from private_lora.network.client.freivalds import AnswerCheck
from private_lora.network.wire import protocol_pb2 as messages
from private_lora.network.wire.settings import PROTOCOL_VERSION, Expected, Settings, model_identity, plan_json
from private_lora.specs.quantization import Quantization
from private_lora.specs.quantizers import ACTIVATION_QUANTIZERS, WEIGHT_QUANTIZERS
from private_lora.specs.run import RunSpec
from private_lora.split.place import InProcess
from private_lora.split.quantizers import dequantize_product, quantize_activations, quantize_weight
from private_lora.split.weights import ProductWeight, backward_weight, forward_weight
from private_lora.study.config import DEFAULTS, load_study, merge, read_yaml, study_of
from private_lora.training.checkpoints import Checkpoint
from private_lora.training.loop import save, train, train_step
from private_lora.training.preparation import load_split, prepare

__all__ = [
    "ACTIVATION_QUANTIZERS",
    "DEFAULTS",
    "PROTOCOL_VERSION",
    "STUDIES",
    "WEIGHT_QUANTIZERS",
    "AnswerCheck",
    "Checkpoint",
    "Expected",
    "InProcess",
    "Plan",
    "ProductWeight",
    "Quantization",
    "RunSpec",
    "Settings",
    "backward_weight",
    "check_secret",
    "counted",
    "dequantize_product",
    "forward_weight",
    "known_fields",
    "load",
    "load_split",
    "load_study",
    "merge",
    "messages",
    "model_identity",
    "prepare",
    "present_config",
    "present_options",
    "present_plan",
    "present_specs",
    "present_values",
    "quantize_activations",
    "quantize_weight",
    "read_yaml",
    "sampling",
    "save",
    "spec_fields",
    "study_of",
    "train",
    "train_step",
]  # fmt: skip

ROOT = Path(__file__).resolve().parents[2]

# Present files, on top of the default configuration, of the studies of b24a8b2.
STUDIES = {
    "default": None,
    "smoke": "config/smoke.yaml",
    "encrypted": "config/studies/encrypted.yaml",
    "full_size": "config/studies/full_size.yaml",
    "network": "config/studies/network.yaml",
    "gpu": "config/studies/gpu.yaml",
    "paper": "config/studies/paper.yaml",
}


# Quantizers that b24a8b2 had.
WEIGHT_QUANTIZERS = [name for name in WEIGHT_QUANTIZERS if name != "symmetric_per_tensor"]
# Settings of fine-tuning that b24a8b2 had not, and what they are in its runs.
NEW_TRAINING = {
    "rehearsed_rows": 0,
    "general_examples": 0,
    "pad": "configured",
    "lora_targets": None,
    "longer": "cut",
    "held_out": "by_prompt",
    "count_newline": False,
    "calibration": "begin_token",
}

TIMED = ("layer", "block", "loopback", "full_size")
MORE_OFTEN = ("repeats", "steps", "train_examples")

TIMED = ("layer", "block", "loopback", "full_size")
MORE_OFTEN = ("repeats", "steps", "train_examples")


def present_config(old: dict) -> dict:
    """A merged configuration of b24a8b2 as the present tree reads it."""
    present = {renamed.SECTIONS.get(key, key): value for key, value in old.items()}
    present["memory_mb"] = {renamed.SECTIONS.get(key, key): value for key, value in old["memory_mb"].items()}
    names = {kind: [renamed.PUBLISHED.get(name, name) for name in listed] for kind, listed in old["publish"].items()}
    training = NEW_TRAINING | old["training"]
    costs = present_costs(old["costs"]) | {"arrangements": [{"name": "1 worker", "shards": 1, "replicas": 1}]}
    return present | {"publish": names, "training": training, "costs": costs}


def present_costs(old: dict) -> dict:
    """What is asked of the cost model without its workers, which split the outputs of products as none does."""
    return {key: value for key, value in old.items() if key != "workers"}


def present_specs(study) -> dict[str, dict]:
    """All specs of a study by kind (the old tree's names) and run_id; `costs` has one, under the name `costs`."""
    return {
        "runs": study.runs,
        "networks": study.loopbacks,
        "latencies": study.layers,
        "blocks": study.blocks,
        "costs": {"costs": study.costs},
    }


def spec_fields(spec) -> dict:
    """All fields of a spec, as its canonical JSON has them."""
    return spec.to_dict()


def present_values(fields: dict) -> dict:
    """The fields of an old spec with the stages and run_ids that were renamed."""
    values = present_costs(fields) if "prices" in fields else dict(fields)
    if values.get("stage") in renamed.STAGES:
        run_id = renamed.run_id(values["run_id"], values["stage"])
        values |= {"stage": renamed.STAGES[values["stage"]], "run_id": run_id}
    if isinstance(values.get("run"), dict):
        values["run"] = present_values(values["run"])
    return values


def present_options(backend: str, options: dict) -> dict:
    """Options of a backend of b24a8b2, which knew masks that are fresh for every question and no others."""
    return options | ({"mask": "fresh"} if backend.startswith("packed") else {})


def load(backend: str, **options):
    """A backend as it was."""
    return backends.load(backend, **present_options(backend, options))


def present_plan(plan: Plan) -> str:
    """Canonical JSON of a plan without what plans said nothing of."""
    parameters = {key: value for key, value in plan.parameters.items() if key not in ("mask", "common_bits")}
    if "weight" in parameters:
        parameters["weight"] = {key: value for key, value in parameters["weight"].items() if key != "common_bits"}
    return plan_json(replace(plan, parameters=parameters))


def known_fields(fields: dict, old: dict) -> dict:
    """Fields of a present spec without those that are new, and the backends that a block measures beside the old ones.

    A time may be measured more often than it was.
    """
    fields = {name: value for name, value in fields.items() if NEW_TRAINING.get(name) != value or name in old}
    if fields.get("stage") in TIMED:
        fields |= {name: old[name] for name in MORE_OFTEN if name in fields and fields[name] > old[name]}
    fields.pop("arrangements", None)  # of workers that the cost model had not
    if "run" in fields:  # of a measurement through workers
        fields["run"] = known_fields(fields["run"], old["run"])
    if "backends" not in fields:
        return fields
    return fields | {"backends": [entry for entry in fields["backends"] if entry in old["backends"]]}


def check_secret(check: AnswerCheck) -> tuple:
    """What a check of answers drew, and its product with the weight: its only state beside sizes."""
    return check._secret, check._image


def counted(session) -> dict:
    """The counters of a session."""
    return asdict(session.counters)
