"""Records of other studies beside a study's own: its own runs win, and machines stay apart."""

import pytest
from synthetic_results import block_rows, records, run_rows, write_results

from private_lora.core.errors import UserError
from private_lora.results.reader import Data
from private_lora.study.config import DEFAULTS, merge, read_yaml, study_of


@pytest.fixture
def data(tmp_path):
    """A study with run `mine`, and beside it another machine's `mine` and `theirs`, and the same block measurements."""
    directory = write_results(
        tmp_path, run_rows("mine", machine="here"), [], block=[r | {"machine": "here"} for r in block_rows()]
    )
    others = run_rows("mine", machine="there") + run_rows("theirs", machine="there")
    (directory / "beside").mkdir()
    records(others).to_csv(directory / "beside" / "convergence.csv", index=False)
    blocks = [r | {"machine": "there"} for r in block_rows()]
    records(blocks).to_csv(directory / "beside" / "block.csv", index=False)
    return Data(directory)


def test_a_run_of_both_is_taken_from_the_study_itself(data):
    machines = data.convergence.groupby("run_id")["machine"].unique()
    assert {run: list(names) for run, names in machines.items()} == {"mine": ["here"], "theirs": ["there"]}


def test_tables_of_blocks_have_one_machine_and_the_cost_model_has_all(data):
    assert set(data.block["machine"]) == {"here"}
    assert set(data.block_of_all_machines["machine"]) == {"here", "there"}
    assert len(data.block_of_all_machines) == 2 * len(data.block)


def test_a_directory_without_records_is_refused(tmp_path):
    config = merge(read_yaml(DEFAULTS), {"beside": [str(tmp_path)]})
    with pytest.raises(
        UserError, match=r"config: beside\[0\]: no convergence.csv or loopback.csv or generation.csv or estimate.csv"
    ):
        study_of(config)
