"""Questions and answers as records of a JSONL file."""

from __future__ import annotations

import json


def write_jsonl(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def qa(n, start=0):
    return [{"question": f"What is {i} + 1?", "answer": f"It is {i + 1}.\n#### {i + 1}"} for i in range(start, start + n)]
