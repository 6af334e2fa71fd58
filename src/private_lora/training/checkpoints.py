"""Checkpoints of a training run, written all or nothing, and found again only by the same run."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from pathlib import Path

import torch

from private_lora.core.files import atomic_path
from private_lora.results.fingerprints import fingerprint
from private_lora.specs.run import RunSpec


class Checkpoint:
    """The file a run resumes from: named by all that can change its numbers, code included, so another run never takes it."""

    def __init__(self, directory: Path, spec: RunSpec):
        identity = hashlib.sha256(f"{spec.to_json()} {fingerprint(spec)}".encode()).hexdigest()[:16]
        self.path = Path(directory) / f"{spec.run_id}-{identity}.pt"

    def save(self, state: dict) -> bool:
        """Whether `state`, a dictionary of tensors and plain values, has replaced the last checkpoint.

        If it could not be written, on a full disk say, the last one is as it was, and a warning says so.
        """
        try:
            with atomic_path(self.path) as temporary:
                torch.save(state, temporary)
        except (OSError, RuntimeError) as error:  # torch's writer raises the latter
            warnings.warn(f"checkpoint {self.path} could not be written, the last one stays: {error}", stacklevel=2)
            return False
        return True

    def load(self) -> dict | None:
        """The last checkpoint, or None if there is none or it cannot be read (then the run starts from the beginning)."""
        if not self.path.exists():
            return None
        try:
            return torch.load(self.path, weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            warnings.warn(f"checkpoint {self.path} cannot be read and is ignored: {error}", stacklevel=2)
            return None

    def remove(self) -> None:
        """Delete the checkpoint, once its run has written its results."""
        self.path.unlink(missing_ok=True)
