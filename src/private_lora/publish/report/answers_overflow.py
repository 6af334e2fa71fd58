"""Answer on overflow: where sums leave the bits that the published scheme keeps, and what that does to the loss."""

from __future__ import annotations

from private_lora.publish.report.answer import Answer, Sentence, answer, counted, listed
from private_lora.publish.report.lines import Line, Tables

SHARES = ("wrapped_forward_percent", "wrapped_backward_percent")


def overflow(tables: Tables) -> Answer | None:
    """Fewest bits at which sums wrapped around, for each model, and the worst loss over exact integers'."""
    lines = [line for line in tables["overflow"] if line["sums"]]
    if not lines:
        return None
    wrapped = [line for line in lines if any((line[share] or 0) > 0 for share in SHARES)]
    text = f"Sums wrapped around in {len(wrapped)} of {counted(len(lines), 'simulated run')} of the published scheme's 27 bits"
    first = _first(wrapped)
    text += f": from {listed(_begins(line) for line in first)} on." if first else "."
    worst = max(wrapped, key=lambda line: line["eval_loss_over_integer"] or 0, default=None)
    more = []
    if worst is not None and worst["eval_loss_over_integer"]:
        loss = f"{worst.text('eval_loss')}, {worst.text('eval_loss_over_integer')} times exact integers'"
        more.append(Sentence(f"The worst held-out loss then is {loss} ({_where(worst)}).", (worst,)))
    for line in tables["overflow"]:
        if line["backend"] == "published":
            said = f"Published, of `{line['model']}`: {line.text('eval_loss')} ({line['variant']}; {line['source']})."
            more.append(Sentence(said, (line,)))
    return answer(text, first or lines, more)


def _first(wrapped: list[Line]) -> list[Line]:
    """Of each model and kind of sums, the run at the fewest bits."""
    found: dict[tuple, Line] = {}
    for line in sorted(wrapped, key=lambda line: line["activation_bits"]):
        found.setdefault((line["model"], line["sums"]), line)
    return list(found.values())


def _begins(line: Line) -> str:
    return f"{line.text('activation_bits')} bits ({line['model']}, {line['sums']} sums)"


def _where(line: Line) -> str:
    return f"`{line['model']}`, {line.text('activation_bits')} bits, {line['quantizer']}, {line['sums']} sums"
