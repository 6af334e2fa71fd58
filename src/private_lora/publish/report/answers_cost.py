"""Answers on cost: time of a step and its products, bytes, slow links, workers, generated tokens, memory, money."""

from __future__ import annotations

from collections.abc import Iterable

from private_lora.publish.report.answer import Answer, Sentence, answer, counted, listed
from private_lora.publish.report.lines import Line, Tables

PLAINTEXT = "plaintext_float32"
EXACT = "packed"


def step(tables: Tables) -> Answer | None:
    """Time of whole training steps under encryption, over those of plaintext steps."""
    lines = _whole_steps(tables)
    if not lines:
        return None
    main = lines[0]
    text = f"A whole step of `{main['model']}`, {main.text('tokens')} tokens, took {main.ranged('step_time_s_median', 's')} under "
    text += f"{_setting(main)}{_over(main)}"
    return answer(f"{text}.", [main], [*(_step(line) for line in lines[1:]), *_learning_steps(tables)])


def _whole_steps(tables: Tables) -> list[Line]:
    """Encrypted steps of whole models: the model of most memory first, exact before approximate, defaults before options."""
    lines = [line for line in tables["full_step"] if line["encrypted_matmuls"] and line["blocks"] == line["model_blocks"]]
    lines = [line for line in lines if line["step_time_s_median"] is not None]
    size = {name: max(li.number("peak_memory_bytes") for li in lines if li["model"] == name) for name in {li["model"] for li in lines}}
    return sorted(lines, key=lambda li: (-size[li["model"]], li["backend"] != EXACT, li["variant"] is not None))


def _setting(line: Line) -> str:
    parts = [line["variant"], f"{line.text('bits')} bits" if line["bits"] is not None else "", _calls(line)]
    return f"`{line['backend']}` ({', '.join(str(part) for part in parts if part)})"


def _calls(line: Line) -> str:
    return {"joint": "joint calls", "apart": "each layer a call"}.get(line["inputs"], "")


def _over(line: Line) -> str:
    ratios = line.ratios("step_time_over_{}", ("float32", "float32_onednn", "integer", "bf16"))
    return f": {ratios}" if ratios else "; no plaintext step beside it"


def _step(line: Line) -> Sentence:
    machine = f", {line['machine']}" if line["machine"] else ""
    took = line.ranged("step_time_s_median", "s")
    return Sentence(f"`{line['model']}`, {line.text('tokens')} tokens, {_setting(line)}{machine}: {took}{_over(line)}.", (line,))


def _learning_steps(tables: Tables) -> Iterable[Sentence]:
    """Steps of the model that learned."""
    for line in tables["knowledge"]:
        if line["encrypted_matmuls"] and line["step_time_over_float"] is not None:
            ratios = f"{line.ranged('step_time_over_float')} times float32, {line.ranged('step_time_over_integer')} times integers in "
            text = f"`{line['model']}` while it learned, {line.text('tokens_per_step')} tokens: "
            text += f"{line.ranged('step_time_s_median', 's')}, {ratios}the clear; bf16 not measured."
            yield Sentence(text, (line,))


def products(tables: Tables) -> Answer | None:
    """The products of a transformer block alone, over torch's plaintext ones: at the server, and at the client."""
    lines = [line for line in tables["block_latency"] if line["backend"] in (EXACT, "packed_approx")]
    lines = [line for line in lines if line["server_over_float32_median"] is not None]
    if not lines:
        return None
    # Exact before approximate, defaults before options, the largest batch.
    main = min(lines, key=lambda li: (li["backend"] != EXACT, li["options"] is not None, -li.number("tokens")))
    kinds = ("float32", "float32_onednn", "int8", "bf16")
    server, client = (main.ratios(f"{who}_over_{{}}_median", kinds) for who in ("server", "client"))
    text = f"The linear layers of a block of `{main['model']}`, {main.text('tokens')} tokens, {_setting_of_block(main)}: the server's "
    text += f"product takes {server}. The client's encryption and decryption take {client}."
    return answer(text, [main], [_glwe(line) for line in tables["block_latency"] if line["glwe_server_time_over_this"] is not None])


def _setting_of_block(line: Line) -> str:
    parts = [line["options"], f"{line.text('activation_bits')} bits", _calls(line)]
    return f"`{line['backend']}` ({', '.join(str(part) for part in parts if part)})"


def _glwe(line: Line) -> Sentence:
    text = f"Per token, the paper's scheme takes {line.text('glwe_server_time_over_this')} times as long at the server as "
    return Sentence(f"{text}{_setting_of_block(line)} at {line.text('tokens')} tokens, on the same layers.", (line,))


def operations(tables: Tables) -> Answer | None:
    """Where the time of a whole step goes."""
    lines = _whole_steps(tables)
    if not lines:
        return None
    more = [Sentence(f"{_named(line)}: {_parts(line)}.", (line,)) for line in lines[1:]]
    return answer(f"Of a step of {_named(lines[0])}, on average over its steps: {_parts(lines[0])}.", [lines[0]], more)


def _parts(line: Line) -> str:
    names = {"quantize": "quantizing", "encrypt": "encrypting", "server": "the server's product", "decrypt": "decrypting"}
    said = [f"{line.text(f'{name}_s')} s {text}" for name, text in names.items()]
    return listed([*said, f"{line.text('rest_s')} s everything else at the client"])


def whole_runs(tables: Tables) -> Answer | None:
    """How much of a whole encrypted run the server's product takes."""
    lines = [line for line in tables["encryption_counters"] if line["encrypted_matmuls"] and line["matmul_time_s"] is not None]
    if not lines:
        return None
    # The longest run of each backend.
    longest = {li["backend"]: li for li in sorted(lines, key=lambda li: li.number("total_time_s"))}.values()
    each = listed(f"{li.text('matmul_time_s')} of {li.text('total_time_s')} s under `{li['backend']}` ({li['model']})" for li in longest)
    return answer(f"The server's product took, of the whole run with its loading and evaluations: {each}.", longest)


def layer(tables: Tables) -> Answer | None:
    """Time of the largest encrypted layer over its plaintext product."""
    lines = [line for line in tables["layer"] if line["metric"] == "total_time_s" and line["backend"] == "glwe"]
    if not lines:
        return None
    main, *others = sorted(lines, key=lambda li: -li.number("inputs") * li.number("outputs") * li.number("rows"))
    return answer(_one_layer(main), [main], [Sentence(_one_layer(line), (line,)) for line in others])


def _one_layer(line: Line) -> str:
    ratios = {"median_over_plaintext_float": "float32", "median_over_integer": "integers in the clear", "median_over_bf16": "bf16"}
    said = [f"{line.text(column)} times {name}" for column, name in ratios.items() if line[column] is not None]
    none = "" if line["median_over_bf16"] is not None else "; bf16 not measured"
    text = f"One product of {line.text('rows')} x {line.text('inputs')} by {line.text('outputs')} outputs under `{line['backend']}`: "
    return f"{text}{line.ranged('value_median', 's')}{': ' if said else ''}{', '.join(said)}{none}."


def traffic(tables: Tables) -> Answer | None:
    """Ciphertext bytes of a token."""
    lines = [line for line in _whole_steps(tables) if line["upload_bytes_per_token"] is not None]
    if not lines:
        return None
    main, *others = lines
    more = [Sentence(f"{_named(line)}: {_bytes(line)}.", (line,)) for line in others]
    more += [
        Sentence(
            f"`{line['model']}` while it learned: {line.text('ciphertext_MB_per_train_token')} MB a token, "
            f"{line.text('ciphertext_GB')} GB in all.",
            (line,),
        )
        for line in tables["knowledge"]
        if line["ciphertext_MB_per_train_token"] is not None
    ]
    return answer(f"Each token of a step of {_named(main)} sends {_bytes(main)}.", [main], more)


def _named(line: Line) -> str:
    return f"`{line['model']}` under {_setting(line)}"


def _bytes(line: Line) -> str:
    calls = f", in {line.text('remote_calls_per_step')} calls a step" if line["remote_calls_per_step"] is not None else ""
    return f"{line.text('upload_bytes_per_token')} bytes up and {line.text('download_bytes_per_token')} bytes down{calls}"


def links(tables: Tables) -> Answer | None:
    """Predicted time of a step over networks, beside that of the plaintext step at the client."""
    found = _predicted(tables, "step_time_s", "s")
    if not found:
        return None
    (_, line), *_ = found
    verdict = "Slower than computing it at home" if _none_below(tables, "step_time_s") else "It depends on the link"
    return answer(f"{verdict}, by the cost model. {found[0][0]}.", line, [Sentence(f"{text}.", tuple(read)) for text, read in found[1:]])


def _predicted(tables: Tables, column: str, unit: str) -> list[tuple[str, list[Line]]]:
    """For each model, the plaintext step and the encrypted one with one worker on every network, in one text."""
    lines, found = tables["step_cost"], []
    for model in dict.fromkeys(line["model"] for line in lines):
        plain = [line for line in lines if line["model"] == model and line["backend"] == PLAINTEXT]
        ours = _with_one_worker(lines, model)
        if not ours or not plain:
            continue
        each = listed(f"{line.text(column)} {unit} over {line['network']}" for line in ours)
        text = f"`{model}`, {ours[0].text('tokens')} tokens: float32 at the client {plain[0].text(column)} {unit}; `{ours[0]['backend']}`"
        text += f"{' ' + ours[0]['options'] if ours[0]['options'] else ''} with one worker {each}"
        found.append((f"{text}. int8 and bf16 steps are not predicted", [*plain[:1], *ours]))
    return found


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
    text = f"{verdict}, at the prices that the configuration assumes. {found[0][0]}."
    return answer(text, found[0][1], [Sentence(f"{text}.", tuple(read)) for text, read in found[1:]])


def workers(tables: Tables) -> Answer | None:
    """Time of a step through workers, over the same step in one process."""
    lines = [line for line in tables["loopback"] if line["workers"]]
    if not lines:
        return None
    return answer(f"{_arranged(lines[0])}", [lines[0]], [Sentence(_arranged(line), (line,)) for line in lines[1:]])


def _arranged(line: Line) -> str:
    text = f"`{line['model']}` under `{line['backend']}`, {line['arrangement']}, {line.text('tokens_per_step')} tokens: a step of "
    text += line.ranged("step_time_s_median", "s")
    if line["step_time_over_in_process"] is not None:
        text += f", {line.text('step_time_over_in_process')} times the step in one process"
    return f"{text}{' (disturbed by other programs)' if line['disturbed'] else ''}."


def generated(tables: Tables) -> Answer | None:
    """Time of a generated token."""
    lines = [line for line in tables["generation"] if line["encrypted_matmuls"] and line["token_time_s_median"] is not None]
    if not lines:
        return None
    return answer(_token(lines[0]), [lines[0]], [Sentence(_token(line), (line,)) for line in lines[1:]])


def _token(line: Line) -> str:
    ratios = line.ratios("token_time_over_{}", ("float32", "integer", "bf16"))
    text = f"A generated token of `{line['model']}` under `{line['backend']}`, {line['arrangement']}: "
    text += f"{line.ranged('token_time_s_median', 's')}{': ' + ratios if ratios else ''}"
    return f"{text}; {line.text('upload_MB_per_token')} MB up and {line.text('download_MB_per_token')} MB down."


def memory(tables: Tables) -> Answer | None:
    """Memory of the client beside LoRA in the clear and full fine-tuning."""
    lines = [line for line in tables["client_memory"] if line["client_peak_MB"] is not None]
    if not lines:
        return None
    return answer(_held(lines[0]), [lines[0]], [Sentence(_held(line), (line,)) for line in lines[1:]])


def _held(line: Line) -> str:
    text = f"The client of `{line['model']}` held {line.text('client_peak_MB')} MB ({line['arrangement']})"
    if line["float_lora_peak_MB"] is not None:
        text += f", float32 LoRA in one process {line.text('float_lora_peak_MB')} MB"
    if line["full_fine_tuning_MB"] is not None:
        text += f", full fine-tuning at least {line.text('full_fine_tuning_MB')} MB (arithmetic)"
    return f"{text}; bf16 and int8 not measured."


def predictions(tables: Tables) -> Answer | None:
    """How far predictions of whole steps were from their measurement."""
    lines = [line for line in tables["full_step"] if line["prediction_error_percent"] is not None]
    if not lines:
        return None
    low, high = (pick(lines, key=lambda line: line.number("prediction_error_percent")) for pick in (min, max))
    text = f"Of {counted(len(lines), 'whole step')} measured as well, the cost model was off by"
    return answer(f"{text} {_signed(low)} to {_signed(high)} %.", lines)


def _signed(line: Line) -> str:
    text = line.text("prediction_error_percent")
    return text if text.startswith("-") else f"+{text}"
