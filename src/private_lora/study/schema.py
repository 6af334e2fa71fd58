"""JSON Schema of a study's configuration and of every spec, for editors and for programs that write them."""

from __future__ import annotations

import json
from pathlib import Path

from private_lora.core.files import atomic_path
from private_lora.specs.block import BlockSpec
from private_lora.specs.costs import CostSpec
from private_lora.specs.estimate import EstimateSpec
from private_lora.specs.generate import GenerateSpec
from private_lora.specs.layer import LayerSpec
from private_lora.specs.loopback import GenerationSpec, LoopbackSpec
from private_lora.specs.run import RunSpec
from private_lora.specs.worker import WorkerSpec
from private_lora.specs.worker_view import WorkerViewSpec
from private_lora.study.sections import StudyConfig

MODELS = {
    "study": StudyConfig,
    "run": RunSpec,
    "layer": LayerSpec,
    "block": BlockSpec,
    "costs": CostSpec,
    "loopback": LoopbackSpec,
    "generate": GenerateSpec,
    "generation": GenerationSpec,
    "estimate": EstimateSpec,
    "worker": WorkerSpec,
    "worker_view": WorkerViewSpec,
}


def schemas() -> dict[str, str]:
    """Text of each schema by the name of its file."""
    return {
        f"{name}.json": json.dumps(model.model_json_schema(), indent=2, sort_keys=True) + "\n" for name, model in MODELS.items()
    }


def write_schemas(directory: Path) -> None:
    """Write every schema into the directory; each file all or nothing."""
    for name, text in schemas().items():
        with atomic_path(directory / name, shared=True) as temporary:
            temporary.write_text(text)
