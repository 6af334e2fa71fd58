"""The report in a browser, made of recorded results: complete, readable by everybody, and a page that asks for nothing."""

from __future__ import annotations

import base64
from itertools import pairwise

import pytest
from browser import Browser
from recorded_results import RECORDED, collect_recorded
from report_results import publish
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from slow_tests import slow

from private_lora.publish.report.page import write_report
from private_lora.publish.report.questions import QUESTIONS
from private_lora.specs.published import PUBLISHED_FIGURES

LARGEST_PAGE = 8_000_000
# Machine whose records are the study's own, those beside it, and figures: a short page, and one of all that was recorded.
FIGURES = ("knowledge", "final_loss_vs_bits", "full_step_operations", "encrypted_minus_clear", "bytes_per_token")
FEW = ("2-core-epyc-llm", ("2-core-epyc-session",), FIGURES)
ALL = ("2-core-xeon", None, tuple(PUBLISHED_FIGURES))


@pytest.fixture(scope="session", params=[FEW, slow(ALL)], ids=["short", "all"])
def page(request, tmp_path_factory):
    own, beside, figures = request.param
    results = publish(collect_recorded(tmp_path_factory.mktemp("study") / "data", own, beside), figures=figures)
    write_report(results, results / "report.html", RECORDED)
    return results / "report.html"


@pytest.fixture
def opened(page, browser) -> Browser:
    browser.open(page)
    return browser


def column(opened: Browser, name: str, table: str = "runs") -> list[str]:
    """Cells of a column, from top to bottom."""
    return opened.script(
        "const table = document.querySelector('#table-' + arguments[0] + ' table');"
        "const at = [...table.tHead.rows[0].cells].findIndex((head) => head.textContent === arguments[1]);"
        "return [...table.tBodies[0].rows].map((row) => row.cells[at].textContent.trim());",
        table,
        name,
    )


def head(opened: Browser, name: str, table: str = "runs"):
    """The head of a column."""
    heads = opened.driver.find_elements(By.CSS_SELECTOR, f"#table-{table} thead th")
    return next(found for found in heads if found.get_property("textContent") == name)


def test_it_asks_for_nothing_and_has_no_error(page, opened):
    assert opened.requests_elsewhere() == []
    assert opened.console() == []
    assert page.stat().st_size < LARGEST_PAGE
    assert (
        opened.script("return performance.getEntriesByType('resource').filter((e) => !e.name.startsWith('data:')).length") == 0
    )


def test_every_image_is_shown_and_says_what_it_shows(opened):
    images = opened.images()
    assert len(images) >= 4
    assert [image for image in images if not image["complete"] or not image["width"] or len(image["alt"]) < 20] == []
    assert len({image["alt"] for image in images}) == len(images)


def test_every_link_leads_somewhere_in_the_page(opened):
    assert opened.dead_links() == []
    ids = opened.script("return [...document.querySelectorAll('[id]')].map((part) => part.id)")
    assert len(ids) == len(set(ids))


def test_headings_are_the_questions_in_order(opened):
    headings = opened.headings()
    assert [level for level, _ in headings].count(1) == 1 and headings[0][0] == 1
    assert all(after - before <= 1 for (before, _), (after, _) in pairwise(headings))
    second = [text for level, text in headings if level == 2]
    assert second == [
        "The result: does a real model learn?",
        *(question.heading for question in QUESTIONS),
        "Everything else",
        "Every run",
    ]


def test_landmarks_language_and_a_focus_that_is_seen(opened):
    assert opened.script("return document.documentElement.lang") == "en"
    for landmark in ("header", "nav[aria-label]", "main", "footer"):
        assert len(opened.driver.find_elements(By.CSS_SELECTOR, f"body > {landmark}")) == 1
    opened.driver.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    focused = (
        "const style = getComputedStyle(document.activeElement); return [document.activeElement.className, style.outlineStyle]"
    )
    assert opened.script(focused) == ["skip", "solid"]


def test_the_opening_is_one_answer_and_its_figure(opened):
    opening = opened.driver.find_element(By.CSS_SELECTOR, "section[aria-labelledby=result]")
    assert len(opening.find_elements(By.CSS_SELECTOR, "p.answer")) == 1
    assert [figure.get_attribute("id") for figure in opening.find_elements(By.TAG_NAME, "figure")] == ["figure-knowledge"]


def test_a_table_sorts_by_click_and_by_keyboard(opened):
    opened.unfold()
    opened.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    as_written = column(opened, "row")
    chosen = head(opened, "total time s")
    assert chosen.get_attribute("aria-sort") == "none"
    opened.script("arguments[0].querySelector('button').click()", chosen)
    up = [float(text.replace(",", "")) for text in column(opened, "total time s") if text]
    assert up == sorted(up) and len(set(up)) > 1 and chosen.get_attribute("aria-sort") == "ascending"
    chosen.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    down = [float(text.replace(",", "")) for text in column(opened, "total time s") if text]
    assert down == up[::-1] and chosen.get_attribute("aria-sort") == "descending"
    chosen.find_element(By.TAG_NAME, "button").send_keys(Keys.SPACE)
    assert column(opened, "row") == as_written and chosen.get_attribute("aria-sort") == "none"


def test_a_line_leads_to_its_runs_and_those_to_their_commit(opened):
    link = opened.driver.find_element(By.CSS_SELECTOR, "#table-runs tbody a[href^='#run-']")
    run = link.get_attribute("href").partition("#")[2]
    opened.script("location.hash = arguments[0]", run)
    part = opened.driver.find_element(By.ID, run)
    assert part.get_property("open") and part.is_displayed()
    said = part.find_element(By.TAG_NAME, "dl").text
    assert "commit" in said and "python -m private_lora" in said


@pytest.mark.parametrize(("part", "file"), [("table-runs", "tables/runs.csv"), ("figure-knowledge", "figures/knowledge.csv")])
def test_downloads_are_the_files(page, opened, part, file):
    address = opened.script("return document.getElementById(arguments[0]).querySelector(`a[download$='.csv']`).href", part)
    assert base64.b64decode(address.partition(",")[2]) == (page.parent / file).read_bytes()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(page, browser, scheme):
    browser.open(page, scheme=scheme)
    grounds = browser.script("return getComputedStyle(document.body).backgroundColor")
    assert (grounds == "rgb(255, 255, 255)") == (scheme == "light")
    browser.unfold()
    assert browser.low_contrast() == {}
    # The check itself sees a text that does not.
    browser.script("document.querySelector('.lead').style.color = arguments[0]", grounds)
    assert list(browser.low_contrast()) == ["P.lead"]


def test_a_telephone_scrolls_in_one_direction(page, browser):
    browser.open(page, width=400)
    assert browser.page_width() <= 400
    browser.unfold()
    assert browser.page_width() <= 400
    # Wide tables scroll inside their box.
    boxes = browser.script("return [...document.querySelectorAll('.scroll')].map((box) => [box.scrollWidth, box.clientWidth])")
    assert any(inside > box for inside, box in boxes) and all(box <= 400 for _, box in boxes)
