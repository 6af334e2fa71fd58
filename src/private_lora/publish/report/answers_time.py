"""Answers on time: of a whole step, of its operations, of the products alone, of one layer and of whole runs."""

from __future__ import annotations

from collections.abc import Iterable

from private_lora.publish.gpu import GPU, TABLES, said_of
from private_lora.publish.report.answer import Answer, Sentence, answer, counted, listed
from private_lora.publish.report.lines import Line, Tables

EXACT = "packed"


def step(tables: Tables) -> Answer | None:
    """Time of whole training steps under encryption, over those of plaintext steps."""
    lines = whole_steps(tables)
    if not lines:
        return None
    main = lines[0]
    text = (
        f"A whole step of `{main['model']}`, {main.text('tokens')} tokens, took {main.ranged('step_time_s_median', 's')} under "
    )
    text += f"{_setting(main)}{_over(main)}"
    return answer(f"{text}.", [main], [*(_step(line) for line in lines[1:]), *_learning_steps(tables)])


def whole_steps(tables: Tables) -> list[Line]:
    """Encrypted steps of whole models: the model of most memory first, exact before approximate, defaults before options."""
    lines = [line for line in tables["full_step"] if line["encrypted_matmuls"] and line["blocks"] == line["model_blocks"]]
    lines = [line for line in lines if line["step_time_s_median"] is not None]
    size = {
        name: max(li.number("peak_memory_bytes") for li in lines if li["model"] == name)
        for name in {li["model"] for li in lines}
    }
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
    return Sentence(
        f"`{line['model']}`, {line.text('tokens')} tokens, {_setting(line)}{machine}: {took}{_over(line)}.", (line,)
    )


def _learning_steps(tables: Tables) -> Iterable[Sentence]:
    """Steps of the model that learned."""
    for line in tables["knowledge"]:
        if line["encrypted_matmuls"] and line["step_time_over_float"] is not None:
            text = f"`{line['model']}` while it learned, {line.text('tokens_per_step')} tokens: "
            text += f"{line.ranged('step_time_s_median', 's')}, {line.ranged('step_time_over_float')} times float32, "
            text += f"{line.ranged('step_time_over_integer')} times integers in the clear; bf16 not measured."
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
    text = f"The linear layers of a block of `{main['model']}`, {main.text('tokens')} tokens, {_setting_of_block(main)}: "
    text += f"the server's product takes {server}. The client's encryption and decryption take {client}."
    return answer(text, [main], _glwe(tables["block_latency"]))


def _setting_of_block(line: Line) -> str:
    parts = [line["options"], f"{line.text('activation_bits')} bits", _calls(line)]
    return f"`{line['backend']}` ({', '.join(str(part) for part in parts if part)})"


def _glwe(lines: list[Line]) -> Iterable[Sentence]:
    """How much longer the paper's scheme takes than the exact one, on each machine and in each setting."""
    lines = [line for line in lines if line["backend"] == EXACT and line["glwe_server_time_over_this"] is not None]
    for machine, setting in dict.fromkeys((line["machine"], _setting_of_block(line)) for line in lines):
        same = [line for line in lines if (line["machine"], _setting_of_block(line)) == (machine, setting)]
        each = listed(
            f"{line.text('glwe_server_time_over_this')} times at {line.text('tokens')} tokens a batch" for line in same
        )
        yield Sentence(f"Per token, the paper's scheme takes longer at the server than {setting}: {each}.", tuple(same))


def gpu(tables: Tables) -> Answer | None:
    """That nothing was measured on a GPU, or what was."""
    lines = [line for name in TABLES for line in tables[name] if line["device"] is not None]
    found = [line for line in lines if line["device"] == GPU]
    if found:
        machines = listed(dict.fromkeys(str(line["machine"]) for line in found))
        return answer(f"{counted(len(found), 'line')} of measurements on a GPU: {machines}.", found)
    return answer(said_of(line["device"] for line in lines), []) if lines else None


def operations(tables: Tables) -> Answer | None:
    """Where the time of a whole step goes."""
    lines = whole_steps(tables)
    if not lines:
        return None
    return answer(f"Of a step of {named(lines[0])}, on average over its steps: {_parts(lines[0])}.", [lines[0]])


def _parts(line: Line) -> str:
    names = {"quantize": "quantizing", "encrypt": "encrypting", "server": "the server's product", "decrypt": "decrypting"}
    said = [f"{line.text(f'{name}_s')} s {text}" for name, text in names.items()]
    return listed([*said, f"{line.text('rest_s')} s everything else at the client"])


def whole_runs(tables: Tables) -> Answer | None:
    """How much of a whole encrypted run the server's product takes."""
    lines = [line for line in tables["encryption_counters"] if line["encrypted_matmuls"]]
    lines = [line for line in lines if line["matmul_time_s"] is not None and line["total_time_s"] is not None]
    if not lines:
        return None
    # The longest run of each backend.
    longest = {li["backend"]: li for li in sorted(lines, key=lambda li: li.number("total_time_s"))}.values()
    each = listed(
        f"{li.text('matmul_time_s')} of {li.text('total_time_s')} s under `{li['backend']}` ({li['model']})" for li in longest
    )
    return answer(f"The server's product took, of the whole run with its loading and evaluations: {each}.", longest)


def layer(tables: Tables) -> Answer | None:
    """Time of the largest encrypted layer over its plaintext product."""
    lines = [line for line in tables["layer"] if line["metric"] == "total_time_s" and line["backend"] == "glwe"]
    if not lines:
        return None
    main, *others = sorted(lines, key=lambda li: -li.number("inputs") * li.number("outputs") * li.number("rows"))
    return answer(_one_layer(main), [main], [Sentence(_one_layer(line), (line,)) for line in others])


def _one_layer(line: Line) -> str:
    ratios = {
        "median_over_plaintext_float": "float32",
        "median_over_integer": "integers in the clear",
        "median_over_bf16": "bf16",
    }
    said = [f"{line.text(column)} times {name}" for column, name in ratios.items() if line[column] is not None]
    none = "" if line["median_over_bf16"] is not None else "; bf16 not measured"
    shape = f"{line.text('rows')} x {line.text('inputs')} by {line.text('outputs')} outputs"
    took = ": ".join(part for part in (line.ranged("value_median", "s"), ", ".join(said)) if part)
    return f"One product of {shape} under `{line['backend']}`: {took}{none}."


def named(line: Line) -> str:
    """Model and setting of a whole step."""
    return f"`{line['model']}` under {_setting(line)}"
