"""A table's files: CSV with raw numbers; Markdown, LaTeX and HTML with numbers rounded for reading."""

from __future__ import annotations

import html
import math
import numbers
import re
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

# Quantities whose distance from 1 is the message, and which four digits would round away.
FINE_GRAINED = ("ratio", "over", "spread")
# Columns of the CSV alone: what leads from a line back to its runs and their code.
CSV_ONLY = ("commits", "run_ids")
# A number of bits says nothing without the cost model that it is counted in.
WHICH_BITS = (
    "security bits: those that the parameters were chosen for, in the cost model that decided (MATZOV unless the options say "
    "another; of glwe, its authors' claim); table `security` has the bits in each cost model."
)
# As `format_cell` writes it, with or without limits behind it.
NUMBER = re.compile(r"-?(\d[\d,.]*(e[-+]?\d+)?|inf)( \[|$)")
TEX_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
} | {c: "\\" + c for c in "&%$#_{}"}
STYLE = (
    "body{font:14px sans-serif;margin:1em}h1{font-size:16px}table{border-collapse:collapse}"
    "th,td{padding:.25em .7em;border-bottom:1px solid #ddd;text-align:left;white-space:nowrap}"
    "th{border-bottom:2px solid #444;position:sticky;top:0;background:#fff}td.n{text-align:right}"
)


def is_empty(value) -> bool:
    """True for a missing value: None, NaN or an empty text."""
    return value is None or value == "" or (isinstance(value, numbers.Real) and math.isnan(value))


def format_cell(value, digits: int = 4) -> str:
    """The value as text: whole numbers whole, others to `digits` significant digits, missing ones empty."""
    if is_empty(value):
        return ""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return str(value)
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}" if abs(value) >= 10_000 else str(int(value))
    if abs(value) >= 10**digits:
        return f"{value:,.0f}"
    return f"{value:#.{digits}g}".rstrip(".") if abs(value) >= 1e-3 else f"{value:.{digits - 1}g}"


def for_reading(table: pd.DataFrame) -> pd.DataFrame:
    """The table as texts, with the ends of spreads and intervals in the cells they belong to.

    Empty columns and CSV_ONLY are left out.
    """
    shown = {}
    ends = {column: ends_of(column, table) for column in table.columns}
    left_out = {name for pair in ends.values() for name in pair} | set(CSV_ONLY)
    for column in table.columns.drop(list(left_out), errors="ignore"):
        cells = [text_of(column, value) for value in table[column]]
        if ends[column]:
            limits = zip(cells, *(table[name] for name in ends[column]), strict=True)
            cells = [_with_limits(c, text_of(column, a), text_of(column, b)) for c, a, b in limits]
        if any(cells) or column == "basis":
            shown[column.replace("_", " ")] = cells
    return pd.DataFrame(shown)


def text_of(column: str, value) -> str:
    """The value as the column shows it: ratios to five significant digits, anything else to four."""
    return format_cell(value, 5 if any(word in column for word in FINE_GRAINED) else 4)


def ends_of(column: str, columns: Iterable[str]) -> tuple[str, ...]:
    """Columns with the ends of this one's spread (X_min, X_max of X_mean or X_median) or interval (X_low, X_high of X)."""
    base, _, kind = column.rpartition("_")
    pairs = [(f"{base}_min", f"{base}_max")] if kind in ("mean", "median") else []
    pairs.append((f"{column}_low", f"{column}_high"))
    return next((pair for pair in pairs if set(pair) <= set(columns)), ())


def _with_limits(middle: str, low: str, high: str) -> str:
    return middle if not middle or low == high else f"{middle} [{low}, {high}]"


def to_markdown(table: pd.DataFrame) -> str:
    """A pipe table, followed by the table's notes."""
    shown = for_reading(table)
    lines = [list(shown.columns), ["---"] * len(shown.columns), *shown.values.tolist()]
    body = ["| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines]
    return "\n".join([*body, *_empty_line(table), "", *_notes(table)]).rstrip() + "\n"


def notes_in(markdown: str) -> list[str]:
    """The notes of a table that `to_markdown` wrote: its CSV has none."""
    _, _, notes = markdown.partition("\n\n")
    return notes.splitlines()


def escape_tex(text: str) -> str:
    """The text with every character that LaTeX would interpret escaped."""
    return "".join(TEX_ESCAPES.get(c, c) for c in text)


def to_tex(table: pd.DataFrame) -> str:
    """A `tabular` with hairlines only (no package needed), followed by the notes as a small paragraph."""
    shown = for_reading(table)
    head, *lines = [[escape_tex(c) for c in line] for line in [list(shown.columns), *shown.values.tolist()]]
    rows = [" & ".join(line) + r" \\" for line in lines]
    body = [
        rf"\begin{{tabular}}{{{'l' * len(head)}}}",
        r"\hline",
        " & ".join(head) + r" \\",
        r"\hline",
        *rows,
    ]
    notes = [rf"\par\footnotesize {escape_tex(note)}" for note in [*_empty_line(table), *_notes(table)]]
    return "\n".join([*body, r"\hline", r"\end{tabular}", *notes]) + "\n"


def to_html(table: pd.DataFrame, title: str) -> str:
    """A self-contained page, which is how the report shows the table."""
    shown = for_reading(table)
    head = "".join(f"<th>{html.escape(c)}</th>" for c in shown.columns)
    rows = ["".join(_html_cell(c) for c in line) for line in shown.values.tolist()]
    body = "".join(f"<tr>{row}</tr>\n" for row in rows)
    notes = "".join(f"<p>{html.escape(n)}</p>\n" for n in [*_empty_line(table), *_notes(table)])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style>\n<h1>{html.escape(title)}</h1>\n<table><thead><tr>{head}</tr></thead><tbody>\n"
        f"{body}</tbody></table>\n{notes}</html>\n"
    )


def _html_cell(text: str) -> str:
    kind = ' class="n"' if NUMBER.match(text) else ""
    return f"<td{kind}>{html.escape(text)}</td>"


def _empty_line(table: pd.DataFrame) -> list[str]:
    return [] if len(table) else ["no data"]


def _notes(table: pd.DataFrame) -> list[str]:
    claims = "security_bits" in table and table["security_bits"].notna().any()
    return [*table.attrs.get("notes", ()), *([WHICH_BITS] if claims else [])]


def write_table(table: pd.DataFrame, out: str | Path, title: str) -> None:
    """Write `out` (a .csv) and the .md, .tex and .html beside it; nothing is touched unless all render."""
    out = Path(out)
    texts = {
        ".csv": table.to_csv(index=False),
        ".md": to_markdown(table),
        ".tex": to_tex(table),
        ".html": to_html(table, title),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    for suffix, text in texts.items():
        out.with_suffix(suffix).write_text(text, encoding="utf-8")
