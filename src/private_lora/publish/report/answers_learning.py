"""Answers on learning: what a model learned and forgot, whether training converges, and at how many bits."""

from __future__ import annotations

from collections.abc import Iterator

from private_lora.publish.report.answer import Answer, Sentence, answer, counted, listed
from private_lora.publish.report.lines import Line, Tables
from private_lora.publish.tables.claims import FAILING_RATIO
from private_lora.publish.tables.knowledge_runs import IN_PROCESS
from private_lora.results.labels import DEFAULT_PAIR, USERS_OWN
from private_lora.specs.models import OWN_MODELS

CLOSE = 1.01  # times float32's loss: what `as good as float32` means here
USUAL_BITS = 8
AFTER = "exact_match_after_percent"


def learned(tables: Tables) -> Answer | None:
    """Whether a model answers what it could not before: a real one, trained under encryption, if there is such a run."""
    lines = [line for line in tables["knowledge"] if line[AFTER] is not None]
    if not lines:
        return None
    # Real models before those made for this project, encrypted before clear, then those that were asked more.
    main = max(lines, key=lambda li: (li["model"] not in OWN_MODELS, bool(li["encrypted_matmuls"]), li["questions"] or 0))
    same = [li for li in lines if _task(li) == _task(main)]
    encrypted = main["encrypted_matmuls"]
    how = f"all {main.text('encrypted_matmuls')} remote products encrypted" if encrypted else "nothing encrypted"
    text = (
        f"{_verdict(main)} `{main['model']}`, trained for {main.text('steps')} steps on `{main['dataset']}` under "
        f"{_setting(main)}, with {how}, answers {main.ranged(AFTER, '%')} of {main.text('questions')} unseen questions; "
        f"before training {main.ranged('exact_match_before_percent', '%')}"
    )
    if main["guessing_percent"] is not None:
        text += f", by guessing {main.text('guessing_percent')} %"
    beside = [f"{_setting(li)} {li.ranged(AFTER, '%')}" for li in same if not li["encrypted_matmuls"]]
    text += f". In the clear: {listed(beside)}" if beside and encrypted else ""
    text += f". In brackets: the 95 % interval. {counted(main.number('seeds'), 'seed')} each."
    if main["model"] in OWN_MODELS:
        text += " This is no real LLM: it was made for this project."
    others = [_asked(line) for line in lines if line is not main]
    return answer(text, [main], [*others, *([_no_bf16(same)] if same else [])])


def _task(line: Line) -> tuple:
    return line["model"], line["dataset"], line["study"], line["steps"]


def _setting(line: Line) -> str:
    bits = f", {line.text('bits')} bits" if line["bits"] is not None else ""
    place = f", {line['arrangement']}" if line["arrangement"] not in (None, IN_PROCESS) else ""
    return f"`{line['backend']}`{bits}{place}"


def _verdict(line: Line) -> str:
    """Yes if even the low end of the share after training is above guessing and the high end before."""
    beaten = [line.number("exact_match_before_percent_high"), line.number("guessing_percent")]
    low = line.number(f"{AFTER}_low")
    return "Yes." if all(not value >= low for value in beaten) and low > 0 else "No."


def _asked(line: Line) -> Sentence:
    step = f", a step of {line.ranged('step_time_s_median', 's')}" if line["step_time_s_median"] is not None else ""
    before = f" (before: {line.text('exact_match_before_percent')} %)"
    text = f"`{line['model']}` on `{line['dataset']}`, {_setting(line)}: {line.ranged(AFTER, '%')}{before}{step}."
    return Sentence(text, (line,))


def _no_bf16(lines: list[Line]) -> Sentence:
    equal = [line for line in lines if line["losses_equal_to_integer"]]
    said = "; ".join(
        f"{_setting(line)}: {line['losses_equal_to_integer']} training losses and {line['evaluations_equal_to_integer']} "
        "evaluations are the very numbers of exact integers"
        for line in equal
    )
    return Sentence(f"{said or 'No run to compare with exact integers'}. Training in bf16 was not measured here.", tuple(equal))


def forgot(tables: Tables) -> Answer | None:
    """How the loss on other texts changed."""
    lines = [line for line in tables["knowledge"] if line["unrehearsed_loss_change_percent_mean"] is not None]
    lines += [li for li in tables["knowledge"] if li["general_loss_change_percent_mean"] is not None and li not in lines]
    lines = list({(line.row): line for line in lines}.values())
    if not lines:
        return None
    main = max(lines, key=lambda li: (li["model"] not in OWN_MODELS, bool(li["encrypted_matmuls"])))
    text = f"`{main['model']}` under {_setting(main)}: {_change(main)}."
    return answer(text, [main], [Sentence(f"{_setting(li)}: {_change(li)}.", (li,)) for li in lines if li is not main])


def _change(line: Line) -> str:
    kinds = {"unrehearsed": "text of a kind that was not rehearsed", "general": "text of the rehearsed kind"}
    said = []
    for kind, name in kinds.items():
        column = f"{kind}_loss_change_percent_mean"
        if line[column] is not None:
            direction = "rose" if line[column] > 0 else "fell"
            said.append(f"the loss of {name} {direction} by {line.text(column).lstrip('-')} %")
    return ", ".join(said)


def _compared(tables: Tables) -> list[Line]:
    """Quantized settings of trainings whose loss is compared with float32's; failed ones have no ratio and count too."""
    lines = [line for line in tables["final_loss"] if line["stage"] in ("sweep", "codebase")]
    return [line for line in lines if line["quantizer"] != "float"]


def _close(line: Line, limit: float) -> bool:
    """Whether every run ended, with a mean loss within the limit."""
    return line["n_ok"] == line["n_requested"] and line.number("ratio_to_float_mean") <= limit


def _model(line: Line) -> str:
    """Model and data; the variant alone where the data's name says only how it was read."""
    names = [line["variant"]] if line["variant"] and line["dataset"] in USERS_OWN else [line["dataset"], line["variant"]]
    return f"`{line['model']}` on {' '.join(f'`{name}`' for name in names if name)}"


def converges(tables: Tables) -> Answer | None:
    """Loss over float32's at the usual width, and how many settings end near it."""
    lines = _compared(tables)
    if not lines:
        return None
    usual = [line for line in lines if line["quantizer"] == DEFAULT_PAIR and line["activation_bits"] == USUAL_BITS]
    chosen = usual or lines
    kept = [line for line in chosen if _close(line, FAILING_RATIO)]
    verdict = "Yes." if len(kept) == len(chosen) else "Not always." if kept else "No."
    setting = f"At {USUAL_BITS} bits ({DEFAULT_PAIR})" if usual else "With the quantizers that were run"
    each = listed(f"{_over_float(line)} on {_model(line)}" for line in chosen)
    text = f"{verdict} {setting} the final loss over float32's is {each}. In brackets: lowest to highest seed, runs that ended."
    return answer(text, chosen, [_summed(lines)])


def _over_float(line: Line) -> str:
    if line["ratio_to_float_mean"] is None:
        return f"unknown (status {line['status'] or 'not known'})"
    said = [line.limits("ratio_to_float_mean"), f"{line.text('n_ok')} of {line.text('n_requested')}"]
    return f"{line.text('ratio_to_float_mean')} ({'; '.join(part for part in said if part)})"


def _summed(lines: list[Line]) -> Sentence:
    near = sum(_close(line, FAILING_RATIO) for line in lines)
    asked, done = (sum(line.number(column) for line in lines) for column in ("n_requested", "n_ok"))
    text = f"Of {counted(len(lines), 'quantized setting')}, {near} ended no more than {FAILING_RATIO - 1:.0%} above float32 in "
    text += f"the mean of their seeds; {counted(asked - done, 'run')} of {asked:.0f} diverged, failed or stopped early."
    return Sentence(text, tuple(lines))


def bits(tables: Tables) -> Answer | None:
    """The fewest bits from which on every width that was run keeps float32's loss, for each quantizer and model."""
    groups: dict[tuple, list[Line]] = {}
    for line in _compared(tables):
        groups.setdefault((line["model"], line["dataset"], line["variant"], line["quantizer"]), []).append(line)
    if not groups:
        return None
    found = {key: _fewest(lines) for key, lines in groups.items()}
    usual = {key: line for key, line in found.items() if key[-1] == DEFAULT_PAIR} or found
    enough = [f"{line.text('activation_bits')} on {_model(line)}" for line in usual.values() if line]
    never = [f"none that was run on {_model(groups[key][0])}" for key, line in usual.items() if not line]
    pair = DEFAULT_PAIR if next(iter(usual))[-1] == DEFAULT_PAIR else "the quantizers that were run"
    text = f"With {pair}: {listed([*enough, *never])}. That is the fewest bits from which on every width that was run ends, in "
    text += f"the mean of its seeds, no more than {CLOSE - 1:.0%} above float32's loss."
    read = [line or groups[key][-1] for key, line in usual.items()]
    return answer(text, read, _by_pair(groups, found))


def _fewest(lines: list[Line]) -> Line | None:
    """The line from which on all wider ones are close."""
    fewest = None
    for line in sorted(lines, key=lambda li: -li.number("activation_bits")):
        if not _close(line, CLOSE):
            break
        fewest = line
    return fewest


def _by_pair(groups: dict[tuple, list[Line]], found: dict[tuple, Line | None]) -> Iterator[Sentence]:
    """A sentence for each model: every pair with its fewest bits, or the ratio at the widest."""
    for model in dict.fromkeys(key[:-1] for key in groups):
        said, read = [], []
        for key, lines in groups.items():
            if key[:-1] != model:
                continue
            widest = max(lines, key=lambda line: line.number("activation_bits"))
            line = found[key]
            shown = line or widest
            what = "from" if line else "not even at"
            ratio = shown.ranged("ratio_to_float_mean") or "no loss to compare"
            said.append(f"{key[-1]} {what} {shown.text('activation_bits')} bits, {ratio}")
            read.append(shown)
        yield Sentence(f"{_model(read[0])}: {'; '.join(said)}.", tuple(read))
