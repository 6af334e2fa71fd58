"""The CSVs that tables and figures are made of: result rows and published values, loaded and checked."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from private_lora.core.errors import UserError
from private_lora.results.commits import Commit, read_commits
from private_lora.results.disturbance import disturbed_runs
from private_lora.results.labels import name_pairs
from private_lora.results.runs import summarise_runs
from private_lora.results.schema import COLUMNS as RESULT_COLUMNS
from private_lora.results.schema import COST_COLUMNS, COST_TEXTS, check_schema

PUBLISHED_COLUMNS = [
    "item",
    "configuration",
    "metric",
    "value",
    "unit",
    "step",
    "source",
    "certainty",
    "basis",
]
CURVE_COLUMNS = [
    "series",
    "bits",
    "activation_quantizer",
    "weight_quantizer",
    "step",
    "running_mean_train_loss",
]
# Other systems' figures, each in its unit, as `resources/reference/literature.csv` has them.
LITERATURE_COLUMNS = [
    "system",
    "what",
    "threat_model",
    "interaction",
    "hardware",
    "protects",
    "figure",
    "unit",
    "source",
    "certainty",
]
log = logging.getLogger(__name__)
NUMERIC = ("activation_bits", "weight_bits", "seed", "repeat", "sample", "step", "value", "running_mean_train_loss")
NUMERIC += ("tokens", "inputs", "outputs", "figure")
COST_NUMBERS = tuple(name for name in COST_COLUMNS if name not in COST_TEXTS)


class Data:
    """The CSVs of a results directory, read when first asked for; a missing file is an empty frame."""

    def __init__(self, root: str | Path):
        self.root = Path(root)
        if not self.root.is_dir():
            raise UserError(f"no result directory {self.root}: run the study first, or give --data another directory")

    @cached_property
    def convergence(self) -> pd.DataFrame:
        """Rows of every fine-tuning run, with `quantizer` (short pair name) added."""
        return name_pairs(self._rows("convergence.csv"))

    @cached_property
    def loopback(self) -> pd.DataFrame:
        """Rows of every fine-tuning run of the stage loopback, through workers and in process beside them; as `convergence`."""
        return name_pairs(self._rows("loopback.csv"))

    @cached_property
    def generation(self) -> pd.DataFrame:
        """Rows of every measurement of a text that is generated; as `convergence`, and steps are tokens."""
        return name_pairs(self._rows("generation.csv"))

    @cached_property
    def estimate(self) -> pd.DataFrame:
        """Rows of every run that was estimated before it, and of its estimate; as `convergence`."""
        return name_pairs(self._rows("estimate.csv"))

    @cached_property
    def layer(self) -> pd.DataFrame:
        """Rows of every measurement of one layer; `rows` is another name of `tokens`."""
        frame = name_pairs(self._rows("layer.csv"))
        return frame.assign(rows=frame["tokens"])

    @cached_property
    def block(self) -> pd.DataFrame:
        """Rows of every block measurement; `options` are the name that a backend's options have, its `variant`."""
        return _with_named_options(self._rows("block.csv"))

    @cached_property
    def block_of_all_machines(self) -> pd.DataFrame:
        """As `block`, with the runs beside this study's that are its own runs on another machine."""
        return _with_named_options(self._rows("block.csv", same=("run_id", "machine")))

    @cached_property
    def worker_view(self) -> pd.DataFrame:
        """Rows of every look at what a worker receives; as `convergence`, steps are tokens and samples columns."""
        return name_pairs(self._rows("worker_view.csv"))

    @cached_property
    def costs(self) -> pd.DataFrame:
        """What the cost model predicts, and its validation: see `cost.costs`."""
        return self._read("costs.csv", list(COST_COLUMNS), numeric=COST_NUMBERS)

    @cached_property
    def published_values(self) -> pd.DataFrame:
        """Published numbers, one per row, with source and certainty; `step` only for single steps."""
        return self._read("published_values.csv", PUBLISHED_COLUMNS, optional=("step", "basis"))

    @cached_property
    def published_curves(self) -> pd.DataFrame:
        """Published running-mean training losses by series and step, with `quantizer` added."""
        frame = self._read("published_curves.csv", CURVE_COLUMNS)
        frame["backend"] = np.where(frame["series"] == "FP32", "float", "")
        return name_pairs(frame)

    @cached_property
    def literature(self) -> pd.DataFrame:
        """Figures of other systems, one per row, with source and certainty."""
        return self._read("published_literature.csv", LITERATURE_COLUMNS)

    @cached_property
    def commits(self) -> list[Commit]:
        """The commit of each run behind these rows, where its sidecar was at hand."""
        return read_commits(self.root)

    @cached_property
    def disturbed(self) -> dict[str, str]:
        """run_id -> what disturbed it, for runs whose time is a result and was disturbed: see `disturbance.disturbed_runs`."""
        return disturbed_runs(self.convergence, self.loopback, self.generation, self.estimate, self.layer, self.block)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One line per fine-tuning run: see `summarise_runs`."""
        return summarise_runs(self.convergence)

    def _rows(self, name: str, same: tuple[str, ...] = ("run_id",)) -> pd.DataFrame:
        """Result rows of this study, then those beside it that are not its own, as these columns tell."""
        own, path = self._read(name, list(RESULT_COLUMNS)), self.root / "beside" / name
        if not path.is_file():
            return own
        others = self._read(f"beside/{name}", list(RESULT_COLUMNS))
        known = set(own[list(same)].itertuples(index=False, name=None))
        new = [row not in known for row in others[list(same)].itertuples(index=False, name=None)]
        return pd.concat([own, others[new]], ignore_index=True)

    def _read(
        self, name: str, columns: list[str], optional: Iterable[str] = (), numeric: Iterable[str] = NUMERIC
    ) -> pd.DataFrame:
        path = self.root / name
        if not path.is_file() or path.stat().st_size == 0:
            log.warning("no rows in %s: what needs them will say 'no data'", path)
            return pd.DataFrame({c: pd.Series(dtype=float if c in numeric else object) for c in columns})
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        if columns[0] == "schema_version":
            check_schema(path, tuple(frame), set(frame.get("schema_version", ())))
        missing = [c for c in columns if c not in frame and c not in optional]
        if missing:
            raise UserError(f"{path} has no column {missing[0]!r}: it must have {', '.join(columns)}")
        frame = frame.reindex(columns=columns, fill_value="")
        for column in set(columns) & set(numeric):
            frame[column] = frame[column].map(_number).astype(float)
        return frame


def _number(text: str) -> float:
    """The nearest float, as it was written: pandas' own conversion can miss it by one, and losses are compared to the last bit.

    NaN for what is no number.
    """
    try:
        return float(text)
    except ValueError:
        return np.nan


def shape_in(text: str) -> tuple[float, float, float]:
    """Rows, inputs and outputs in a published configuration such as `64 rows, 2048x512`; NaN if not named."""
    rows, shape = re.search(r"(\d+) rows", text), re.search(r"(\d+)x(\d+)", text)
    width = re.search(r"rows of (\d+)", text)
    inputs = float(shape[1]) if shape else float(width[1]) if width else np.nan
    return float(rows[1]) if rows else np.nan, inputs, float(shape[2]) if shape else np.nan


def _with_named_options(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of block measurements by the names of backends' options, which are in `backend_options` as JSON.

    No layer, instead of an empty one, in a row of the run.
    """
    return frame.assign(
        backend_options=frame["options"], options=frame["variant"], layer=frame["layer"].where(frame["layer"] != "")
    )


def data_of(source: Data | str | Path) -> Data:
    """The data of a directory, or what was read from one already."""
    return source if isinstance(source, Data) else Data(source)
