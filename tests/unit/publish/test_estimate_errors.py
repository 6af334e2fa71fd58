"""The table of estimates beside their runs: errors with their sign, and what their bytes rest on."""

import pytest
from synthetic_estimate import SAID, TOKENS, UNITS, estimate_rows
from synthetic_results import write_results

from private_lora.publish.tables.estimate_errors import estimate_errors
from private_lora.results.reader import Data


def table(tmp_path, rows):
    data = write_results(tmp_path, [], [], published=False, block=[], estimate=rows)
    return estimate_errors(Data(data)).set_index("quantity")


def test_errors_have_a_sign(tmp_path):
    found = table(tmp_path, estimate_rows())
    expected = {"step_time_s": 10.0, "upload_bytes_per_token": 0.0, "download_bytes_per_token": 0.0, "hint_bytes": 0.0}
    expected |= {"hint_time_s": -50.0, "peak_memory_bytes": -25.0}
    assert dict(found["error_percent"]) == pytest.approx(expected)
    assert found.loc["step_time_s", "measured"] == 3.0  # the median behind the first step
    assert set(found["run_ids"]) == {"estimate_x"} and set(found["tokens"]) == {TOKENS}
    assert dict(found["unit"]) == {name: UNITS.get(name, "B") for name in SAID}


@pytest.mark.parametrize(("planned", "basis"), [(1, "planned"), (0, "extrapolated")])
def test_bytes_say_what_they_rest_on(tmp_path, planned, basis):
    found = table(tmp_path, estimate_rows(planned))
    assert found.loc["hint_bytes", "estimated_how"] == basis
    assert found.loc["step_time_s", "estimated_how"] == "extrapolated"


def test_without_a_run_there_is_no_line(tmp_path):
    assert not len(table(tmp_path, []))
