"""Made-up rows of the stage generation for the tests of its table. Nothing here was measured or may be published."""

from __future__ import annotations

SECONDS = (2.0, 1.0, 0.5, 0.75, 0.25)
TEXT = (7, 8, 9, 10, 11)
TOKEN = {"client_quantize_time_s": 0.01, "encrypt_time_s": 0.02, "matmul_time_s": 0.1, "wait_time_s": 0.15}
TOKEN |= {"decrypt_time_s": 0.03, "verify_time_s": 0.0, "offline_time_s": 0.005, "remote_matmuls": 24}
RUN = {"prompt_tokens": 16, "new_tokens": 5, "blocks": 6, "share_inputs": 1, "security_bits": 128, "peak_memory_bytes": 8e8}
THROUGH_WORKERS = {"workers": 2, "tls": 1, "largest_worker_memory_bytes": 6e8}
QUANTIZED = {"activation_quantizer": "dynamic_per_token", "weight_quantizer": "static_per_channel", "activation_bits": 8}
QUANTIZED |= {"weight_bits": 8, "constant_rows": "exact"}


def generation_run(backend: str, arrangement: str = "in process", factor: float = 1.0, text=TEXT) -> list[dict]:
    """Rows of one made-up text, whose tokens take `factor` times SECONDS."""
    row = {"stage": "generation", "model": "mini-llama", "dataset": "random_tokens", "backend": backend, "device": "cpu"}
    row |= {"machine": "here", "variant": arrangement, "seed": 0, "status": "ok", "basis": "measured"}
    row |= {} if backend == "float" else QUANTIZED
    row |= {"run_id": f"generation_mini-llama_{backend}_{arrangement}".replace(" ", "-")}
    remote, encrypted = arrangement != "in process", backend == "packed"
    token = TOKEN | {"round_trips": 24 * remote, "encrypted_matmuls": 24 * encrypted}
    token |= {"upload_ciphertext_bytes": 2e5 * encrypted, "download_ciphertext_bytes": 4e5 * encrypted}
    token |= {"sent_bytes": 2.5e5 * remote, "received_bytes": 4.5e5 * remote}
    rows = [row | {"phase": "setup", "metric": "setup_time_s", "value": 3.0}]
    for metric, value in (RUN | (THROUGH_WORKERS if remote else {})).items():
        rows.append(row | {"phase": "run", "metric": metric, "value": value})
    for step, (seconds, token_id) in enumerate(zip(SECONDS, text, strict=True), 1):
        measured = token | {"token_time_s": factor * seconds, "token_id": token_id}
        at = {"phase": "token", "repeat": 0, "step": step}
        rows += [row | at | {"metric": metric, "value": value} for metric, value in measured.items()]
    return rows


def generation_rows() -> list[dict]:
    """Made-up texts in process, and one through workers."""
    rows = generation_run("float") + generation_run("integer", factor=0.5) + generation_run("packed", factor=2.0)
    return rows + generation_run("packed", "2 shards", 4.0, (*TEXT[:3], 0, 0))
