"""Memory of client and worker, and of plain LoRA, from sizes: arithmetic alone, in bytes."""

from __future__ import annotations

from dataclasses import dataclass

from private_lora.models.shapes import Architecture

FLOAT32, INT64 = 4, 8
# An adapter's weight, its gradient and AdamW's two moments, float32.
TRAINED = 4 * FLOAT32
# Logits, their softmax and its gradient, of as many rows as are taken at once (`training.head`).
LOGITS_AT_ONCE, CHUNK_ROWS, LOGIT_COPIES = 2**24, 256, 3
SLOTS = 512  # of a pad (`crypto.pads`); a slot keeps at most 8 bytes of each value until it is used
PAD_BYTES = 5
# Products of one block of rows and columns, int32 (`crypto.planes`).
SERVER_BUFFER = 2560 * 2048 * FLOAT32
# Bytes of a weight that is kept once, by the type of its products; scales of groups of 64 count in the last.
WEIGHT_BYTES = {"float32": 4.0, "bf16": 2.0, "int8": 1.0, "4-bit": 0.53125}


@dataclass(frozen=True)
class Sizes:
    """What memory depends on. tokens: of a step. activations: bytes that a block keeps, at so many tokens, without recomputing.
    libraries: of a process that has imported what it needs.
    """

    architecture: Architecture
    tokens: int
    rank: int
    recompute: bool
    activations: float
    libraries: float

    @property
    def shared(self) -> float:
        """What every way of training has in memory: libraries, embedding and head, adapter, activations, logits."""
        a = self.architecture
        return self.libraries + FLOAT32 * a.client_weights + TRAINED * a.adapter_weights(self.rank) + self.kept + self.logits

    @property
    def kept(self) -> float:
        """Activations of all blocks; recomputed, a block keeps its input and the answers of its products, and one keeps all."""
        a = self.architecture
        if not self.recompute:
            return a.blocks * self.activations
        values = a.hidden + sum(outputs for _, outputs in a.layers.values())
        return a.blocks * self.tokens * FLOAT32 * values + self.activations

    @property
    def logits(self) -> float:
        """The largest tensors at the end of a pass forward."""
        rows = self.tokens if self.tokens * self.architecture.vocabulary <= LOGITS_AT_ONCE else min(self.tokens, CHUNK_ROWS)
        return LOGIT_COPIES * FLOAT32 * rows * self.architecture.vocabulary

    def plain(self, kind: str) -> float:
        """LoRA in the clear on this machine, weights of one of WEIGHT_BYTES."""
        return self.shared + WEIGHT_BYTES[kind] * self.architecture.remote_weights

    def client(self, products, hint_bytes: float) -> float:
        """The data owner: hints, pads that wait for rows, and the largest product on its way. products: `PlannedProduct`s."""
        waiting = sum(_pad(p.shape, SLOTS) for p in products) if self.tokens % SLOTS else 0
        return self.shared + hint_bytes + waiting + max(self._on_its_way(p.shape) for p in products)

    def _on_its_way(self, shape: tuple[int, int]) -> float:
        """A product's rows as floats and integers, its pad, message planes, answer as integers and as floats."""
        inputs, outputs = shape
        planes = 6
        return _pad(shape, self.tokens) + self.tokens * (
            (FLOAT32 + 1 + planes) * inputs + (FLOAT32 + INT64 + FLOAT32) * outputs
        )

    def worker(self, products, shards: int) -> float:
        """One that holds one of so many parts of the blocks: both int8 copies of its weights, and a product's buffers."""
        held = sum(p.held * p.shape[0] * p.shape[1] for p in products)
        held *= -(-self.architecture.blocks // shards) / self.architecture.blocks
        largest = max(self.tokens * (6 * p.shape[0] + FLOAT32 * p.shape[1]) for p in products)
        return self.libraries + held + largest + SERVER_BUFFER


def _pad(shape: tuple[int, int], rows: int) -> float:
    """Pads of so many rows: A s + e by input, (A W) s by output."""
    slots = -(-rows // SLOTS) * SLOTS
    return slots * (PAD_BYTES * shape[0] + FLOAT32 * shape[1])
