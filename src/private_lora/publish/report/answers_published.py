"""Answer beside the paper's numbers: each published quantity, and ours."""

from __future__ import annotations

from private_lora.publish.report.answer import Answer, Sentence, answer, listed
from private_lora.publish.report.lines import Line, Tables

# What is compared first, if it was measured.
FIRST = "whole encrypted training step"


def published(tables: Tables) -> Answer | None:
    """Each published quantity beside the first number of ours, and how many have one."""
    table = tables["published_comparison"]
    lines = [line for line in table if line["ours"] is not None and line["published"] is not None]
    if not lines:
        return None
    # Of a quantity the last one stays, which is the best to compare.
    firsts = list({line["quantity"]: line for line in sorted(lines, key=_from_measured)}.values())
    main = next((line for line in firsts if line["quantity"] == FIRST), firsts[-1])
    none = [line for line in table if line["ours"] is None]
    same = [line for line in lines if _is_like(line, main) and line["basis"] == "measured" and line is not main]
    shown = [*same, *sorted((line for line in firsts if line is not main), key=lambda li: li.row)]
    more = [Sentence(_beside(line), (line,)) for line in shown]
    if none:
        missing = listed(dict.fromkeys(f"{line['quantity']} ({line['published_setting']})" for line in none))
        more.append(Sentence(f"Published, and not run here: {missing}.", tuple(none)))
    return answer(f"{_beside(main)} Models, data and machines differ, as each line says.", [main], more)


def _is_like(line: Line, other: Line) -> bool:
    """Whether both compare the same published number."""
    return all(line[column] == other[column] for column in ("quantity", "published_setting"))


def _from_measured(line: Line) -> tuple:
    """Measured lines above others, those with a ratio above others, the first above others."""
    return line["basis"] == "measured", line["ratio_ours_to_published"] is not None, -line.row


def _beside(line: Line) -> str:
    unit = f" {line['unit']}" if line["unit"] else ""
    how = "" if line["normalisation"] in (None, "none") else f" ({line['normalisation']})"
    text = (
        f"{str(line['quantity']).capitalize()}{how}: published {line.text('published')}{unit} [{line['published_setting']}], "
    )
    text += f"here {line.text('ours')}{unit} [{line['our_setting']}]"
    if line["ratio_ours_to_published"] is None:
        return f"{text}; not divided, because the calls or tokens differ."
    return f"{text}: {line.text('ratio_ours_to_published')} times the published one."
