"""Transformer blocks as text: `3`, `0-7` or `0-3,8-11`."""

from __future__ import annotations

import re

from private_lora.core.errors import UserError


def parse_range(text: str) -> set[int]:
    """Blocks of `3` or `0-7`; raises UserError otherwise."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    if not match:
        raise UserError(f"{text!r} is no block or range of blocks, such as 3 or 0-7")
    first, last = int(match[1]), int(match[2] or match[1])
    if last < first:
        raise UserError(f"the range {text!r} ends before it begins")
    return set(range(first, last + 1))


def parse_ranges(text: str) -> set[int] | None:
    """Blocks of `0-3,8-11`; None, all of them, for no text. Raises UserError on what is no range, or lists a block twice."""
    if not text:
        return None
    found: set[int] = set()
    for part in text.split(","):
        blocks = parse_range(part)
        if found & blocks:
            raise UserError(f"{text!r} lists block {min(found & blocks)} twice")
        found |= blocks
    return found
