"""Pages from templates: every number comes from a cell, and a number that comes from nowhere is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from private_lora.core.errors import UserError
from private_lora.publish.docs.formats import shown
from private_lora.publish.docs.pages import Pages, write_pages
from private_lora.publish.docs.prose import numbers_in
from private_lora.publish.docs.sources import HEADING
from private_lora.publish.docs.tables import Tables
from private_lora.publish.docs.wrap import wrap

RUN = "knowledge_smollm2_float_seed0"
SPEED = f"""model,backend,bits,tokens,step_time_s_median,upload_bytes_per_token,note,run_ids
nano,float,,512,1.5,,plain,{RUN}
nano,packed,8,512,3.25,5124105.5,"a | b",{RUN}
mini,packed,8,2048,61,8e6,,
"""
PAGE = Path("docs/page.md")
DISTURBED = (
    SPEED.replace("note,", "note,disturbed,")
    .replace("plain,", "plain,,")
    .replace('b",', 'b",a neighbour,')
    .replace(",,\n", ",,,\n")
)


@pytest.fixture
def rendered(tmp_path):
    """A function from the text of a template, and of the CSV `speed`, to the page."""

    def render(template: str, speed: str = SPEED) -> str:
        (tmp_path / "tables").mkdir(exist_ok=True)
        (tmp_path / "tables/speed.csv").write_text(speed)
        path = tmp_path / "templates" / PAGE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(template)
        return Pages(Tables(tmp_path / "tables"), tmp_path / "templates").render()[PAGE]

    return render


def body(page: str) -> str:
    """Without the note at the top and the sources at the end."""
    return page.split("-->\n\n", 1)[1].split(f"\n## {HEADING}")[0].strip()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ('cell("speed", "step_time_s_median", backend="float")', "1.50 s"),
        ('cell("speed", "step_time_s_median", ".1f s a step", model="nano", bits=8)', "3.2 s a step"),
        ('cell("speed", "step_time_s_median", ".0f ms", backend="float")', "1500 ms"),
        ('cell("speed", "upload_bytes_per_token", ".2f MB a token", model="nano", bits=8)', "5.12 MB a token"),
        ('cell("speed", "note", backend="float")', "plain"),
        ('cell("speed", "tokens", ",.0f", model="mini")', "2,048"),
        ('cell("speed", "tokens", bits=None)', "512"),
        ('chosen(2048, ",.0f tokens") }}{{ cell("speed", "model", tokens=2048)', "2,048 tokensmini"),
        ('spec(rows("speed", backend="float")[0], "data_options.people")', "32"),
        ('config("training.batch_size", file="config/studies/paper.yaml")', "4"),
        ('code("crypto.parameters:ERROR_STD")', "3.2"),
        ('code("crypto.security:SECURITY_CAPS.matzov.1024")', "26"),
        (
            'reference("value", ",.0f s", metric="step_time_s", configuration=["Llama-3.2-1B step, 64 tokens, FHE, CPU"])',
            "5,322 s",
        ),
        ('stated("2 %", "a target")', "2 %"),
    ],
)
def test_values(rendered, call, text):
    assert body(rendered(f"{{{{ {call} }}}}\n")) == text


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ('cell("speed", "step_time_s_median", model="nano")', "2 rows of table speed have model='nano'"),
        ('cell("speed", "step_time_s_median", model="none")', "no row of table speed"),
        ('cell("speed", "time", model="mini")', "no column 'time'"),
        ('cell("speed", "step_time_s_median", modell="mini")', "no column 'modell'"),
        ('cell("speed", "upload_bytes_per_token", backend="float")', "upload_bytes_per_token is empty"),
        ('cell("speed", "step_time_s_median", ".1f MB", model="mini")', "cannot be shown in MB"),
        ('cell("speed", "step_time_s_median", "short", model="mini")', "no format"),
        ('cell("slow", "step_time_s_median")', "there is no table"),
        ('table("speed", {"8 bits": "bits"})', "comes from nowhere"),
        ('figure("knowledge", "99 % of questions")', "comes from nowhere"),
        ("99.0", "comes from nowhere"),
        ('"99 %"', "comes from nowhere"),
        ('"9" ~ "9 %"', "comes from nowhere"),
        ("chosen(7)", "no cell of this page is chosen by it"),
        ('spec(rows("speed", model="mini")[0], "steps")', "no sidecar says what table speed, row 3, ran"),
        ('spec(rows("speed", bits=None)[0], "stepps")', "has no stepps"),
        ('config("training.nothing")', "config/config.yaml has no training.nothing"),
        ('code("crypto.parameters:NOTHING")', "the code has no crypto.parameters:NOTHING"),
        ('stated("5", " ")', "needs a reason"),
        ("celll()", "'celll' is undefined"),
    ],
)
def test_refusals_name_page_and_reason(rendered, call, said):
    with pytest.raises(UserError) as error:
        rendered(f"{{{{ {call} }}}}\n")
    assert str(PAGE) in str(error.value) and said in str(error.value)


def test_tables_of_chosen_rows_and_columns(rendered):
    call = 'table("speed", {"backend": "backend", "a step": ("step_time_s_median", ".1f s"), "note": "note"}, tokens=512)'
    lines = ["| backend | a step | note |", "|---|---|---|", "| float | 1.5 s | plain |", r"| packed | 3.2 s | a \| b |"]
    page = body(rendered(f"{{{{ {call} }}}}\n"))
    assert page.replace("| --- | --- | --- |", "|---|---|---|").splitlines() == lines


def test_rows_can_be_looped_over_and_macros_made_of_cells(rendered):
    loop = '{% for row in rows("speed", model="nano") %}{{ cell(row, "backend") }}: {{ time(row) }}. {% endfor %}'
    macro = '{% macro time(row) %}{{ cell(row, "step_time_s_median") }}{% endmacro %}'
    assert body(rendered(f"{macro}{loop}\n")) == "float: 1.50 s. packed: 3.25 s."


def test_a_page_changes_with_its_cell(rendered):
    template = 'It took {{ cell("speed", "step_time_s_median", ".2f s", model="mini") }}.\n'
    assert "It took 61.00 s." in rendered(template)
    assert "It took 62.00 s." in rendered(template, SPEED.replace(",61,", ",62,"))


def test_a_page_ends_with_the_records_of_its_cells(rendered):
    page = rendered('{{ cell("speed", "step_time_s_median", backend="float") }}\n')
    said = "| `speed` | `results/recorded/2-core-epyc-llm/` | AMD EPYC (family 26, model 2), 2 cores | `d5d6aad` | 2026-11-22 |"
    assert page.endswith(f"{said}\n") and page.startswith('<!-- Written by "make docs" from docs/templates/docs/page.md')
    assert HEADING not in rendered("No number.\n")


def test_published_values_name_their_source(rendered):
    call = 'reference("value", ".2f s", metric="matmul_time_s", configuration="64 rows, 2048x512, server, NVIDIA T4")'
    assert "paper_values.csv`: branch benchmark csv, extensions 0.1.7, median of 30; certain)" in rendered(
        f"{{{{ {call} }}}}\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "# Two steps\n\nIt took 5 s.\n",
        "<!-- 1 -->\n`2`\nIt took [5](3.md).\n",
        "{{ cell(\n3) }}It took 5%\n",
        "```\n7\n```\n* took 5\n",
        "1. First\n\n2. took 5\n",
        "GPT-2, Llama-3.2-1B,\nfloat32 and log2 of\nint8: 5\n",
        "A | B\n--|--\n1B | 5\n",
    ],
)
def test_a_planted_number_is_found(text):
    assert [found.number for found in numbers_in(text)] == ["5"]
    assert numbers_in(text)[0].line == next(i for i, line in enumerate(text.splitlines(), 1) if "5" in line)


def test_a_number_in_the_prose_of_a_template_is_refused(rendered):
    with pytest.raises(UserError, match=r"docs/page.md, line 3: 99.0 stands in the template's prose"):
        rendered("# Title\n\nIt learned 99.0 % of them.\n")


def test_only_what_is_not_current_is_written(tmp_path, monkeypatch):
    results, root = tmp_path / "results", tmp_path / "root"
    (results / "tables").mkdir(parents=True)
    (results / "tables/speed.csv").write_text(SPEED)
    (results / "figures").mkdir()
    (results / "figures/knowledge.png").write_bytes(b"image")
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "page.md").write_text('{{ figure("knowledge", "what was learned") }} {{ cell("speed", "note", bits=None) }}\n')
    monkeypatch.setattr("private_lora.publish.docs.pages.TEMPLATES", templates)
    assert write_pages(results, root) == [Path("page.md"), Path("docs/images/knowledge.png")]
    assert "![what was learned](docs/images/knowledge.png) plain" in (root / "page.md").read_text()
    assert write_pages(results, root) == []
    (results / "tables/speed.csv").write_text(SPEED.replace("plain", "changed"))
    assert write_pages(results, root) == [Path("page.md")]


def test_without_a_format_three_digits_and_the_unit():
    assert [shown(value, unit="s") for value in (0.12345, 12.345, 12345.6)] == ["0.123 s", "12.3 s", "12,346 s"]


def test_prose_is_filled_and_all_else_left():
    long, short = " ".join(["word"] * 40), "a\nb"
    kept = [
        "# A\nheading",
        "| a |\n|---|\n| b |",
        "```\na\n\n- b\nc\n```",
        '<p align="center"><img src="a"\nalt="b"></p>',
        "1. a\n2. b\n   c",
    ]
    text = "\n\n".join([short, *kept, f"- {short}\n- {long}", long])
    wrapped = wrap(text)
    assert wrapped.split() == text.split() and wrap(wrapped) == wrapped
    assert wrapped.startswith("a b\n\n") and all(block in wrapped for block in kept)
    assert max(map(len, wrapped.splitlines())) <= 128 and "\n- a b\n- word" in wrapped and "\n  word" in wrapped


def test_no_filled_line_begins_with_a_mark():
    for mark in ("-", "1.", "#", "|", ">"):
        text = " ".join(["word"] * 25 + ["wor", mark, "word"])
        assert wrap(text) == text


def test_a_disturbed_time_is_not_quoted(rendered):
    columns = '{"backend": "backend", "step": ("step_time_s_median", ".1f s"), "up": ("upload_bytes_per_token", ".0f MB")}'
    page = rendered(f'{{{{ table("speed", {columns}, model="nano") }}}}', DISTURBED)
    assert "| float | 1.5 s |  |" in page and "| packed | disturbed | 5 MB |" in page
    assert "1.5 s" in rendered('{{ cell("speed", "step_time_s_median", ".1f s", backend="float") }}', DISTURBED)
    with pytest.raises(UserError, match="step_time_s_median was disturbed, and is not to be quoted"):
        rendered('{{ cell("speed", "step_time_s_median", backend="packed", model="nano") }}', DISTURBED)
