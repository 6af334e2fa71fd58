"""Made-up rows of the stage worker_view for the tests of its table and figure. Nothing here was measured."""

from __future__ import annotations

RUN = {"questions": 2, "read_tokens": 4, "vocabulary": 100, "chance_share": 0.02, "commonest_token_count": 2}
RUN |= {"received_values": 403, "security_bits": 0}
TEXT = (" Ada", "\n")


def view_run(backend: str, recovered: int, model: str = "nano", **run) -> list[dict]:
    """Made-up rows of two questions of two tokens, of which `recovered` of the first are read back."""
    row = {"run_id": f"worker-view_{model}_{backend}", "stage": "worker_view", "model": model, "dataset": "knowledge_base"}
    row |= {"backend": backend, "device": "cpu", "machine": "here", "layer": "q", "tokens": 2, "inputs": 3, "seed": 0}
    row |= {"activation_quantizer": "dynamic_per_token", "weight_quantizer": "static_per_channel", "activation_bits": 8}
    row |= {"weight_bits": 8, "constant_rows": "exact", "status": "ok", "basis": "measured"}
    rows = [row | {"phase": "run", "metric": metric, "value": value} for metric, value in (RUN | run).items()]
    rows += [row | {"phase": "run", "metric": "top_bits_count", "sample": i, "value": 25} for i in range(16)]
    for repeat, count in enumerate((recovered, 0)):
        rows.append(row | {"phase": "question", "repeat": repeat, "metric": "recovered_tokens", "value": count})
    for step, text in enumerate(TEXT, 1):
        at = row | {"phase": "question", "repeat": 0, "step": step}
        rows.append(at | {"metric": "token", "value": step, "note": text})
        is_right = step <= recovered
        rows.append(
            at | {"metric": "recovered_token", "value": step if is_right else 9, "note": text if is_right else "$x\x07"}
        )
        rows += [at | {"metric": "received_value", "sample": i, "value": 10 * step + i} for i in range(3)]
    return rows


def view_rows() -> list[dict]:
    """Made-up rows of one text, in the clear and encrypted."""
    clear = {"received_bits": 8, "correlation": 1.0, "encrypted_matmuls": 0}
    encrypted = {"received_bits": 37, "correlation": 0.01, "encrypted_matmuls": 8, "security_bits": 128}
    return view_run("integer", 2, **clear) + view_run("packed", 0, **encrypted)
