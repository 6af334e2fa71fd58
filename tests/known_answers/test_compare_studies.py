"""The comparison of studies finds a changed digit and a noisy number that is out of range, and knows what was renamed."""

from __future__ import annotations

import csv

import build_baseline
import compare_studies
import pytest

OLD = (
    "run_id", "stage", "backend", "machine", "variant", "repeat", "step", "phase", "metric", "value", "unit",
)  # fmt: skip
RUN = {"run_id": "sweep_a", "stage": "sweep", "backend": "integer", "machine": "M", "step": "1", "phase": "train"}
LAYER = {"run_id": "latency_b_1x2x3", "stage": "latency", "backend": "glwe", "machine": "M", "variant": "1x2x3", "phase": "run"}
BLOCK = {"run_id": "block_c", "stage": "block", "backend": "packed", "machine": "M", "repeat": "0", "phase": "forward"}
ROWS = [
    RUN | {"metric": "loss", "value": "5.656672477722168"},
    RUN | {"metric": "step_time_s", "value": "1.0"},
    RUN | {"run_id": "encrypted_glwe", "stage": "encrypted", "metric": "loss", "value": "5.1"},
    LAYER | {"metric": "security_bits", "value": "128"},
    BLOCK | {"variant": "q, 128x64x64", "metric": "upload_ciphertext_bytes", "value": "32900"},
    BLOCK | {"variant": "k, 128x64x192", "metric": "upload_ciphertext_bytes", "value": "32901"},
    BLOCK | {"variant": "v, 128x64x192", "metric": "upload_ciphertext_bytes", "value": "32901"},
    BLOCK | {"variant": "", "repeat": "", "phase": "run", "metric": "mismatches", "value": "0"},
]


def write(directory, rows, columns=OLD):
    """A results directory with these rows."""
    (directory / "data").mkdir(parents=True)
    with open(directory / "data" / "rows.csv", "w", newline="") as handle:
        writer = csv.DictWriter(handle, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return directory


@pytest.fixture
def baseline(tmp_path):
    """Baseline of two studies that differ in one loss (5.1 and 5.3) and in times."""
    other = [dict(row) for row in ROWS]
    other[1]["value"], other[2]["value"] = "2.0", "5.3"
    studies = [compare_studies.read_numbers(write(tmp_path / name, rows))[0] for name, rows in (("a", ROWS), ("b", other))]
    path = tmp_path / "baseline.csv.gz"
    path.write_bytes(build_baseline.compressed(build_baseline.baseline_rows(studies, "M")))
    return path


def verdict_on(rows, baseline, directory, columns=OLD):
    numbers, _ = compare_studies.read_numbers(write(directory, rows, columns))
    return compare_studies.compare(numbers, compare_studies.read_baseline(baseline))


def changed(index, **values):
    return [row | values if i == index else row for i, row in enumerate(ROWS)]


def test_the_same_study_has_no_difference(baseline, tmp_path):
    verdict = verdict_on(ROWS, baseline, tmp_path / "new")
    assert (verdict.equal, verdict.noisy, verdict.differ, verdict.left_out, verdict.missing) == (6, 1, [], [], [])
    assert compare_studies.main([str(tmp_path / "new"), "--baseline", str(baseline), "--strict"]) == 0


@pytest.mark.parametrize(("index", "value"), [(0, "5.656672477722169"), (4, "32901"), (3, ""), (7, "1")])
def test_a_changed_digit_is_found(baseline, tmp_path, index, value):
    verdict = verdict_on(changed(index, value=value), baseline, tmp_path / "new")
    assert len(verdict.differ) == 1
    assert ROWS[index]["metric"] in verdict.differ[0]
    assert compare_studies.main([str(tmp_path / "new"), "--baseline", str(baseline)]) == 1


@pytest.mark.parametrize(
    ("value", "differ"), [("5.2", 0), ("4.51", 0), ("5.89", 0), ("4.49", 1), ("5.91", 1), ("nan", 1), ("", 1)]
)
def test_a_noisy_number_may_lie_in_the_widened_range(baseline, tmp_path, value, differ):
    verdict = verdict_on(changed(2, value=value), baseline, tmp_path / "new")
    assert (verdict.noisy, len(verdict.differ)) == (1 - differ, differ)


def test_times_are_not_compared(baseline, tmp_path):
    assert not verdict_on(changed(1, value="99"), baseline, tmp_path / "new").differ


def test_a_run_that_is_left_out_is_listed(baseline, tmp_path):
    verdict = verdict_on(ROWS[1:], baseline, tmp_path / "new")
    assert (verdict.left_out, verdict.missing, verdict.differ) == (["sweep_a"], [], [])


def test_a_missing_number_of_a_run_that_is_there_is_listed(baseline, tmp_path):
    verdict = verdict_on([*ROWS[:4], *ROWS[5:]], baseline, tmp_path / "new")
    assert [key[0] for key in verdict.missing] == ["block_c"]
    assert compare_studies.main([str(tmp_path / "new"), "--baseline", str(baseline), "--strict"]) == 1
    assert compare_studies.main([str(tmp_path / "new"), "--baseline", str(baseline)]) == 0


def test_renamed_stages_and_columns_of_their_own_are_the_same_numbers(baseline, tmp_path):
    rows = [dict(row) for row in ROWS]
    rows[3] |= {"run_id": "layer_b_1x2x3", "stage": "layer", "variant": "", "tokens": "1", "inputs": "2", "outputs": "3"}
    rows[4] |= {"variant": "", "layer": "q", "tokens": "128", "inputs": "64.0", "outputs": "64"}
    rows[5] |= {"variant": "", "layer": "k, v", "tokens": "128", "inputs": "64", "outputs": "192", "sample": "1"}
    rows[7] |= {"options": "{}"}
    del rows[6]
    columns = (*OLD, "layer", "tokens", "inputs", "outputs", "options", "sample")
    verdict = verdict_on(rows, baseline, tmp_path / "new", columns)
    assert (verdict.equal, verdict.noisy, verdict.differ, verdict.left_out, verdict.missing) == (6, 1, [], [], [])


def test_two_numbers_of_one_key_are_refused(tmp_path):
    with pytest.raises(ValueError, match="two numbers of sweep_a"):
        compare_studies.read_numbers(write(tmp_path / "new", [ROWS[0], ROWS[0] | {"value": "1"}]))


def test_an_empty_study_is_no_success(baseline, tmp_path):
    write(tmp_path / "new", [])
    assert compare_studies.main([str(tmp_path / "new"), "--baseline", str(baseline)]) == 1


def test_the_committed_baseline_is_whole():
    baseline = compare_studies.read_baseline()
    kinds = [row["kind"] for row in baseline.values()]
    assert len({key[0] for key in baseline}) == 49  # 38 trainings, 5 through workers, 3 layers, 3 blocks
    assert kinds.count("equal") > 1700
    noisy = {row["run_id"] for row in baseline.values() if row["kind"] == "noisy"}
    assert all("glwe" in run_id or "approx" in run_id or "concrete-ml_execute" in run_id for run_id in noisy)


def test_every_compared_number_of_the_baseline_can_fail():
    baseline = compare_studies.read_baseline()
    numbers = {key: f"{float(row['high']) * 100 + 1e3}" for key, row in baseline.items()}
    verdict = compare_studies.compare(numbers, baseline)
    assert (verdict.equal, verdict.noisy, len(verdict.differ)) == (0, 0, len(baseline))
