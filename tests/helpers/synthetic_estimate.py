"""Made-up rows of a run that was estimated before it."""

RUN = {"run_id": "estimate_x", "stage": "estimate", "model": "nano", "dataset": "random_tokens", "backend": "packed"}
RUN |= {"device": "cpu", "machine": "m", "seed": 0, "status": "ok", "activation_bits": 8, "weight_bits": 8, "basis": "measured"}
STEPS, TOKENS = (9.0, 2.0, 4.0, 3.0), 64
MEASURED = {"upload_ciphertext_bytes": 4 * TOKENS * 100, "download_ciphertext_bytes": 4 * TOKENS * 50, "hint_bytes": 1000}
MEASURED |= {"hint_time_s": 2.0, "peak_memory_bytes": 4e8, "step_tokens": TOKENS}
SAID = {"step_time_s": 3.3, "upload_bytes_per_token": 100, "download_bytes_per_token": 50, "hint_bytes": 1000}
SAID |= {"hint_time_s": 1.0, "peak_memory_bytes": 3e8}
UNITS = {"step_time_s": "s", "hint_time_s": "s"}


def estimate_rows(planned=1, **said):
    found = [RUN | {"phase": "train", "step": i + 1, "metric": "step_time_s", "value": s} for i, s in enumerate(STEPS)]
    found += [RUN | {"phase": "run", "metric": name, "value": value} for name, value in MEASURED.items()]
    of = RUN | {"phase": "estimate", "basis": "extrapolated"}
    for name, value in (SAID | said).items():
        found.append(of | {"metric": f"estimated_{name}", "value": value, "unit": UNITS.get(name, "B")})
    return [*found, of | {"metric": "bytes_are_planned", "value": planned}, of | {"metric": "calibration_time_s", "value": 5.0}]
