"""Made-up rows of the stage loopback for the tests of tables and figures. Nothing here was measured or may be published."""

from __future__ import annotations

MINI, ONE = "mini-llama", "Llama-3.2-1B (random weights)"
LOSSES, EVALUATIONS = (5.5, 5.25), (5.9, 4.8)
STAGES = {"client_quantize_time_s": 0.1, "encrypt_time_s": 0.5, "matmul_time_s": 2.0, "decrypt_time_s": 0.4}
# What a run through workers counts besides: 99 % of what the interface carried are messages.
THROUGH_WORKERS = {"round_trips": 142, "retries": 0, "rejected_answers": 0, "sent_bytes": 99e6, "received_bytes": 396e6}
THROUGH_WORKERS |= {"interface_bytes": 500e6, "wait_time_s": 3.0, "verify_time_s": 0.25, "workers": 2, "tls": 1}
THROUGH_WORKERS |= {"largest_worker_memory_bytes": 6e8}
LINK = {"link_latency_s": 0.0005, "link_bandwidth_bits_per_s": 1e9, "interface_bytes": None}
SIZES = {
    MINI: {"blocks": 6, "model_blocks": 6, "step_tokens": 1024, "share_inputs": 1, "recompute": 0},
    ONE: {"blocks": 16, "model_blocks": 16, "step_tokens": 2048, "share_inputs": 0, "recompute": 1},
}


def network_run(arrangement: str, losses=LOSSES, evaluations=EVALUATIONS, columns=None, **metrics) -> list[dict]:
    """Rows of one made-up run; `metrics` on top of what its kind counts, None to leave one out."""
    row = {
        "stage": "loopback",
        "model": MINI,
        "dataset": "math_problems",
        "backend": "packed",
        "device": "cpu",
        "machine": "here",
    }
    row |= {"activation_quantizer": "dynamic_per_token", "weight_quantizer": "static_per_channel", "activation_bits": 8}
    row |= {"weight_bits": 8, "constant_rows": "exact", "variant": arrangement, "seed": 0, "status": "ok", "basis": "measured"}
    row |= columns or {}
    name = f"loopback-{row['model']}-{row['backend']}-{arrangement}-{row['seed']}"
    row |= {"run_id": name.replace(" (random weights)", "-random-weights").replace(" ", "-")}
    local = "in process" in arrangement
    counted = STAGES | SIZES[row["model"]] | {"lora_rank": 8, "peak_memory_bytes": 8e8 if local else 7e8}
    counted |= ({} if local else THROUGH_WORKERS) | metrics
    rows = [row | {"phase": "run", "metric": name, "value": value} for name, value in counted.items() if value is not None]
    for step, value in zip((0, len(losses)), evaluations, strict=False):
        rows.append(row | {"phase": "eval", "step": step, "metric": "loss", "value": value})
    for step, value in enumerate(losses, 1):
        train = {"loss": value, "step_time_s": 0.5 if local else 1.0 + 0.5 * step}
        train["step_cpu_time_s"] = 1.6 * train["step_time_s"] if local else 0.25 * train["step_time_s"]
        rows += [row | {"phase": "train", "step": step, "metric": name, "value": number} for name, number in train.items()]
    return rows


def alone_rows() -> list[dict]:
    """Made-up runs of one step by the client alone, in each type of weights, and `packed` through a worker."""
    rows = []
    for dtype, peak in (("", 8e8), ("bfloat16", 7e8), ("int8", 6.5e8), ("int4", 6e8)):
        options = {"options": f'{{"dtype":"{dtype}"}}' if dtype else ""}
        name = f"{dtype} in process".strip()
        rows += network_run(name, LOSSES * 2, (), {"backend": "float"} | options, peak_memory_bytes=peak)
    rows += network_run("in process", LOSSES * 2, (), {"backend": "integer"}, peak_memory_bytes=9e8)
    link = LINK | {"workers": 1, "peak_memory_bytes": 5e8}
    return rows + network_run("1 worker over 1 Gbit/s", LOSSES * 2, (), **link)


def network_rows() -> list[dict]:
    """Made-up arrangements of mini-llama beside the run in process, and one of a full-size model without one."""
    rows = network_run("in process") + network_run("1 worker", workers=1)
    rows += network_run("2 shards and a replica", workers=3, rows_per_question=512, peak_memory_bytes=7.5e8)
    rows += network_run("2 shards over 1 Gbit/s", wait_time_s=9.0, **LINK)
    return rows + network_run("2 shards", columns={"model": ONE, "dataset": "random_tokens"}, peak_memory_bytes=5e9)
