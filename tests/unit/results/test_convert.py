"""Records of schema version 1 become those of the present one, number by number; others are refused in one sentence."""

import csv
import json
from pathlib import Path

import pytest

from private_lora.cli.main import main
from private_lora.core.errors import UserError
from private_lora.results.convert import ADDED, KINDS, convert
from private_lora.results.reader import Data
from private_lora.results.recorder import collect
from private_lora.results.schema import COLUMNS, SCHEMA_VERSION
from private_lora.results.sidecars import read_sidecars

RECORDED = sorted(path for path in (Path(__file__).parents[3] / "results" / "recorded").iterdir() if path.is_dir())
OLD = [name for name in COLUMNS if name not in ADDED]
ROW = {"device": "cpu", "machine": "M", "seed": "0", "status": "ok", "basis": "measured"}
BLOCK = ROW | {"run_id": "block_b", "stage": "block", "repeat": "0", "phase": "forward", "metric": "matmul_time_s", "unit": "s"}
LAYER = ROW | {"run_id": "layer_l", "stage": "layer", "backend": "glwe", "variant": "1x256x16"}
TRAINED = ROW | {"run_id": "encrypted_c", "stage": "encrypted", "backend": "concrete_ml", "variant": "execute"}
ROWS = {
    "convergence": [
        TRAINED | {"phase": "train", "step": "1", "metric": "loss", "value": "5.885563113619198", "unit": "nats"},
        TRAINED | {"phase": "run", "metric": "hybrid_path", "value": "1", "unit": "circuit"},
    ],
    "layer": [
        LAYER | {"phase": "forward", "repeat": repeat, "metric": metric, "value": "0.1", "unit": "s"}
        for repeat in ("0", "1")
        for metric in ("encrypt_time_s", "matmul_time_s")
    ]
    + [LAYER | {"phase": "run", "metric": "security_bits", "value": "128"}],
    "block": [
        BLOCK | {"backend": "packed_approx", "variant": "k, 128x64x32, log2 Q 24", "value": "0.25"},
        BLOCK | {"backend": "packed_approx", "variant": "v, 128x64x32, log2 Q 24", "value": "0.25"},
        BLOCK | {"backend": "packed", "variant": "q+k+v, 128x64x96", "value": "0.5"},
        BLOCK | {"backend": "packed_approx", "variant": "log2 Q 24", "phase": "run", "repeat": "", "metric": "mismatches"},
        BLOCK | {"backend": "", "variant": "", "phase": "run", "repeat": "", "metric": "blocks", "value": "16"},
    ],
}
SIDECARS = [
    {"spec": {"run_id": "encrypted_c", "backend_options": {"mode": "execute"}}},
    {"spec": {"run_id": "latency_l", "backend_options": {}}},
    {
        "spec": {
            "run_id": "block_b",
            "backends": [{"name": "packed"}, {"name": "packed_approx", "variant": "log2 Q 24", "options": {"log2_q": 24}}],
        }
    },
]


@pytest.fixture
def old(tmp_path) -> Path:
    """Records as version 1 wrote them."""
    for name, rows in ROWS.items():
        write(tmp_path / f"{name}.csv", rows)
    (tmp_path / "sidecars.jsonl").write_text("".join(f"{json.dumps(sidecar)}\n" for sidecar in SIDECARS))
    return tmp_path


def write(path, rows, columns=OLD):
    with open(path, "w", newline="") as handle:
        writer = csv.DictWriter(handle, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read(path) -> list[dict]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_words_of_variant_and_unit_become_columns(old, capsys):
    assert main(["convert", str(old)]) == 0
    assert "block.csv: 5 rows" in capsys.readouterr().out
    blocks, layers, trained = (read(old / f"{name}.csv") for name in ("block", "layer", "convergence"))
    shape = ("layer", "tokens", "inputs", "outputs", "variant", "options", "sample")
    assert [tuple(row[name] for name in shape) for row in blocks] == [
        ("k", "128", "64", "32", "log2 Q 24, fresh", '{"log2_q":24,"mask":"fresh"}', "0"),
        ("v", "128", "64", "32", "log2 Q 24, fresh", '{"log2_q":24,"mask":"fresh"}', "0"),
        ("q+k+v", "128", "64", "96", "fresh", '{"mask":"fresh"}', "1"),
        ("", "", "", "", "log2 Q 24, fresh", '{"log2_q":24,"mask":"fresh"}', ""),
        ("", "", "", "", "", "", ""),
    ]
    assert {tuple(row[name] for name in shape[:5]) for row in layers} == {("", "1", "256", "16", "")}
    assert [row["sample"] for row in layers] == ["0", "0", "1", "1", ""]
    assert {row["options"] for row in trained} == {'{"mode":"execute","path":"circuit"}'}
    assert [row["unit"] for row in trained] == ["nats", ""]


def test_packed_records_of_version_2_say_that_their_masks_were_fresh(old):
    convert(old)
    rows = [
        row | {"schema_version": "2", "backend": backend, "variant": "", "options": options}
        for row, (backend, options) in zip(
            read(old / "block.csv"), [("packed", ""), ("packed_approx", '{"log2_q":24}'), ("glwe", "")], strict=False
        )
    ]
    write(old / "block.csv", rows, COLUMNS)
    convert(old)
    found = [(row["schema_version"], row["variant"], row["options"]) for row in read(old / "block.csv")]
    assert found == [("3", "fresh", '{"mask":"fresh"}'), ("3", "fresh", '{"log2_q":24,"mask":"fresh"}'), ("3", "", "")]


def test_everything_else_stays_as_it_was(old):
    counts = convert(old)
    assert counts == {f"{name}.csv": len(rows) for name, rows in ROWS.items()}
    kept = [name for name in OLD if name not in ("variant", "unit")]
    for name, rows in ROWS.items():
        found = read(old / f"{name}.csv")
        assert [[row[c] for c in kept] for row in found] == [[row.get(c, "") for c in kept] for row in rows]
        assert {row["schema_version"] for row in found} == {str(SCHEMA_VERSION)}
        assert tuple(found[0]) == COLUMNS


def test_a_note_is_in_every_row_of_its_run_and_nothing_else_changes_the_second_time(old):
    convert(old)
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    convert(old)
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before
    assert main(["convert", str(old), "--note", "block_b=other programs used cores"]) == 0
    assert {row["note"] for row in read(old / "block.csv")} == {"other programs used cores"}
    assert {row["note"] for row in read(old / "layer.csv")} == {""}
    assert Data(old).disturbed == {"block_b": "other programs used cores"}
    with pytest.raises(UserError, match="there is no run 'block_x'"):
        convert(old, {"block_x": "?"})


def test_readers_of_unconverted_records_say_what_converts_them(old, tmp_path, capsys):
    sentence = f"convergence.csv holds records of schema version 1: convert them with `private-lora convert {old}`"
    with pytest.raises(UserError) as refused:
        _ = Data(old).convergence
    assert sentence in str(refused.value)
    assert main(["collect", "--out", str(tmp_path / "all.csv"), str(old / "convergence.csv")]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("columns", [("schema_version", *OLD), COLUMNS, ("x", "y")])
def test_unknown_versions_are_refused_and_nothing_changes(old, columns, capsys):
    write(old / "block.csv", [{name: "4" for name in columns}], columns)
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    assert main(["convert", str(old)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "only 1 and 2 can be converted" in line
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before


def test_a_later_version_is_not_read(old):
    convert(old)
    rows = [row | {"schema_version": "4"} for row in read(old / "block.csv")]
    write(old / "block.csv", rows, COLUMNS)
    with pytest.raises(UserError, match="holds records of schema version 4 and this program reads 3"):
        _ = Data(old).block


def test_a_directory_without_records_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no records"):
        convert(tmp_path)


@pytest.mark.parametrize("directory", RECORDED, ids=lambda path: path.name)
def test_recorded_files_are_converted_and_every_run_has_its_sidecar(directory):
    sidecars = read_sidecars(directory / "sidecars.jsonl")
    for kind in KINDS:
        if not (path := directory / f"{kind}.csv").is_file():
            continue
        with open(path, newline="") as handle:
            rows = list(csv.DictReader(handle))
        assert {row["schema_version"] for row in rows} <= {str(SCHEMA_VERSION)}
        assert {row["run_id"] for row in rows} <= set(sidecars)
        shaped = [row for row in rows if row["stage"] == "block" and row["phase"] in ("forward", "backward")]
        assert all(row["layer"] and row["tokens"] and row["inputs"] and row["outputs"] and row["sample"] for row in shaped)


def test_recorded_runs_that_were_disturbed_say_so():
    (network,) = (path for path in RECORDED if path.name == "2-core-epyc-network")
    assert {run_id.split("_")[1] for run_id in Data(network).disturbed} == {"Llama-3.2-1B"}


def test_collected_files_have_the_version(old, tmp_path):
    convert(old)
    out = tmp_path / "collected.csv"
    collect([old / "block.csv"], out)
    assert read(out) == read(old / "block.csv")
