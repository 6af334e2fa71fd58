"""Answers on bytes, links, workers, outsourcing, generated tokens, memory and money, and on how far predictions are off."""

from __future__ import annotations

from private_lora.publish.report.answer import Answer, Sentence, answer, counted, listed
from private_lora.publish.report.answers_time import EXACT, named, whole_steps
from private_lora.publish.report.lines import Line, Tables
from private_lora.publish.tables.alone_notes import STEP

PLAINTEXT = "plaintext_float32"
# What a client who trains alone and one with workers are compared by.
COMPARED = {
    "client_cpu_s_per_token": "the client's CPU seconds a token",
    "wall_s_per_token": "seconds a token",
    "client_peak_MB": "MB in the client",
    "money_per_million_tokens": "money for a million tokens",
}


def traffic(tables: Tables) -> Answer | None:
    """Ciphertext bytes of a token."""
    lines = [line for line in whole_steps(tables) if line["upload_bytes_per_token"] is not None]
    if not lines:
        return None
    main, *others = lines
    more = [Sentence(f"{named(line)}: {_bytes(line)}.", (line,)) for line in others]
    more += [
        Sentence(
            f"`{line['model']}` while it learned: {line.text('ciphertext_MB_per_train_token')} MB a token, "
            f"{line.text('ciphertext_GB')} GB in all.",
            (line,),
        )
        for line in tables["knowledge"]
        if line["ciphertext_MB_per_train_token"] is not None
    ]
    return answer(f"Each token of a step of {named(main)} sends {_bytes(main)}.", [main], more)


def _bytes(line: Line) -> str:
    calls = f", in {line.text('remote_calls_per_step')} calls a step" if line["remote_calls_per_step"] is not None else ""
    return f"{line.text('upload_bytes_per_token')} bytes up and {line.text('download_bytes_per_token')} bytes down{calls}"


def links(tables: Tables) -> Answer | None:
    """Predicted time of a step over networks, beside that of the plaintext step at the client."""
    found = _predicted(tables, "step_time_s", "seconds a step")
    if not found:
        return None
    verdict = "Slower than computing it at home" if _none_below(tables, "step_time_s") else "It depends on the link"
    return _of_models(f"{verdict}, by the cost model.", found)


def _of_models(verdict: str, found: list[tuple[str, list[Line]]]) -> Answer:
    (text, read), *others = found
    more = [Sentence(f"{text}.", tuple(read)) for text, read in others]
    return answer(f"{verdict} {text}. The cost model predicts no int8 and no bf16 step.", read, more)


def _predicted(tables: Tables, column: str, unit: str) -> list[tuple[str, list[Line]]]:
    """For each model, those first that were also measured: plaintext step and encrypted one, on every network, in one text."""
    lines, found = tables["step_cost"], []
    for model in dict.fromkeys(line["model"] for line in lines):
        plain = [line for line in lines if line["model"] == model and line["backend"] == PLAINTEXT]
        ours = _with_one_worker(lines, model)
        if not ours or not plain:
            continue
        each = listed(f"{line.text(column)} over {line['network']}" for line in ours)
        name = f"`{EXACT}`{' ' + ours[0]['options'] if ours[0]['options'] else ''} with one worker"
        beside = f"float32 at the client {plain[0].text(column)}; {name} {each}"
        found.append((model, f"`{model}`, {ours[0].text('tokens')} tokens, in {unit}: {beside}", [*plain[:1], *ours]))
    measured = {str(line["model"]).removesuffix(" (random weights)") for line in whole_steps(tables)}
    return [(text, read) for model, text, read in sorted(found, key=lambda piece: piece[0] not in measured)]


def _with_one_worker(lines: list[Line], model: str) -> list[Line]:
    ours = [line for line in lines if line["model"] == model and line["backend"] == EXACT and line["workers"] == 1]
    return [line for line in ours if (line["options"], line["tokens"]) == (ours[0]["options"], ours[0]["tokens"])]


def _none_below(tables: Tables, column: str) -> bool:
    """Whether no encrypted step is below its model's plaintext one."""
    lines = tables["step_cost"]
    plain = {line["model"]: line.number(column) for line in lines if line["backend"] == PLAINTEXT}
    ours = [line for model in plain for line in _with_one_worker(lines, model)]
    return all(line.number(column) >= plain[line["model"]] for line in ours)


def money(tables: Tables) -> Answer | None:
    """Predicted money for a million tokens."""
    priced = [line for line in tables["step_cost"] if line["money_per_million_tokens"] is not None]
    if not priced:
        return None
    found = _predicted(tables, "money_per_million_tokens", f"{priced[0]['currency']} a million tokens")
    if not found:
        return None
    verdict = "More than computing it at home" if _none_below(tables, "money_per_million_tokens") else "It depends on the model"
    return _of_models(f"{verdict}, at the prices that the configuration assumes.", found)


def workers(tables: Tables) -> Answer | None:
    """Time of a step through workers, over the same step in one process."""
    lines = [line for line in tables["loopback"] if line["workers"]]
    if not lines:
        return None
    return answer(f"{_arranged(lines[0])}", [lines[0]], [Sentence(_arranged(line), (line,)) for line in lines[1:]])


def _arranged(line: Line) -> str:
    tokens = "" if "tokens" in line["arrangement"] else f", {line.text('tokens_per_step')} tokens"
    text = f"`{line['model']}`{_part_of(line)} under `{line['backend']}`, {line['arrangement']}{tokens}: a step of "
    text += line.ranged("step_time_s_median", "s")
    if line["step_time_over_in_process"] is not None:
        text += f", {line.text('step_time_over_in_process')} times the step in one process"
    return f"{text}{' (disturbed by other programs)' if line['disturbed'] else ''}."


def _part_of(line: Line) -> str:
    """How many blocks of a model they are, where it is not whole."""
    return "" if line["blocks"] == line["model_blocks"] else f", {line.text('blocks')} of its blocks,"


def outsourcing(tables: Tables) -> Answer | None:
    """Whether workers take anything off the client: each step alone, in every type of weights, and through workers."""
    steps: dict[tuple, list[Line]] = {}
    for line in tables["alone_or_outsourced"]:
        if not line["disturbed"]:
            steps.setdefault(tuple(line[name] for name in STEP), []).append(line)
    both = [lines for lines in steps.values() if len({bool(line["workers"]) for line in lines}) == 2]
    if not both:
        return None
    compared = [(column, *parts) for lines in both for column, parts in _compared(lines).items()]
    paid = [column for column, *parts in compared if _pays(column, *parts)]
    what = listed(dict.fromkeys(COMPARED[column] for column in paid))
    verdict = f"In {len(paid)} of {len(compared)} comparisons ({what})" if paid else "No: in none of what was compared"
    text = f"{verdict} does outsourcing take less than the cheapest way to train alone, client and worker on the same cores."
    return answer(text, [line for lines in both for line in lines], [_alone_and_not(lines) for lines in both])


def _compared(lines: list[Line]) -> dict[str, tuple[list[Line], list[Line]]]:
    """Ways to train alone, and ways through workers, by the columns that both kinds have values of."""
    found = {}
    for column in COMPARED:
        known = [line for line in lines if line[column] is not None]
        parts = [line for line in known if not line["workers"]], [line for line in known if line["workers"]]
        if all(parts):
            found[column] = parts
    return found


def _least(lines: list[Line], column: str) -> Line:
    return min(lines, key=lambda line: line.number(column))


def _pays(column: str, alone: list[Line], remote: list[Line]) -> bool:
    return _least(remote, column).number(column) < _least(alone, column).number(column)


def _alone_and_not(lines: list[Line]) -> Sentence:
    first, said = lines[0], []
    for column, parts in _compared(lines).items():
        alone, remote = (_least(part, column) for part in parts)
        text = f"with a worker {remote.text(column)} (`{remote['way']}`), alone {alone.text(column)} ({alone['way']})"
        said.append(f"{COMPARED[column]} {text}")
    step = f"`{first['model']}`{_part_of(first).rstrip(',')}, {first.text('tokens')} tokens a step, cheapest ways"
    return Sentence(f"{step}: {'; '.join(said)}.", tuple(lines))


def generated(tables: Tables) -> Answer | None:
    """Time of a generated token."""
    lines = [line for line in tables["generation"] if line["encrypted_matmuls"] and line["token_time_s_median"] is not None]
    if not lines:
        return None
    return answer(_token(lines[0]), [lines[0]], [Sentence(_token(line), (line,)) for line in lines[1:]])


def _token(line: Line) -> str:
    kinds = ("float32", "integer", "bf16")
    whole, behind = (line.ratios(f"{what}_time_over_{{}}", kinds) for what in ("text", "token"))
    text = f"Generating with `{line['model']}` under `{line['backend']}`, {line['arrangement']}: "
    if line["text_s_per_token"] is not None:
        text += f"{line.text('text_s_per_token')} s a token, prompt and pads included{whole and f' ({whole})'}; "
    text += f"{line.ranged('token_time_s_median', 's')} for a token behind the first, its pads made before"
    text += f"{behind and f' ({behind})'}"
    return f"{text}; {line.text('upload_MB_per_token')} MB up and {line.text('download_MB_per_token')} MB down."


def memory(tables: Tables) -> Answer | None:
    """Memory of the client beside LoRA in the clear and full fine-tuning."""
    lines = [line for line in tables["client_memory"] if line["client_peak_MB"] is not None]
    if not lines:
        return None
    said = [(_held(line, beside := _clear_steps(tables, line)), (line, *beside)) for line in lines]
    return answer(*said[0], [Sentence(*one) for one in said[1:]])


def _clear_steps(tables: Tables, line: Line) -> list[Line]:
    """Whole steps of the same model and tokens that encrypt nothing and are no float32."""
    steps = [li for li in tables["full_step"] if li["model"] == line["model"] and li["tokens"] == line["tokens_per_step"]]
    steps = [li for li in steps if li["blocks"] == li["model_blocks"] and not li["encrypted_matmuls"]]
    return [li for li in steps if (li["backend"], li["variant"]) in (("float", "bf16"), ("integer", None))]


def _held(line: Line, beside: list[Line]) -> str:
    text = f"The client of `{line['model']}` held {line.text('client_peak_MB')} MB ({line['arrangement']})"
    if line["float_lora_peak_MB"] is not None:
        text += f", float32 LoRA in one process {line.text('float_lora_peak_MB')} MB"
    if line["full_fine_tuning_MB"] is not None:
        text += f", full fine-tuning at least {line.text('full_fine_tuning_MB')} MB (arithmetic)"
    for step in beside:
        name = "bf16" if step["variant"] else "integers in the clear"
        text += f", {name} {step.number('peak_memory_bytes') / 1e6:,.0f} MB ({step['inputs']} calls, {step['machine']})"
    names = {"bf16" if step["variant"] else "int8" for step in beside}
    missing = [name for name in ("bf16", "int8") if name not in names]
    return f"{text}{f'; {listed(missing)} not measured' if missing else ''}. Hints of session masks would come on top."


def predictions(tables: Tables) -> Answer | None:
    """How far predictions of whole steps were from their measurement."""
    lines = [line for line in tables["full_step"] if line["prediction_error_percent"] is not None]
    if not lines:
        return None
    low, high = (pick(lines, key=lambda line: line.number("prediction_error_percent")) for pick in (min, max))
    text = (
        f"Of {counted(len(lines), 'whole step')} measured as well, the cost model's prediction, which is extrapolated, was off"
    )
    return answer(f"{text} by {_signed(low)} to {_signed(high)} %.", lines)


def _signed(line: Line) -> str:
    text = line.text("prediction_error_percent")
    return text if text.startswith("-") else f"+{text}"
