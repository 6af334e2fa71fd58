"""An estimate as text for people: what is planned, what it costs, and the verdict."""

from __future__ import annotations

from collections.abc import Iterator

from private_lora.core.units import of_bits, of_bytes, of_seconds
from private_lora.results.disturbance import DISTURBED_SHARE

WIDTHS = (22, 13, 6, 8, 10, 16, 16, 16, 9)
HEADS = ("layer", "inputs x out", "ring", "log2 Q", "failure", "MATZOV", "ADPS16", "ChaLoy21 quantum", "up/down")
PROOFS = ("matzov_bits_of_proof", "adps16_bits_of_proof", "chaloy21_quantum_bits_of_proof")


def text_of(estimate: dict) -> str:
    """The whole estimate, lines of at most 128 characters or so."""
    return "\n".join(
        [*_head(estimate), *(line for b in estimate["backends"] for line in _backend(b, estimate)), *_plain(estimate)]
    )


def _head(e: dict) -> Iterator[str]:
    run, weights = e["run"], e["weights"]
    shape = f"{run['batch_size']} x {run['sequence_length']} tokens a step, {run['steps']} steps, LoRA rank {run['lora_rank']}"
    yield f"{e['model']}: {shape}{', activations recomputed' if run['recompute'] else ''}, {e['bits'][0]}-bit integers"
    yield f"  {weights['all'] / 1e6:,.1f} M weights, of which workers hold {weights['remote'] / 1e6:,.1f} M"
    yield f"  {_network(e['network'])}; {_workers(e)}"
    yield f"  measured on this machine in {e['calibration_time_s']:.1f} s: {e['machine']}"
    if (e["others_cpu_share"] or 0.0) > DISTURBED_SHARE:
        share = f"{100 * e['others_cpu_share']:.0f} %"
        yield f"  other programs took {share} of its CPU time meanwhile, so seconds are too many: run it again when it is quiet"


def _network(network: dict | None) -> str:
    if network is None:
        return "no network: client and worker in one process"
    return f"network: {of_bits(network['bandwidth_bits_per_s'])}, {1000 * network['latency_s']:g} ms there and back"


def _workers(e: dict) -> str:
    if e["workers"] == 1:
        return "1 worker, like this machine"
    shards, rows = e.get("shards", 1), e.get("rows_per_question")
    parts = f"the blocks in {shards} parts, {e['workers'] // shards} workers each"
    asked = f"questions of {rows} rows" if rows else "a product at one of them at a time"
    return f"{e['workers']} workers, each like this machine: {parts}, {asked}"


def _backend(b: dict, e: dict) -> Iterator[str]:
    step, tokens = b["step"], e["tokens_per_step"]
    yield ""
    yield f"{b['backend']}: parameters by layer, smallest to largest over the blocks ({b['planned_from']})"
    yield _row(HEADS)
    yield from (_row(_parameters(p)) for p in b["parameters"])
    yield "  MATZOV, ADPS16, ChaLoy21 (quantum): bits of security in these cost models, of the proof for all secrets of a mask"
    yield f"{b['backend']}: cost"
    up, down = step["upload_bytes"], step["download_bytes"]
    yield _line("traffic a token", f"{of_bytes(up / tokens)} up, {of_bytes(down / tokens)} down ({b['bytes_basis']})")
    yield _line("traffic a step", f"{of_bytes(up)} up, {of_bytes(down)} down, {b['round_trips_per_step']} round trips")
    yield _line("traffic in all", of_bytes(b["total_bytes"]))
    yield _line("hints, once", f"{of_bytes(b['hint_bytes'])}, made in {of_seconds(b['hint_time_s'])}")
    client, disk = of_bytes(b["client_memory_bytes"]), of_bytes(b["client_memory_hints_on_disk_bytes"])
    yield _line(
        "memory, at least",
        f"client {client}, or {disk} with hints on disk; this machine has {of_bytes(e['machine_memory_bytes'])}",
    )
    yield _line("", f"each worker {of_bytes(b['worker_memory_bytes'])}")
    parts = ("local", "quantize", "encrypt", "decrypt", "server", "network")
    seconds = ", ".join(f"{name} {of_seconds(step[f'{name}_time_s'])}" for name in parts)
    yield _line("a step", f"{of_seconds(step['step_time_s'])}: {seconds} ({b['basis']})")
    yield _line("", f"without a network {of_seconds(b['step_in_process']['step_time_s'])}")
    yield _line("in all", of_seconds(b["total_time_s"]) + _money(b["total_money"], e))
    if b["formula"]:
        yield _line("extrapolated", b["formula"])
    yield _line("does it pay?", b["verdict"]["said"])


def _plain(e: dict) -> Iterator[str]:
    yield ""
    yield "plain LoRA on this machine, without workers: no less private, and needs no encryption"
    for line in e["plain"]:
        fits = "fits" if line["fits"] else "DOES NOT FIT"
        seconds = f"a step {of_seconds(line['step_time_s'])}, in all {of_seconds(line['total_time_s'])}"
        yield _line(line["type"], f"{seconds}{_money(line['total_money'], e)}; memory {of_bytes(line['memory_bytes'])}, {fits}")
    yield "What encryption buys is that the base model's products run on machines that must not see the text; nothing else."


def _parameters(p: dict) -> tuple[str, ...]:
    failure = "none given" if p["failure_log2"] is None else f"2^{p['failure_log2'][1]:.0f}"
    bits = f"{_span(p['upload_bits_per_value'])}/{_span(p['download_bits_per_value'])}"
    spans = [_span(p[name]) if name in p else "-" for name in PROOFS]  # an estimate that is on record may be older than they
    shape = f"{p['inputs']} x {p['outputs']}"
    ring, modulus = (_span(p[name]) for name in ("ring_size", "log2_q"))
    return (f"{p['layer']} {p['phase']}", shape, ring, modulus, failure, *spans, bits)


def _span(values: list) -> str:
    low, high = values
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _row(cells: tuple[str, ...]) -> str:
    return "  " + " ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)).rstrip()


def _line(name: str, text: str) -> str:
    return f"  {name.ljust(18)} {text}"


def _money(amount: float, e: dict) -> str:
    return f", {amount:.3g} {e['prices']['currency']}" if amount else ""
