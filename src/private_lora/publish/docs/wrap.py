"""Paragraphs of Markdown in lines of one width: values that are filled in leave lines of any."""

from __future__ import annotations

import re
import textwrap

WIDTH = 128
# Blocks that begin so are no prose whose lines can be joined: headings, tables, quotes, tags, fences, numbered lists.
_KEPT = re.compile(r"\s*([#|>]|</?[a-zA-Z!]|```|\d+\.\s)|    ")
# What would mean something else at the beginning of a line.
_MARKS = re.compile(r"\s*([-+*#>|=]|\d+[.)])(\s|$)")
# No line ends between a number and its unit.
_UNIT = re.compile(r"(?<=\d) (?=(?:s|ms|kB|MB|GB|%|bits|nats|tokens)\b|%)")
_GLUE = "\N{NO-BREAK SPACE}"


def wrap(text: str) -> str:
    """The text with its paragraphs and bullets filled; everything else as it is."""
    blocks, fenced = [], False
    for block in text.split("\n\n"):
        prose = not fenced and "```" not in block
        fenced ^= block.count("```") % 2 == 1
        blocks.append("\n".join(_fill(part) for part in _parts(block)) if prose else block)
    return "\n\n".join(blocks)


def _parts(block: str) -> list[str]:
    """The paragraph, or the bullets one by one."""
    return re.split(r"\n(?=- )", block)


def _fill(part: str) -> str:
    if any(_KEPT.match(line) for line in part.splitlines()) or "  \n" in part:
        return part
    indent = "  " if part.startswith("- ") else ""
    how = {"width": WIDTH, "break_long_words": False, "break_on_hyphens": False, "subsequent_indent": indent}
    filled = textwrap.fill(_UNIT.sub(_GLUE, " ".join(part.split())), **how).replace(_GLUE, " ")
    return part if any(_MARKS.match(line) for line in filled.splitlines()[1:]) else filled
