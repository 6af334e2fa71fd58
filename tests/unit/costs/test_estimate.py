"""From a calibration's rows to an estimate: by hand, and the verdict both ways."""

import dataclasses

import pytest

from private_lora.backends import load
from private_lora.costs import plans
from private_lora.costs.arrangement import Arrangement
from private_lora.costs.estimate import Asked, estimate, local_model_name
from private_lora.costs.model import JOINT, products_of
from private_lora.costs.plans import plan_model
from private_lora.models.local import local_model
from private_lora.results.recorder import Recorder
from private_lora.specs.run import RunSpec
from private_lora.training.preparation import quantization_of

TOKENS, STEPS = 128, 10
PRICES = {"currency": "EUR", "worker_per_hour": 3.6, "client_per_hour": 7.2, "traffic_per_gb": 10.0, "note": "made up"}
NETWORK = {"name": "n", "bandwidth_bits_per_s": 8e6, "latency_s": 0.5}
PLAINTEXT = ("float32", "float32_onednn", "bf16", "int8", "int8_prepacked", "int4")
LOCAL = {"tokens": 64, "base_s": 0.25, "block_s": 0.5, "activation_bytes": 1e6, "library_bytes": 5e8}
# Seconds of an operation by its size: of inputs, of outputs, of both.
ENCRYPT, DECRYPT, SERVER, QUANTIZE, HINT, MASK = 1e-4, 2e-4, 1e-6, 1e-5, 1e-5, 3e-4


def rows_of(shapes, plain, cut=1) -> list[dict]:
    """Rows of a calibration that multiplied one of `cut` columns of every shape. plain: seconds by inputs times outputs."""
    recorder = Recorder({"run_id": "estimate", "stage": "estimate", "machine": "m", "device": "cpu", "tokens": TOKENS})
    for k, d in shapes:
        of = {"inputs": k, "outputs": d // cut, "note": str(d), "phase": "forward"}
        times = {"encrypt_time_s": ENCRYPT * k, "decrypt_time_s": DECRYPT * d / cut, "matmul_time_s": SERVER * k * d / cut}
        times |= {"client_quantize_time_s": QUANTIZE * (k + d / cut), "hint_time_s": MASK * k + HINT * k * d / cut}
        times |= {"hint_mask_time_s": MASK * k}
        for metric, value in times.items():
            recorder.add(metric, value, "s", backend="packed", activation_bits=8, weight_bits=8, **of)
        for name in PLAINTEXT:
            recorder.add("matmul_time_s", plain * k * d / cut, "s", backend=f"plaintext_{name}", **of)
    return recorder.rows


@pytest.fixture(scope="module")
def asked():
    run = RunSpec(
        run_id="estimate",
        model="nano",
        weights="random",
        data="random_tokens",
        backend="packed",
        activation_bits=8,
        weight_bits=8,
        batch_size=2,
        sequence_length=TOKENS // 2,
        steps=STEPS,
    )
    with local_model("nano") as model:
        yield Asked(run, model, Arrangement(), NETWORK, PRICES, 16e9)


@pytest.fixture(scope="module")
def plan(asked):
    return plan_model(asked.model, load("packed"), quantization_of(asked.run), TOKENS)


def estimated(asked, plan, plain=1e-7, cut=1, rows=None) -> dict:
    rows = rows or rows_of({p.shape for p in plan.products}, plain, cut)
    return estimate(asked, {"packed": plan}, rows, LOCAL | {"model": local_model_name(asked.model)})


def sums(asked) -> tuple[int, int, int, int]:
    """Inputs, outputs and products of both over a step, and calls."""
    products = products_of(asked.model.architecture, JOINT, asked.model.architecture.blocks)
    return tuple(
        sum(p.times * f(p) for p in products)
        for f in (lambda p: p.inputs, lambda p: p.outputs, lambda p: p.inputs * p.outputs, lambda p: 1)
    )


def test_a_step_by_hand(asked, plan):
    inputs, outputs, weights, calls = sums(asked)
    found = estimated(asked, plan)
    (backend,) = found["backends"]
    step, blocks = backend["step"], asked.model.architecture.blocks
    assert step["encrypt_time_s"] == pytest.approx(ENCRYPT * inputs)
    assert step["decrypt_time_s"] == pytest.approx(DECRYPT * outputs)
    assert step["server_time_s"] == pytest.approx(SERVER * weights)
    assert step["quantize_time_s"] == pytest.approx(QUANTIZE * (inputs + outputs))
    assert step["local_time_s"] == pytest.approx(2 * (0.25 + blocks * 0.5))  # of twice the tokens that were measured
    up, down = (sum(p.times * p.message_bytes[way] for p in plan.products) for way in (0, 1))
    assert (step["upload_bytes"], step["download_bytes"]) == (up, down)
    assert step["network_time_s"] == pytest.approx((up + down) / 1e6 + calls * 0.5)
    parts = ("local", "quantize", "encrypt", "decrypt", "server", "network")
    assert step["step_time_s"] == pytest.approx(sum(step[f"{name}_time_s"] for name in parts))
    assert backend["step_in_process"]["step_time_s"] == pytest.approx(step["step_time_s"] - step["network_time_s"])
    held = sum(p.held * p.shape[0] * p.shape[1] for p in plan.products)
    assert held == 2 * asked.model.architecture.remote_weights
    hints = HINT * held + MASK * sum(p.held * p.shape[0] for p in plan.products)
    assert backend["hint_time_s"] == pytest.approx(hints)
    assert backend["total_time_s"] == pytest.approx(STEPS * step["step_time_s"] + hints)
    # A second of client and worker costs 0.003, of the client alone 0.002; a GB costs 10.
    money = STEPS * (step["step_time_s"] * 0.003 + (up + down) / 1e8) + hints * 0.002
    assert backend["total_money"] == pytest.approx(money)
    assert backend["bytes_basis"] == "exact"


def test_a_part_of_the_columns_stands_for_all(asked, plan):
    (whole,), (part,) = (estimated(asked, plan, cut=cut)["backends"] for cut in (1, 4))
    for name in ("encrypt", "decrypt", "server", "quantize", "local", "network"):
        at_least = pytest.approx(whole["step"][f"{name}_time_s"])
        assert part["step"][f"{name}_time_s"] == at_least, name
    assert part["hint_time_s"] == pytest.approx(whole["hint_time_s"])
    assert "columns of a layer over those measured" in part["formula"]
    assert (part["basis"], whole["basis"]) == ("extrapolated", "extrapolated")  # of the local work's tokens


def test_shards_share_the_weights_and_no_time(asked, plan):
    (one,), (two,) = (estimated(dataclasses.replace(asked, how=Arrangement.of(n, 1)), plan)["backends"] for n in (1, 2))
    for name in ("server_time_s", "upload_bytes", "step_time_s"):
        assert two["step"][name] == one["step"][name]
    assert two["worker_memory_bytes"] < one["worker_memory_bytes"]
    assert two["total_money"] > one["total_money"]


def test_replicas_share_the_rows_of_a_product(asked, plan):
    halves = Arrangement.of(1, 2, TOKENS // 2)
    (one,), (two,) = (estimated(dataclasses.replace(asked, how=how), plan)["backends"] for how in (Arrangement(), halves))
    assert two["step"]["server_time_s"] == pytest.approx(one["step"]["server_time_s"] / 2)
    assert two["step"]["upload_bytes"] == one["step"]["upload_bytes"]
    assert two["step"]["step_time_s"] < one["step"]["step_time_s"]
    assert two["worker_memory_bytes"] == one["worker_memory_bytes"]


def test_plain_lora_by_hand(asked, plan):
    _, _, weights, _ = sums(asked)
    found = estimated(asked, plan, plain=1e-6)
    local = found["local_work"]["seconds_per_step"]
    quantize = found["backends"][0]["step"]["quantize_time_s"]
    for line in found["plain"]:
        extra = quantize if line["type"] == "int8" else 0.0
        assert line["step_time_s"] == pytest.approx(local + 1e-6 * weights + extra), line["type"]
        assert line["total_money"] == pytest.approx(STEPS * line["step_time_s"] * 0.002)
    memory = {line["type"]: line["memory_bytes"] for line in found["plain"]}
    assert memory["float32 (torch)"] - memory["bf16"] == 2 * asked.model.architecture.remote_weights
    assert memory["4-bit"] == min(memory.values())


def test_no_where_plain_lora_is_faster(asked, plan):
    found = estimated(asked, plan)["backends"][0]["verdict"]
    assert (found["outsource"], found["reason"]) == (False, "time")
    assert found["said"].startswith("no: the training takes ") and "times as long" in found["said"]


def test_yes_where_products_at_home_take_longer(asked, plan):
    fast = dataclasses.replace(asked, network=NETWORK | {"bandwidth_bits_per_s": 1e10, "latency_s": 0.0})
    assert not estimated(fast, plan, plain=1e-6)["backends"][0]["verdict"]["outsource"]
    found = estimated(fast, plan, plain=1e-4)["backends"][0]["verdict"]
    assert (found["outsource"], found["reason"]) == (True, "time")
    # The same machine behind a slow network.
    assert not estimated(dataclasses.replace(asked, network=NETWORK | {"bandwidth_bits_per_s": 1e4}), plan, plain=1e-4)[
        "backends"
    ][0]["verdict"]["outsource"]


def test_memory_decides_where_nothing_else_fits(asked, plan):
    tight = dataclasses.replace(asked, machine_memory=1e8)
    found = estimated(tight, plan)["backends"][0]
    assert (found["verdict"]["outsource"], found["verdict"]["reason"]) == (False, "memory")
    assert found["hints_on_disk"] and "its client takes" in found["verdict"]["said"]


def test_yes_where_only_the_client_of_a_large_model_fits(monkeypatch):
    """Of Llama-3.1-70B at few tokens, the client with hints on disk takes less than its weights in 4 bits."""
    monkeypatch.setattr(plans, "DRAWN", 2**18)
    fields = {"run_id": "estimate", "model": "Llama-3.1-70B", "weights": "random", "data": "random_tokens", "backend": "packed"}
    fields |= {"activation_bits": 8, "weight_bits": 8, "batch_size": 1, "sequence_length": TOKENS, "recompute": True}
    run = RunSpec(**fields)
    with local_model(run.model) as model:
        asked = Asked(run, model, Arrangement(), NETWORK, PRICES, 30e9)
        plan = plan_model(model, load("packed"), quantization_of(run), TOKENS)
        local = LOCAL | {"model": local_model_name(model)}
        found = estimate(asked, {"packed": plan}, rows_of({p.shape for p in plan.products}, 1e-9), local)
    backend = found["backends"][0]
    assert (backend["verdict"]["outsource"], backend["verdict"]["reason"]) == (True, "memory")
    assert local["model"] == "Llama-3.2-1B" and "Llama-3.2-1B's, block x" in backend["formula"]
    assert not any(line["fits"] for line in found["plain"])
