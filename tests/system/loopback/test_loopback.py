"""The harness of the stage `network`: real worker processes, and bytes as the interface and a capture of it counted them."""

import csv
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from private_lora.bench.loopback import run_on_loopback
from private_lora.core.errors import UserError
from private_lora.specs.loopback import LoopbackSpec
from private_lora.training.logs import logs

# In a network namespace of its own the interface carries nothing but this run.
IS_ROOT = os.geteuid() == 0
ALONE = ["unshare", *([] if IS_ROOT else ["--map-root-user"]), "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


def can_be_alone():
    tools = shutil.which("unshare") and shutil.which("ip")
    return bool(tools) and subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0


def loopback_spec(run, **fields):
    return LoopbackSpec.from_dict({"run_id": "loopback", "run": run.to_dict()} | fields)


def rows_of(path):
    return list(csv.DictReader(path.open()))


def value(rows, metric):
    return float(next(r["value"] for r in rows if r["metric"] == metric))


def losses(rows):
    return [(r["phase"], r["step"], r["value"]) for r in rows if r["metric"] == "loss"]


def last_step(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return next(line for line in reversed(lines) if line["phase"] == "train")


@pytest.fixture
def run(make_spec):
    return make_spec(backend="packed", steps=3, batch_size=4)


def test_a_run_through_workers_is_recorded_with_what_it_sent(run, tmp_path):
    before = set(psutil.Process().children(recursive=True))
    for name, workers in (("local", []), ("remote", ["0", "1"])):
        told = logs(["jsonl"], "loopback", tmp_path / name)
        assert run_on_loopback(loopback_spec(run, workers=workers), tmp_path / name / "records.csv", tmp_path, told)
    local, remote = (rows_of(tmp_path / name / "records.csv") for name in ("local", "remote"))
    assert losses(remote) == losses(local)
    assert value(remote, "round_trips") == value(remote, "remote_matmuls") == value(local, "remote_matmuls")
    assert value(remote, "encrypted_matmuls") == value(remote, "round_trips")
    assert value(remote, "rejected_answers") == value(remote, "retries") == 0
    assert value(remote, "workers") == 2
    assert value(remote, "tls") == 1
    in_process, through_workers = (last_step(tmp_path / name / "live.jsonl") for name in ("local", "remote"))
    assert in_process["sent_bytes"] is None
    assert through_workers["upload_bytes"] < through_workers["sent_bytes"] < value(remote, "sent_bytes")
    # A handshake and headers come on top of the ciphertexts, which are counted as their messages' own bytes.
    ciphertext = value(remote, "upload_ciphertext_bytes"), value(remote, "download_ciphertext_bytes")
    assert ciphertext[0] < value(remote, "sent_bytes") < 1.02 * ciphertext[0] + 20_000
    assert ciphertext[1] < value(remote, "received_bytes") < 1.02 * ciphertext[1] + 20_000
    assert not {r["metric"] for r in local} & {"round_trips", "sent_bytes", "workers", "interface_bytes"}
    assert value(remote, "largest_worker_memory_bytes") > 1e8
    assert "products" in (tmp_path / "remote" / "worker-0.log").read_text()
    assert set(psutil.Process().children(recursive=True)) == before


def test_a_worker_that_does_not_start_is_an_error_that_names_its_log(run, tmp_path):
    with pytest.raises(UserError, match="ended before it listened, its log is in"):
        run_on_loopback(loopback_spec(run, workers=["7"]), tmp_path / "run" / "records.csv", tmp_path)
    assert "there is no block 7" in (tmp_path / "run" / "worker-0.log").read_text()


@pytest.mark.skipif(not can_be_alone(), reason="needs util-linux and iproute2, and the right to make a network namespace")
@pytest.mark.parametrize("workers", [["0", "1"]], ids=["2 shards"])
def test_counted_bytes_are_what_the_interface_carried_within_two_percent(workers, run, tmp_path):
    out = tmp_path / "run" / "records.csv"
    arguments = ["--spec", loopback_spec(run, workers=workers).to_json(), "--out", out, "--checkpoints", tmp_path, "--quiet"]
    command = [sys.executable, "-m", "private_lora", "loopback", *map(str, arguments)]
    capture = tmp_path / "capture.pcap"
    if shutil.which("tcpdump") and IS_ROOT:
        command = ["sh", "-c", CAPTURED, "sh", str(capture), *command]
    subprocess.run([*ALONE, *command], check=True, capture_output=True, timeout=300)
    rows = rows_of(out)
    counted = value(rows, "sent_bytes") + value(rows, "received_bytes")
    assert 0.98 < counted / value(rows, "interface_bytes") < 1
    if capture.exists():
        assert 0.98 < counted / captured_bytes(capture) < 1


# A capture of everything on the interface while a command runs; headers are enough, the lengths stand in them.
CAPTURED = """
capture=$1; shift
tcpdump -i lo -Z root -U -s 96 -B 65536 -w "$capture" 2> "$capture.log" &
until grep -q listening "$capture.log"; do kill -0 $! || exit 1; sleep 0.05; done
"$@"; status=$?
sleep 1; kill -INT $!; wait $!
exit $status
"""


def captured_bytes(path: Path) -> int:
    """Sum of the packets' lengths on the interface, from a pcap file."""
    data, position, total = path.read_bytes(), 24, 0
    assert struct.unpack_from("<I", data)[0] == 0xA1B2C3D4
    while position < len(data):
        _, _, kept, length = struct.unpack_from("<4I", data, position)
        total += length
        position += 16 + kept
    return total


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"workers": ["x"]}, "no block or range of blocks"),
        ({"workers": [], "latency_s": 0.1}, "in process has neither a link nor questions"),
        ({"wrokers": []}, "unknown key 'wrokers'"),
    ],
)
def test_specs_that_cannot_be_run_are_refused(fields, message, run):
    with pytest.raises(UserError, match=message):
        loopback_spec(run, **fields)


def test_simulated_and_static_runs_have_no_workers(make_spec):
    for fields, message in (
        ({"backend": "glwe_simulated"}, "backend of remote workers"),
        ({"activation_quantizer": "static_per_tensor"}, "need a dynamic quantizer"),
    ):
        with pytest.raises(UserError, match=message):
            loopback_spec(make_spec(**fields), workers=[""])
