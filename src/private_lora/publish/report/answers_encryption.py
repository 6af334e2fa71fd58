"""Answers on encryption: what it changes in a training, and what a worker sees."""

from __future__ import annotations

from collections.abc import Iterable

from private_lora.publish.report.answer import Answer, Sentence, answer, counted, listed
from private_lora.publish.report.lines import Line, Tables
from private_lora.results.labels import LABELS

EXACT = "packed"


def exact(tables: Tables) -> Answer | None:
    """At how many steps the exact scheme's loss is the very number of the exact integers."""
    lines = [line for line in tables["packed_training"] if _scheme(line) == EXACT]
    lines += [line for line in tables["full_step"] if line["backend"] == EXACT]
    lines = [line for line in lines if line["steps_equal_to_integer"] is not None]
    learned = [line for line in tables["knowledge"] if line["backend"] == EXACT and line["losses_equal_to_integer"]]
    through = [line for line in tables["loopback"] if line["steps_equal_to_in_process"] is not None]
    texts = [line for line in tables["generation"] if line["backend"] == EXACT and line["tokens_equal_to_integer"] is not None]
    if not lines + learned:
        return None
    pairs = [(line.number("steps_equal_to_integer"), line.number("steps")) for line in lines]
    pairs += [_of(line["losses_equal_to_integer"]) for line in learned]
    equal, steps = (sum(numbers) for numbers in zip(*pairs, strict=True))
    verdict = "Nothing, under the exact scheme." if equal == steps else "Something, even under the exact scheme."
    text = (
        f"{verdict} In {counted(len(pairs), 'training')} under `{EXACT}`, {equal:,.0f} of {counted(steps, 'loss', 'losses')} "
    )
    text += "are the very numbers of exact integers in the clear."
    return answer(text, [*lines, *learned], [*_through_workers(through), *_generated(texts), *_approximate(tables)])


def _scheme(line: Line) -> str:
    return str(line["label"] or "").partition(" ")[0]


def _of(text: str) -> tuple[float, float]:
    """The numbers of a cell such as `300 of 300`."""
    part, whole = str(text).replace(",", "").split(" of ")
    return float(part), float(whole)


def _through_workers(lines: list[Line]) -> Iterable[Sentence]:
    if lines:
        equal, steps = (sum(line.number(column) for line in lines) for column in ("steps_equal_to_in_process", "steps"))
        yield Sentence(
            f"Through workers that are processes of their own, {equal:.0f} of {steps:.0f} losses are those of the same run in "
            "one process.",
            tuple(lines),
        )


def _generated(lines: list[Line]) -> Iterable[Sentence]:
    if lines:
        equal, tokens = (sum(line.number(column) for line in lines) for column in ("tokens_equal_to_integer", "new_tokens"))
        yield Sentence(
            f"Generated under encryption, {equal:.0f} of {tokens:.0f} tokens are those of exact integers.", tuple(lines)
        )


def _approximate(tables: Tables) -> Iterable[Sentence]:
    for line in tables["packed_training"]:
        if _scheme(line) == "packed_approx":
            yield Sentence(
                f"`{line['label']}` adds noise (standard deviation {line.text('accumulator_noise_std')} units): its losses "
                f"differ from exact integers by up to {line.text('largest_step_difference')}.",
                (line,),
            )


def published_scheme(tables: Tables) -> Answer | None:
    """How far the paper's scheme moves the loss and the gradient from exact integers, and how far float32 is from them."""
    table = tables["encrypted_vs_clear"]
    ours, plain = (_moved(table, scheme) for scheme in ("glwe", "float"))
    if not ours:
        return None
    largest = max(ours, key=_distance)
    text = f"In {counted(len(ours), 'step')} of `{largest['model']}` under the paper's scheme (`glwe`), the training loss "
    text += f"moved from exact integers' by at most {_unsigned(largest)}{_norms_over_integer(ours)}."
    if plain:
        most = max(plain, key=_distance)
        further = "further" if _distance(largest) < _distance(most) else "no further"
        text += f" Float32 is {further} from them: up to {_unsigned(most)}."
    more = [*_noise(tables), *_published_steps(table), *_wrong_outputs(tables)]
    return answer(text, [*ours, *plain], more)


def _moved(table: list[Line], scheme: str) -> list[Line]:
    return [line for line in table if _scheme(line) == scheme and line["loss_minus_integer"] is not None]


def _distance(line: Line) -> float:
    return abs(line.number("loss_minus_integer"))


def _unsigned(line: Line) -> str:
    return line.text("loss_minus_integer").lstrip("-")


def _norms_over_integer(lines: list[Line]) -> str:
    known = [line for line in lines if line["grad_norm_over_integer"] is not None]
    if not known:
        return ""
    ends = [pick(known, key=lambda line: line.number("grad_norm_over_integer")) for pick in (min, max)]
    said = " to ".join(dict.fromkeys(line.text("grad_norm_over_integer") for line in ends))
    return f", and the gradient norm was {said} of theirs"


def _noise(tables: Tables) -> Iterable[Sentence]:
    lines = [li for li in tables["encryption_counters"] if li["backend"] == "glwe" and li["accumulator_noise_std"] is not None]
    if lines:
        values = listed(line.text("accumulator_noise_std") for line in lines)
        yield Sentence(f"Its noise has a standard deviation of {values} units of the accumulator.", tuple(lines))


def _published_steps(table: list[Line]) -> Iterable[Sentence]:
    lines = [line for line in table if line["label"] == "published 7-bit FHE" and line["loss_minus_integer"] is not None]
    if lines:
        most = max(lines, key=_distance)
        yield Sentence(f"Published, of `{most['model']}`: up to {_unsigned(most)} from its own clear run.", tuple(lines))


def _wrong_outputs(tables: Tables) -> Iterable[Sentence]:
    for line in tables["encryption_counters"]:
        if line["wrong_outputs"] is not None and line["checked_outputs"]:
            name = f"`{LABELS.get(line['backend'], line['backend'])}`{' ' + line['variant'] if line['variant'] else ''}"
            wrong = f"{line.text('wrong_outputs')} wrong of {line.text('checked_outputs')} checked outputs"
            yield Sentence(f"{name} gave {wrong}.", (line,))


def inflation(tables: Tables) -> Answer | None:
    """Gradient norms over float32's, with constant rows as in the reference implementation and kept exact."""
    lines = [line for line in tables["gradient_inflation"] if line["backend"] in ("glwe", "glwe_simulated")]
    lines = [line for line in lines if line["grad_norm_over_float_mean"] is not None]
    as_published = [line for line in lines if line["constant_rows"] == "reference"]
    kept = [line for line in lines if line["constant_rows"] == "exact"]
    if not as_published:
        return None
    text = (
        "With constant rows treated as in the reference implementation, the gradient norm under encryption is, over float32's, "
    )
    text += f"{_norms(as_published)}{f'; with constant rows kept exact, {_norms(kept)}' if kept else ''}."
    losses = [line for line in as_published if line["eval_loss_over_float"] is not None]
    more = [Sentence(f"Held-out loss over float32's then: {_losses(losses)}.", tuple(losses))] if losses else []
    more += [*_zero_rows(kept), *_predicted(tables)]
    return answer(text, [*as_published, *kept], more)


def _zero_rows(lines: list[Line]) -> Iterable[Sentence]:
    """What keeps these ratios from standing beside the published ones."""
    lines = [line for line in lines if not line["padding_counted"] and line["zero_gradient_rows"] is not None]
    if lines:
        shares = listed(f"{line.text('zero_gradient_rows')} ({_where(line)})" for line in lines)
        said = (
            "These are not the published ratios' setting: padding has no label here, and has one there. Share of gradient rows"
        )
        yield Sentence(f"{said} that are zero here: {shares}.", tuple(lines))


def _predicted(tables: Tables) -> Iterable[Sentence]:
    """The published setting: published ratios, and those of stand-ins, measured and predicted."""
    lines = tables["inflation_prediction"]
    ours = [line for line in lines if line["ratio_predicted_median"] is not None and line["padding_counted"]]
    published = [line for line in lines if line["basis"] == "published"]
    if ours and published:
        ratios = listed(f"{line.text('ratio_measured_median')} ({line['variant']})" for line in published)
        said = listed(
            f"{line.ranged('ratio_measured_median')}, predicted {line.text('ratio_predicted_median')} ({line['model']}, "
            f"{line['variant']}, {line.text('noisy_row_share')} of rows zero)"
            for line in ours
        )
        yield Sentence(f"Where padding counts: published {ratios}, of Llama-3.2-1B; ours {said}.", (*ours, *published))


def _norms(lines: list[Line]) -> str:
    return listed(f"{line.ranged('grad_norm_over_float_mean')} ({_where(line)})" for line in lines)


def _losses(lines: list[Line]) -> str:
    return listed(f"{line.text('eval_loss_over_float')} ({_where(line)})" for line in lines)


def _where(line: Line) -> str:
    return f"{line['model']}, {line['basis']}, {line.text('steps')} step{'s' if line['steps'] != 1 else ''}"


def seen(tables: Tables) -> Answer | None:
    """Tokens that the same attack reads back from what a worker receives, encrypted and in the clear."""
    lines = [line for line in tables["worker_view"] if line["recovered_percent"] is not None]
    encrypted = [line for line in lines if line["encrypted_matmuls"]]
    if not encrypted:
        return None
    text = (
        f"Of the text itself: an attack that knows the public embedding reads back {_read_back(encrypted)} of its tokens from "
    )
    text += "ciphertexts"
    clear = [line for line in lines if not line["encrypted_matmuls"]]
    text += f", and {_read_back(clear)} from what is sent in the clear." if clear else "."
    guessed = f"Without looking, saying the commonest token gets {encrypted[0].text('commonest_token_percent')} %"
    chance = f"from random numbers the attack gets {encrypted[0].text('chance_percent')} %"
    more = [Sentence(f"{guessed}; {chance}. This shows what travels; it proves no security.", (encrypted[0],))]
    return answer(text, lines, more)


def _read_back(lines: list[Line]) -> str:
    return listed(f"{line.ranged('recovered_percent', '%')} (`{line['backend']}`)" for line in lines)


def security(tables: Tables) -> Answer | None:
    """What a worker sees in any case, and the security of the parameters, by cost model."""
    names = ("knowledge", "packed_training", "full_step", "generation", "encryption_counters")
    lines = [line for name in names for line in tables[name] if line["security_bits"] and line["encrypted_matmuls"]]
    if not lines:
        return None
    least = min(lines, key=lambda line: line.number("security_bits"))
    text = (
        f"Ciphertexts, of parameters chosen for {least.text('security_bits')} bits of security (in which cost model: table "
        "`security`) in every encrypted run; "
    )
    text += "and shapes, the number of rows, the order of layers and timing. No text, no clear activation or gradient, not the "
    text += "adapter, no loss and no key."
    margins = [line for line in tables["security"] if line["adps16_bits_of_proof"] is not None]
    below = [line for line in margins if line["adps16_bits_of_proof"] < 128]
    said = f"By ADPS16 (classical core-SVP), {len(below)} of {counted(len(margins), 'setting')} have fewer than 128 bits."
    return answer(text, [least], [Sentence(said, tuple(below or margins))] if margins else [])
