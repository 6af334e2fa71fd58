"""Where this checkout has what is no code."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parents[1]
RESOURCES = ROOT / "resources"
