"""All layers of a block in one process, for every matmul backend: rows that sum to the block, checked answers, table ratios."""

import csv
import json
import statistics

import numpy as np
import pytest
import torch
from slow_tests import slow

from private_lora.backends.packed import exact, session
from private_lora.bench import block as block_bench
from private_lora.bench.ceilings import copy_ceiling, int8_ceiling
from private_lora.bench.plaintext import PlaintextProduct
from private_lora.core.errors import UserError
from private_lora.publish.tables import TABLES
from private_lora.results.reader import Data
from private_lora.results.recorder import collect
from private_lora.specs.backends import BACKENDS, PLAINTEXT
from private_lora.specs.block import BlockSpec

MATMUL = [name for name, entry in BACKENDS.items() if entry.kind == "matmul"]
LAYERS = {"q": [24, 24], "k": [24, 3], "v": [24, 3]}
TIMES = ("encrypt_time_s", "matmul_time_s", "decrypt_time_s")


def measure(directory, names, **fields) -> list[dict]:
    """Rows of a tiny block on the given backends, as read back from the file."""
    values = {"run_id": "tiny", "model": "m", "blocks": 3, "tokens": 2, "layers": LAYERS, "repeats": 3, "warmup": 1}
    values |= {"activation_bits": 7, "weight_bits": 7, "backends": [{"name": name} for name in names]}
    block_bench.block(BlockSpec.from_dict(values | fields), directory / "records.csv")
    return list(csv.DictReader((directory / "records.csv").read_text().splitlines()))


def products_of(rows) -> set[tuple[str, str, str]]:
    """Layer, shape and direction of the rows of products."""
    return {(r["layer"], f"{r['tokens']}x{r['inputs']}x{r['outputs']}", r["phase"]) for r in rows if r["phase"] != "run"}


def values_of(rows, backend, metric, **columns) -> list[float]:
    wanted = {"backend": backend, "metric": metric} | columns
    return [float(r["value"]) for r in rows if all(r[k] == v for k, v in wanted.items())]


@pytest.mark.parametrize("name", [*PLAINTEXT, *MATMUL])
def test_every_layer_and_direction_has_its_stages_and_checked_answers(name, tmp_path):
    rows = measure(tmp_path, [name], repeats=1, warmup=0, layers={"q": [24, 24], "k": [24, 3]})
    assert products_of(rows) == {
        ("q", "2x24x24", "forward"),
        ("q", "2x24x24", "backward"),
        ("k", "2x24x3", "forward"),
        ("k", "2x3x24", "backward"),
    }
    for metric in TIMES[1:2] if name in PLAINTEXT else TIMES:
        assert len(values_of(rows, name, metric)) == 4
        assert all(t > 0 for t in values_of(rows, name, metric))
    sent = values_of(rows, name, "upload_ciphertext_bytes") + values_of(rows, name, "download_ciphertext_bytes")
    encrypted = name in BACKENDS and BACKENDS[name].encrypted
    assert (len(sent) == 8 and all(sent)) if encrypted else not any(sent)
    # Three shapes: q in both directions is one.
    assert values_of(rows, name, "checked_values") == [2 * (24 + 3 + 24)]
    assert values_of(rows, name, "encrypted_matmuls") == [3 if encrypted else 0]
    assert (values_of(rows, name, "security_bits")[0] >= 128) == encrypted
    exact = name in ("plaintext_int8", "plaintext_float64", "float", "integer", "packed")
    assert (values_of(rows, name, "mismatches") == [0]) == (values_of(rows, name, "largest_error") == [0])
    assert not exact or values_of(rows, name, "mismatches") == [0]
    # Sums of 24 products of 7-bit integers have more than the 8 significant bits of bf16.
    assert name != "plaintext_bf16" or values_of(rows, name, "mismatches")[0] > 0
    sidecar = json.loads((tmp_path / "sidecar.json").read_text())
    assert sidecar["spec"]["layers"] == {"q": [24, 24], "k": [24, 3]}
    assert set(sidecar["parameters"].get(name, {})) == (set() if name in PLAINTEXT else {"24x24", "24x3", "3x24"})


@pytest.mark.parametrize("name", ["packed", "packed_approx", slow("glwe")])
def test_bytes_are_lengths_of_the_messages_that_were_sent(name, tmp_path, monkeypatch):
    backend = block_bench.load(name)
    kind = type(backend.client(backend.plan(np.ones((24, 3), np.int8), 7)))
    encrypt, decrypt, sent = kind.encrypt, kind.decrypt, {"upload": [], "download": []}

    def seen(direction, message):
        sent[direction].append(len(message.to_bytes()))
        return message

    monkeypatch.setattr(kind, "encrypt", lambda self, x: seen("upload", encrypt(self, x)))
    monkeypatch.setattr(kind, "decrypt", lambda self, message: decrypt(self, seen("download", message)))
    rows = measure(tmp_path, [name], repeats=1, warmup=0, layers={"k": [24, 3]})
    for direction, lengths in sent.items():
        assert sorted(values_of(rows, name, f"{direction}_ciphertext_bytes")) == sorted(lengths)
        assert len(lengths) == 2


def test_joint_layers_are_rows_of_their_own(tmp_path):
    rows = measure(tmp_path, ["integer"], share_inputs=True)
    assert products_of(rows) == {("q+k+v", "2x24x30", "forward"), ("q+k+v", "2x30x24", "backward")}


def test_layers_of_one_shape_share_a_measurement(tmp_path):
    rows = measure(tmp_path, ["integer"])
    times, samples = (
        {v: [r[column] for r in rows if (r["layer"], r["phase"], r["metric"]) == (v, "forward", "matmul_time_s")] for v in "kv"}
        for column in ("value", "sample")
    )
    assert times["k"] == times["v"] and samples["k"] == samples["v"]
    assert len(set(times["k"])) > 1 and len(set(samples["k"])) == 3


def test_a_sample_is_one_product_of_one_backend(tmp_path):
    rows = [r for r in measure(tmp_path, ["integer", "packed"], repeats=2) if r["phase"] != "run"]
    key = ("backend", "tokens", "inputs", "outputs", "repeat")
    samples = {(r["sample"], *(r[name] for name in key)) for r in rows}
    # Three shapes: q is the same in both directions, k and v are one.
    assert sorted(int(number) for number, *_ in samples) == list(range(3 * 2 * 2))


def test_backends_take_turns_in_an_order_that_is_drawn_and_kept(tmp_path, monkeypatch):
    names, passes = ["plaintext_float32", "plaintext_int8", "integer"], 8
    monkeypatch.setattr(block_bench, "_in_random_order", seen := Turns(block_bench._in_random_order))
    rows = measure(tmp_path, names, repeats=passes - 1, layers={"k": [24, 3]})
    order = json.loads((tmp_path / "sidecar.json").read_text())["order"]
    assert set(order) == {"24x3", "3x24"}
    turns = [turn for shape in ("3x24", "24x3") for turn in order[shape]]
    assert turns == seen.names and all(sorted(turn) == sorted(names) for turn in turns)
    # All 16 in one order: one chance in 6^15.
    assert len({tuple(turn) for turn in turns}) > 1
    timed = [row for row in rows if row["metric"] == "matmul_time_s"]
    assert [r["backend"] for r in sorted(timed, key=lambda r: int(r["sample"]))] == [
        name for shape in ("3x24", "24x3") for turn in order[shape][1:] for name in turn
    ]


class Turns:
    """Draws as `draw` does, and keeps the names of what it drew."""

    def __init__(self, draw):
        self._draw, self.names = draw, []

    def __call__(self, contenders):
        drawn = self._draw(contenders)
        self.names.append([tally.name for tally, _ in drawn])
        return drawn


def test_table_ratios_are_those_computed_by_hand(tmp_path):
    rows = measure(tmp_path, [*PLAINTEXT, "packed"])
    collect([tmp_path / "records.csv"], tmp_path / "block.csv")
    table = TABLES["block_latency"](Data(tmp_path)).set_index("backend")

    def total(backend, metrics, repeat):
        return sum(v for m in metrics for v in values_of(rows, backend, m, repeat=str(repeat)))

    for side, metrics in (("server", TIMES[1:2]), ("client", (TIMES[0], TIMES[2]))):
        for plaintext in PLAINTEXT:
            by_hand = [total("packed", metrics, r) / total(plaintext, TIMES[1:2], r) for r in range(3)]
            column = f"{side}_over_{plaintext.removeprefix('plaintext_')}"
            assert table.loc["packed", f"{column}_median"] == pytest.approx(statistics.median(by_hand))
            assert table.loc["packed", f"{column}_max"] == pytest.approx(max(by_hand))
        times = [total("packed", metrics, r) for r in range(3)]
        assert table.loc["packed", f"{side}_ms_per_token"] == pytest.approx(1e3 * statistics.median(times) / 2)
    assert table.loc["packed", ["checked_values", "mismatches"]].tolist() == [2 * (24 + 3 + 24), 0]
    sizes = TABLES["block_bytes"](Data(tmp_path)).set_index("backend")
    up = values_of(rows, "packed", "upload_ciphertext_bytes", repeat="0")
    assert len(up) == 6
    assert sizes.loc["packed", "up_bytes_per_token"] == pytest.approx(3 * sum(up) / 2)


def test_variants_of_one_backend_are_told_apart(tmp_path):
    backends = [{"name": "packed_approx", "variant": f"log2 Q {q}", "options": {"log2_q": q}} for q in (22, 26)]
    rows = measure(tmp_path, [], backends=backends, layers={"k": [24, 3]})
    found = {(r["variant"], r["options"]) for r in rows if r["phase"] == "forward"}
    assert found == {(f"log2 Q {q}", f'{{"log2_q":{q}}}') for q in (22, 26)}
    collect([tmp_path / "records.csv"], tmp_path / "block.csv")
    assert set(TABLES["block_latency"](Data(tmp_path))["options"]) == {"log2 Q 22", "log2 Q 26"}


@pytest.mark.parametrize(("name", "off"), [("integer", 1), ("packed", 1), ("packed_approx", 2**20)])
def test_a_wrong_answer_has_no_latency(name, off, tmp_path, monkeypatch):
    kind = type(block_bench.load(name).client(block_bench.load(name).plan(np.ones((24, 3), np.int8), 7)))
    right = kind.decrypt

    def wrong(self, message):
        y = right(self, message).copy()
        y[-1, -1] += off
        return y

    monkeypatch.setattr(kind, "decrypt", wrong)
    with pytest.raises(RuntimeError, match=rf"^{name}: .* differ from the integers"):
        measure(tmp_path, ["plaintext_int8", name])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "share"), [("plaintext_int8", 2.0**-20), ("plaintext_float64", 2.0**-20), ("plaintext_bf16", 2.0**-6)]
)
def test_a_wrong_plaintext_answer_has_no_time(name, share, tmp_path, monkeypatch):
    right = PlaintextProduct.__call__

    def wrong(self):
        stages, y = right(self)
        y = y.astype(np.float64)
        y[np.unravel_index(np.abs(y).argmax(), y.shape)] *= 1 + share
        return stages, y

    monkeypatch.setattr(PlaintextProduct, "__call__", wrong)
    with pytest.raises(RuntimeError, match=rf"^{name}: .* differ from the integers"):
        measure(tmp_path, [name])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mask", ["session", "fresh"])
@pytest.mark.parametrize("name", ["packed", "packed_approx"])
@pytest.mark.parametrize("bits", [7, 12])
def test_operations_are_those_of_the_int8_products_that_were_issued(mask, name, bits, tmp_path, monkeypatch):
    multiply, issued, servers = torch._int_mm, [], []

    def counted(left, right, **out):
        if servers:  # not the client's, which makes hints, nor those that measure the device
            issued.append(2 * left.shape[0] * left.shape[1] * right.shape[1])
        return multiply(left, right, **out)

    for module, kind in ((session, session.SessionServer), (exact, exact.PackedServer)):
        monkeypatch.setattr(module, "fastest_kernel", lambda: "int8")
        monkeypatch.setattr(kind, "matmul", told(kind.matmul, servers))
    monkeypatch.setattr(torch, "_int_mm", counted)
    fields = {"activation_bits": bits, "weight_bits": bits, "repeats": 2, "warmup": 0, "layers": {"k": [24, 3]}}
    backends = [{"name": name, "variant": mask, "options": {"mask": mask}}]
    rows = measure(tmp_path, [], backends=backends, **fields)
    recorded = values_of(rows, name, "int8_operations")
    assert len(recorded) == 4 and all(recorded)
    assert sum(recorded) == sum(issued)


def told(matmul, servers):
    """`matmul`, during which `servers` is not empty."""

    def multiplied(self, message):
        servers.append(self)
        try:
            return matmul(self, message)
        finally:
            servers.pop()

    return multiplied


@pytest.mark.parametrize("mask", ["session", "fresh"])
def test_a_server_without_int8_products_counts_no_int8_operations(mask, tmp_path, monkeypatch):
    for module in (session, exact):
        monkeypatch.setattr(module, "fastest_kernel", lambda: "float64")
    backends = [{"name": "packed", "variant": mask, "options": {"mask": mask}}, {"name": "integer"}]
    rows = measure(tmp_path, [], backends=backends, repeats=1, warmup=0, layers={"k": [24, 3]})
    assert values_of(rows, "packed", "mismatches") == [0]
    assert not [r for r in rows if r["metric"] == "int8_operations"]


def test_ceilings_of_the_process_are_rows_of_the_run(tmp_path):
    rows = measure(tmp_path, ["plaintext_int8"], repeats=1, warmup=0, layers={"k": [24, 3]})
    ceilings = {r["metric"]: (float(r["value"]), r["unit"], r["phase"], r["basis"]) for r in rows if "ceiling" in r["metric"]}
    assert ceilings == {
        "ceiling_int8_ops_per_s": (int8_ceiling("cpu"), "1/s", "run", "measured"),
        "ceiling_copy_bytes_per_s": (copy_ceiling("cpu"), "B/s", "run", "measured"),
    }


def test_a_layer_that_a_backend_cannot_hold_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="layer of 24 inputs and 24 outputs: glwe keeps 27 bits"):
        measure(tmp_path, ["glwe"], activation_bits=16, weight_bits=16, layers={"q": [24, 24]})
