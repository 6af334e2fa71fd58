"""Quantities as people write them, there and back."""

import pytest

from private_lora.core.errors import UserError
from private_lora.core.units import bandwidth, duration, of_bits, of_bytes, of_seconds


@pytest.mark.parametrize(
    ("text", "bits"),
    [("100Mbit", 1e8), ("1 Gbit/s", 1e9), ("2.5Gbps", 2.5e9), ("12.5MB/s", 1e8), ("64kbit", 64e3), (".5Mb", 5e5), ("8B", 64.0)],
)
def test_bandwidth(text, bits):
    assert bandwidth(text) == bits


@pytest.mark.parametrize("text", ["", "100", "fast", "100 furlongs", "-1Mbit", "0Mbit", "1e8bit", "100Mbit/h", "1,5Mbit"])
def test_what_is_no_bandwidth(text):
    with pytest.raises(UserError, match=r"^bandwidth .* is no number with a unit, such as 100Mbit"):
        bandwidth(text)


@pytest.mark.parametrize(("text", "seconds"), [("40ms", 0.04), ("0.2s", 0.2), ("200us", 2e-4), ("0 s", 0.0)])
def test_duration(text, seconds):
    assert duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize("text", ["40", "ms", "-1ms", "1min", "40 mss"])
def test_what_is_no_duration(text):
    with pytest.raises(UserError, match=r"^latency .* is no number with a unit, such as 40ms"):
        duration(text)


def test_for_people():
    assert [of_bytes(size) for size in (0, 999, 1000, 5.7e9, 1.04e12)] == ["0 B", "999 B", "1 kB", "5.7 GB", "1.04 TB"]
    assert of_bits(1e8) == "100 Mbit/s"
    assert [of_seconds(s) for s in (0.1234, 119, 120, 7200, 2e6)] == ["0.123 s", "119 s", "2 minutes", "2 hours", "23.1 days"]
