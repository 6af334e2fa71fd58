"""The recorded rows of this repository as a directory of collected data, as `config/recorded.yaml` has them."""

from __future__ import annotations

from pathlib import Path

from private_lora.core.paths import ROOT
from private_lora.costs import write_costs
from private_lora.results.prepare import collect_literature, collect_published
from private_lora.results.recorder import collect
from private_lora.specs.costs import CostSpec
from private_lora.study.config import DEFAULTS, RECORDED_FILES, read_yaml

RECORDED = ROOT / "results" / "recorded"


def collect_recorded(data: Path, own: str = "2-core-xeon", beside: tuple[str, ...] | None = None) -> Path:
    """The directory, with the records of one machine, those beside them (None: the default's), published values and costs."""
    config = read_yaml(DEFAULTS)
    others = [ROOT / directory for directory in config["beside"]] if beside is None else [RECORDED / name for name in beside]
    for directory, found in ((data, [RECORDED / own]), (data / "beside", others)):
        directory.mkdir(parents=True, exist_ok=True)
        for name in RECORDED_FILES:
            files = [records / name for records in found if (records / name).is_file()]
            if files:
                collect(files, directory / name)
    reference = ROOT / "resources" / "reference"
    collect_published(reference, data / "published_values.csv", data / "published_curves.csv")
    collect_literature(reference, data / "published_literature.csv")
    write_costs(CostSpec.from_dict(config["costs"]), data, data / "costs.csv")
    return data
