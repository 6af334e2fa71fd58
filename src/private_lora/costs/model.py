"""Cost of one training step from what its parts cost: arithmetic alone, without rows. Imports neither torch nor pandas."""

from __future__ import annotations

from dataclasses import dataclass, replace

from private_lora.costs.arrangement import BITS_PER_BYTE, Arrangement, Asked, Wire, product_seconds
from private_lora.models.shapes import Architecture
from private_lora.specs.grouping import READS_BLOCK_INPUT, groups, joint_name

APART, JOINT = "apart", "joint"
SECONDS_PER_HOUR, BYTES_PER_GB = 3600, 1e9
TIMES = ("encrypt_time_s", "matmul_time_s", "decrypt_time_s")
SIZES = ("upload_ciphertext_bytes", "download_ciphertext_bytes")
# `kind` of a line of costs.csv: a prediction, that of a step that was measured, or an assumed price, named in `formula`.
PREDICTION, VALIDATION, PRICE = "prediction", "validation", "price"
IN_PROCESS = "in process"


@dataclass(frozen=True)
class Product:
    """A remote product of K inputs and D outputs. times: how often it occurs in a step."""

    layer: str
    phase: str
    inputs: int
    outputs: int
    times: int


@dataclass(frozen=True)
class Part:
    """A product of a step: how often it occurs, and seconds and bytes of all its rows."""

    times: float
    encrypt_s: float
    matmul_s: float
    decrypt_s: float
    upload_bytes: float = 0.0
    download_bytes: float = 0.0


@dataclass(frozen=True)
class Work:
    """What one step takes, whatever lies between client and workers: the client's own seconds, and the products one by one.

    local_s: the client's own part without quantization. handling_s_per_byte: of a message, beside the wire (serialization, TLS,
    check), at both ends together. remote: whether workers multiply; else the client does it itself.
    """

    tokens: int
    local_s: float
    quantize_s: float
    parts: tuple[Part, ...]
    remote: bool = True
    handling_s_per_byte: float = 0.0

    def total(self, name: str) -> float:
        """Of a field of the parts, over the step."""
        return sum(part.times * getattr(part, name) for part in self.parts)

    @property
    def calls(self) -> float:
        """Products sent away."""
        return sum(part.times for part in self.parts) if self.remote else 0

    def with_bytes(self, upload: float, download: float) -> Work:
        """The same with so many bytes in all, in proportion."""
        up, down = upload / self.total("upload_bytes"), download / self.total("download_bytes")
        sized = [
            replace(part, upload_bytes=up * part.upload_bytes, download_bytes=down * part.download_bytes) for part in self.parts
        ]
        return replace(self, parts=tuple(sized))


def products_of(architecture: Architecture, inputs: str, blocks: int) -> list[Product]:
    """All remote products of a step through so many blocks; inputs: `joint` where q, k, v and gate, up are one, or `apart`."""
    layers = architecture.layers
    products = []
    for names in groups(layers, inputs == JOINT):
        name, k, d = joint_name(names), layers[names[0]][0], sum(layers[n][1] for n in names)
        first = int(any(n in READS_BLOCK_INPUT for n in names))
        products += [Product(name, "forward", k, d, blocks), Product(name, "backward", d, k, blocks - first)]
    return products


def predict(work: Work, network: dict | None, how: Arrangement | None, prices: dict) -> dict:
    """Columns of a prediction: seconds, bytes and money of a step, and what limits it.

    network: name, bandwidth_bits_per_s and latency_s (there and back), or None. how: the workers; None: everything in one
    process. Shards make a worker smaller and no step faster. Workers and client are paid while the step lasts, idle or not.
    """
    inside = how is None or not work.remote
    how = Arrangement() if inside else how
    upload, download = (work.total(f"{way}_bytes") if work.remote else 0.0 for way in ("upload", "download"))
    handling = 0.0 if inside else work.handling_s_per_byte * (upload + download)
    shares = sum(share * how.largest_share(work.tokens, holders) for holders, share in how.holders)
    client = work.local_s + work.quantize_s + work.total("encrypt_s") + work.total("decrypt_s")
    client, server = (client, shares * work.total("matmul_s")) if work.remote else (client + work.total("matmul_s"), 0.0)
    questions = work.calls * len(how.questions(work.tokens))
    ways = [transfer_time(size * (shares if how.own_links else 1), 0, network) for size in (upload, download)]
    wire = transfer_time(0, questions, network) + sum(ways)
    named = {"client": client, "server": server, "network": wire, "handling": handling}
    seconds = client + server if inside else _seconds(work, Wire.of(network), how)
    line = _parts(work) | {f"{name}_time_s": value for name, value in named.items()}
    line |= {"upload_bytes": upload, "download_bytes": download, "round_trips": questions}
    least = max(client, server, *ways)
    line |= {"step_time_s": seconds, "overlapped_step_time_s": least, "tokens_per_s": work.tokens / seconds}
    line |= {f"{way}_bytes_per_token": line[f"{way}_bytes"] / work.tokens for way in ("upload", "download")}
    paid = money(seconds, upload + download, how.workers if work.remote else 0, prices)
    line |= {"money_per_step": paid, "money_per_million_tokens": paid / work.tokens * 1e6, "currency": prices["currency"]}
    return line | {"limited_by": max(named, key=named.get)}


def _seconds(work: Work, wire: Wire, how: Arrangement) -> float:
    """Of a step: the client's own work, then product after product."""
    seconds = work.local_s + work.quantize_s
    for part in work.parts:
        size = part.upload_bytes + part.download_bytes
        times = part.encrypt_s, part.matmul_s, part.decrypt_s
        asked = Asked(*times, part.upload_bytes, part.download_bytes, work.handling_s_per_byte * size)
        for holders, share in how.holders:
            seconds += part.times * share * product_seconds(asked, work.tokens, wire, how, holders)
    return seconds


def _parts(work: Work) -> dict:
    columns = {"tokens": work.tokens, "local_time_s": work.local_s, "quantize_time_s": work.quantize_s}
    return columns | {f"{name}_time_s": work.total(f"{name}_s") for name in ("encrypt", "matmul", "decrypt")}


def transfer_time(size: float, round_trips: float, network: dict | None) -> float:
    """Seconds that `size` bytes and the round trips take; 0 without a network."""
    if network is None:
        return 0.0
    return size * BITS_PER_BYTE / network["bandwidth_bits_per_s"] + round_trips * network["latency_s"]


def money(seconds: float, size: float, workers: int, prices: dict) -> float:
    """Price of a step: hours of the workers and of the client, and the traffic."""
    per_hour = workers * prices["worker_per_hour"] + prices["client_per_hour"]
    return seconds / SECONDS_PER_HOUR * per_hour + size / BYTES_PER_GB * prices["traffic_per_gb"]
