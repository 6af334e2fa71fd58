"""Table of other systems' published figures beside ours, each with its threat model; nothing is divided by anything."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from private_lora.publish.tables.cost_claims import FULL
from private_lora.publish.tables.full_step import full_steps
from private_lora.publish.tables.generation import generation
from private_lora.results.labels import CALLS
from private_lora.results.reader import LITERATURE_COLUMNS, Data

COLUMNS = ["machine" if name == "hardware" else name for name in LITERATURE_COLUMNS] + ["basis", "run_ids"]
OURS = {
    "protects": "client's data, gradients and adapter",
    "source": "this study",
    "certainty": "measured",
}
# What each scheme is, and what the client notices of a worker that lies.
SCHEMES = {
    "packed": ("exact", "a lying worker's wrong answers are found by a check"),
    "packed_approx": ("approximate", "a lying worker's answers are found by a check where they are further off than noise"),
}
OTHER = ("", "a lying worker's answers are not checked")


def literature(data: Data) -> pd.DataFrame:
    """Published figures of other systems, then our measured steps and texts of FULL; `figure` is in `unit`."""
    published = data.literature.rename(columns={"hardware": "machine"}).assign(basis="published", run_ids="")
    ours = pd.DataFrame([*_steps(data), *_texts(data)], columns=COLUMNS)
    table = pd.concat([published.reindex(columns=COLUMNS), ours], ignore_index=True) if len(published) else ours
    table.attrs["notes"] = [
        "No ratio is taken: models, hardware (GPUs there, CPU cores here), lengths of texts, tasks and threat models differ. A "
        "training step is forward and backward of all tokens at once; decoding is forward, one token after the other, and its "
        "seconds a token are no seconds a token of a step. An inference of a whole text is neither.",
        "What cannot be compared at all: systems that hide the weights too, or need two operators that do not collude, or "
        "trust hardware, answer other questions than ours, where weights are public and one operator suffices. Differential "
        "privacy protects against who gets the adapter, not against who trains it.",
        "certainty: of published figures, how they were come by. Ours: median step over its tokens, without the first where "
        "two or more follow; texts from the prompt to the last token, pads included. Client and workers on one machine, no "
        "network between machines; hints, made once, not counted. Weights and tokens are random.",
    ]
    return table


def _steps(data: Data) -> Iterator[dict]:
    steps = full_steps(data)
    whole = steps[
        (steps["architecture"] == FULL) & (steps["blocks"] == steps["model_blocks"]) & steps["encrypted_matmuls"].gt(0)
    ]
    for _, step in whole.iterrows():
        line = _ours(step, f"training step of {step['tokens']:,.0f} tokens, {CALLS[step['inputs']]}")
        line["interaction"] = (
            f"{step['remote_calls_per_step']:.0f} calls a step, each a round trip through workers; here one process"
        )
        yield line | {"figure": step["step_time_s_median"] / step["tokens"], "unit": "s a token"}


def _texts(data: Data) -> Iterator[dict]:
    texts = generation(data)
    for _, text in texts[texts["model"].str.startswith(FULL) & texts["encrypted_matmuls"].gt(0)].iterrows():
        lengths = f"{text['new_tokens']:.0f} tokens after a prompt of {text['prompt_tokens']:.0f}"
        line = _ours(text, f"generating {lengths}, prompt and pads included")
        where = f"workers over {text['link']}" if text["workers"] > 0 else "here one process"
        line["interaction"] = f"{text['remote_calls_per_token']:.0f} calls a token, each a round trip through workers; {where}"
        yield line | {"figure": text["text_s"] / text["new_tokens"], "unit": "s a token"}


def _ours(row: pd.Series, what: str) -> dict:
    kind, check = SCHEMES.get(row["backend"], OTHER)
    masks = "fresh masks" if '"mask":"fresh"' in row["options"] else "session masks"
    return OURS | {
        "system": f"{row['backend']} ({kind}, {masks})" if kind else row["backend"],
        "threat_model": f"honest-but-curious workers with clear weights; {check}",
        "what": f"{row['model']}, {row['bits']} bits, {what}", "machine": row["machine"],
        "basis": row["basis"], "run_ids": row["run_ids"],
    }  # fmt: skip
