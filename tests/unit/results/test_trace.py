"""From a row of a table to command, commit and machine of its runs, whenever they were recorded."""

import csv
import io
import json
import shlex
from pathlib import Path

import pytest

from private_lora.cli.main import build_parser, main
from private_lora.results.recorder import write_rows
from private_lora.results.sidecars import find_sidecars, read_sidecars
from private_lora.results.trace import repeat_command
from private_lora.specs.block import BlockSpec
from private_lora.specs.estimate import EstimateSpec
from private_lora.specs.layer import LayerSpec
from private_lora.specs.loopback import GenerationSpec, LoopbackSpec
from private_lora.specs.run import RunSpec
from private_lora.specs.worker_view import WorkerViewSpec

RECORDED = Path(__file__).parents[3] / "results" / "recorded"
LAYER = {"run_id": "layer_tiny", "backend": "integer", "rows": 1, "inputs": 8, "outputs": 4, "activation_bits": 8}
LAYER |= {"weight_bits": 8, "repeats": 1, "warmup": 0}
OLD_RUN = "packed_mini-llama_packed_dynamic-token_static-channel_8bit_seed0"
SPECS = {"finetune": RunSpec, "layer": LayerSpec, "block": BlockSpec, "loopback": LoopbackSpec}
SPECS |= {"generation": GenerationSpec, "estimate": EstimateSpec, "worker_view": WorkerViewSpec}


@pytest.fixture
def study(tmp_path) -> Path:
    """A results directory with the table `some.csv`, whose second row has a run of this study and one of a record."""
    results = tmp_path / "results"
    assert main(["layer", "--spec", json.dumps(LAYER), "--out", str(results / "layer" / "layer_tiny" / "records.csv")]) == 0
    (results / "tables").mkdir()
    rows = [{"backend": "published", "run_ids": ""}, {"backend": "integer", "run_ids": f"layer_tiny {OLD_RUN}"}]
    with open(results / "tables" / "some.csv", "w", newline="") as handle:
        writer = csv.DictWriter(handle, ["backend", "run_ids"])
        writer.writeheader()
        writer.writerows([*rows, {"backend": "x", "run_ids": "sweep_of_nobody"}])
    return results


def traced(capsys, *arguments) -> list[str]:
    assert main(["trace", *map(str, arguments)]) == 0
    return capsys.readouterr().out.splitlines()


def rows_of(machine, run_id) -> str:
    """The lines of a run in a record, below the names of columns."""
    with open(RECORDED / machine / "convergence.csv") as handle:
        return "".join(line for number, line in enumerate(handle) if number == 0 or run_id in line)


def facts_of(lines, run_id) -> dict[str, str]:
    """Name and text of the lines of one run."""
    begin = lines.index(run_id) + 1
    end = next((i for i in range(begin, len(lines)) if not lines[i]), len(lines))
    return {line[2:14].strip(): line[15:] for line in lines[begin:end]}


def test_a_cell_of_a_table_leads_to_its_runs(study, capsys):
    lines = traced(capsys, study / "tables" / "some.csv", "--row", 2)
    assert lines[0].endswith("row 2 (row 1 is the first below the names of columns): 2 runs")
    facts = facts_of(lines, "layer_tiny")
    sidecar = json.loads((study / "layer" / "layer_tiny" / "sidecar.json").read_text())
    environment = sidecar["environment"]
    assert facts["commit"].startswith(environment["commit"]) and facts["commit"].endswith("read when the run started")
    assert facts["machine"].startswith(f"{environment['processor']}, {environment['cores']} cores")
    assert facts["CPU flags"].split() == environment["cpu_flags"]
    assert facts["date"] == f"{environment['started_at']} to {environment['finished_at']}"
    assert f"torch {environment['threads']['torch']}" in facts["threads"]
    assert facts["disturbance"].startswith("others took ")
    assert f"numpy {environment['versions']['numpy']}" in facts["versions"]
    assert "not recorded" not in {name: text for name, text in facts.items() if name != "threads"}.values()


def test_the_printed_command_makes_the_run_again(study, capsys, tmp_path, monkeypatch):
    facts = facts_of(traced(capsys, study / "tables" / "some.csv", "--row", 2), "layer_tiny")
    words = shlex.split(facts["repeat"])
    arguments = words[words.index("private_lora") + 1 :]
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 0
    again = tmp_path / "repeated" / "layer_tiny"
    assert (
        json.loads((again / "sidecar.json").read_text())["spec"]
        == json.loads((study / "layer" / "layer_tiny" / "sidecar.json").read_text())["spec"]
    )


def test_a_record_from_before_says_what_was_not_asked_then(study, capsys):
    (study / "data").mkdir()
    (study / "data" / "convergence.csv").write_text(rows_of("2-core-xeon", OLD_RUN))
    facts = facts_of(traced(capsys, study / "tables" / "some.csv", "--row", 2), OLD_RUN)
    sidecar = read_sidecars(RECORDED / "2-core-xeon" / "sidecars.jsonl")[OLD_RUN]
    assert facts["CPU flags"] == facts["date"] == facts["disturbance"] == "not recorded"
    assert sidecar["model_hash"] in facts["hashes"] and sidecar["data_sha256"] in facts["hashes"]
    assert "log2_q 37 to 40" in facts["parameters"] and "security_bits 128" in facts["parameters"]
    assert "OMP_NUM_THREADS=1" in facts["repeat"].split()


def test_a_run_of_a_stage_that_had_another_name_is_found_by_either(capsys):
    rest = "_Llama-3.2-1B_packed_2-shards_random-weights_dynamic-token_static-channel_8bit_seed0"
    found = [facts_of(traced(capsys, "--run", stage + rest), stage + rest) for stage in ("network", "loopback")]
    assert found[0] == found[1]
    assert found[0]["disturbance"] == "not recorded; other programs used cores and loopback meanwhile"
    assert " -m private_lora loopback --spec " in found[0]["repeat"]
    layer = facts_of(traced(capsys, "--run", "layer_float_1x256x256"), "layer_float_1x256x256")
    assert " -m private_lora layer --spec " in layer["repeat"] and "latency" not in layer["repeat"]


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*/sidecars.jsonl")), ids=lambda path: path.parent.name)
def test_every_recorded_run_can_be_repeated_by_a_present_command(path):
    for run_id, sidecar in read_sidecars(path).items():
        words = shlex.split(repeat_command(sidecar))
        command, *arguments = words[words.index("private_lora") + 1 :]
        args = build_parser(command).parse_args([command, *arguments])
        (text,) = args.spec
        spec = SPECS[command].from_json(text)
        assert spec.run_id == run_id


def test_of_two_records_of_one_run_the_published_one_is_taken(tmp_path):
    recorded, other = tmp_path / "recorded", tmp_path / "recorded" / "other"
    other.mkdir(parents=True)
    (recorded / "2-core-xeon").symlink_to(RECORDED / "2-core-xeon")
    (other / "sidecars.jsonl").write_text((RECORDED / "2-core-xeon" / "sidecars.jsonl").read_text())
    rows = list(csv.DictReader(io.StringIO(rows_of("2-core-xeon", OLD_RUN))))
    write_rows(other / "convergence.csv", [row | {"value": row["value"] + "1"} if row["unit"] == "s" else row for row in rows])
    assert len(find_sidecars(tmp_path, recorded, OLD_RUN)) == 2
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "convergence.csv").write_text((other / "convergence.csv").read_text())
    ((path, _),) = find_sidecars(tmp_path, recorded, OLD_RUN)
    assert path.parent.name == "other"


def test_rows_without_runs_and_runs_without_sidecars_are_one_sentence(study, capsys):
    table = study / "tables" / "some.csv"
    assert traced(capsys, table, "--row", 1)[1:] == [
        "No run is behind this row: its values are published ones or come from a formula."
    ]
    assert "There is no sidecar of this run" in traced(capsys, table, "--row", 3)[-1]
    assert main(["trace", "--run", "sweep_of_nobody", "--results", str(study)]) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["some.csv", "--row", "4"], "some.csv has 3 rows below the names of columns, and no row 4"),
        (["some.csv", "--row", "0"], "and no row 0"),
        (["other.csv", "--row", "1"], "other.csv has no column run_ids"),
        (["none.csv", "--row", "1"], "No such file"),
        (["some.csv"], "give a table and --row, or --run"),
        (["--row", "1"], "give a table and --row, or --run"),
    ],
)
def test_what_cannot_be_traced_is_one_sentence(arguments, sentence, study, capsys, monkeypatch):
    monkeypatch.chdir(study / "tables")
    (study / "tables" / "other.csv").write_text("a,b\n1,2\n")
    assert main(["trace", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line


def test_a_run_through_workers_of_others_keeps_its_own_command():
    command = "python -m private_lora finetune --workers a:1 --spec '{}'"
    sidecar = {"spec": {"run_id": "r", "stage": "manual"}, "place": {"workers": ["a:1"]}, "environment": {"command": command}}
    assert repeat_command(sidecar) == command
    assert repeat_command(
        sidecar | {"place": {"workers": ["a:1"], "loopback": {"run_id": "r", "run": {"run_id": "r"}}}}
    ).endswith("--out repeated/r/records.csv --checkpoints repeated/checkpoints")
