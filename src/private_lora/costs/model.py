"""Cost of one training step from what its parts cost: arithmetic alone, without rows. Imports neither torch nor pandas."""

from __future__ import annotations

from dataclasses import dataclass

from private_lora.models.shapes import Architecture
from private_lora.specs.grouping import READS_BLOCK_INPUT, groups, joint_name

APART, JOINT = "apart", "joint"
SECONDS_PER_HOUR, BITS_PER_BYTE, BYTES_PER_GB = 3600, 8, 1e9
TIMES = ("encrypt_time_s", "matmul_time_s", "decrypt_time_s")
SIZES = ("upload_ciphertext_bytes", "download_ciphertext_bytes")
# `kind` of a line of costs.csv: a prediction, that of a step that was measured, or an assumed price, named in `formula`.
PREDICTION, VALIDATION, PRICE = "prediction", "validation", "price"


@dataclass(frozen=True)
class Product:
    """A remote product of K inputs and D outputs. times: how often it occurs in a step."""

    layer: str
    phase: str
    inputs: int
    outputs: int
    times: int


@dataclass(frozen=True)
class Work:
    """What one step takes, whatever lies between client and workers: seconds by operation, bytes, calls one after the other.

    local_s: the client's own part without quantization. remote: whether workers multiply; else the client does it itself.
    """

    tokens: int
    local_s: float
    quantize_s: float
    encrypt_s: float
    matmul_s: float
    decrypt_s: float
    upload_bytes: float
    download_bytes: float
    round_trips: int
    remote: bool = True


def products_of(architecture: Architecture, inputs: str, blocks: int) -> list[Product]:
    """All remote products of a step through so many blocks; inputs: `joint` where q, k, v and gate, up are one, or `apart`."""
    layers = architecture.layers
    products = []
    for names in groups(layers, inputs == JOINT):
        name, k, d = joint_name(names), layers[names[0]][0], sum(layers[n][1] for n in names)
        first = int(any(n in READS_BLOCK_INPUT for n in names))
        products += [Product(name, "forward", k, d, blocks), Product(name, "backward", d, k, blocks - first)]
    return products


def predict(work: Work, network: dict | None, workers: int, prices: dict) -> dict:
    """Columns of a prediction: seconds, bytes and money of a step, and what limits it.

    network: name, bandwidth_bits_per_s and latency_s (there and back); None: everything in one process. workers: the outputs
    of each product are split evenly over them; each is sent the whole upload. Workers and client are paid while the step lasts.
    """
    server = work.matmul_s / workers if work.remote else 0.0
    client = work.local_s + work.quantize_s + work.encrypt_s + work.decrypt_s + (0.0 if work.remote else work.matmul_s)
    upload = work.upload_bytes * workers if work.remote else 0.0
    wire = transfer_time(upload + work.download_bytes, work.round_trips, network)
    shares = {"client": client, "server": server, "network": wire}
    seconds = sum(shares.values())
    line = _parts(work) | {f"{name}_time_s": value for name, value in shares.items()}
    line |= {"upload_bytes": upload, "download_bytes": work.download_bytes, "round_trips": work.round_trips}
    line |= {"step_time_s": seconds, "overlapped_step_time_s": max(shares.values()), "tokens_per_s": work.tokens / seconds}
    line |= {f"{way}_bytes_per_token": line[f"{way}_bytes"] / work.tokens for way in ("upload", "download")}
    paid = money(seconds, upload + work.download_bytes, workers if work.remote else 0, prices)
    line |= {"money_per_step": paid, "money_per_million_tokens": paid / work.tokens * 1e6, "currency": prices["currency"]}
    return line | {"limited_by": max(shares, key=shares.get)}


def _parts(work: Work) -> dict:
    names = ("local", "quantize", "encrypt", "matmul", "decrypt")
    return {"tokens": work.tokens} | {f"{name}_time_s": getattr(work, f"{name}_s") for name in names}


def transfer_time(size: float, round_trips: float, network: dict | None) -> float:
    """Seconds that `size` bytes and the round trips take; 0 without a network."""
    if network is None:
        return 0.0
    return size * BITS_PER_BYTE / network["bandwidth_bits_per_s"] + round_trips * network["latency_s"]


def money(seconds: float, size: float, workers: int, prices: dict) -> float:
    """Price of a step: hours of the workers and of the client, and the traffic."""
    per_hour = workers * prices["worker_per_hour"] + prices["client_per_hour"]
    return seconds / SECONDS_PER_HOUR * per_hour + size / BYTES_PER_GB * prices["traffic_per_gb"]
