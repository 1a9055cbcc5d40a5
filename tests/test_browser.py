"""The report in a headless Chromium; skipped where there is none."""

import os
import shutil

import pytest
from synthetic_run import record, run, snapshot, two_rungs

from monitoring.analysis.advice import WidthAdvice
from monitoring.report.run_page import render
from monitoring.report.sections import picture

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
]
SCREENSHOTS = os.environ.get("SCREENSHOTS")  # a folder to keep them in


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    names = ["probe_encoder_1", "probe_bottleneck"]
    records = {
        name: [record(name, epoch, 32, effective_rank=5.0 + epoch) for epoch in range(-1, 12)]
        for name in names
    }
    history = {
        "epoch": range(12),
        "loss": [1 / (n + 1) for n in range(12)],
        "val_loss": [1.2 / (n + 1) for n in range(12)],
    }
    from PIL import Image

    Image.new("RGB", (600, 200), "green").save(folder / "predictions.png")
    text = render(
        run(folder, records, history=history),
        {name: snapshot(name, 32) for name in names},
        [WidthAdvice(name, 32, 16, 12, 16, "15.1 channels in use") for name in names],
        ladder=two_rungs(names),
        pictures={"predictions.png": picture(folder / "predictions.png")},
    )
    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(params=[400, 1400])
def opened(browser, file, request):
    """The page, what it asked for and what it said."""
    page = browser.new_page(viewport={"width": request.param, "height": 900})
    requests, said = [], []
    page.on("request", lambda asked: requests.append(asked.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(file.as_uri())
    if SCREENSHOTS:
        page.screenshot(path=f"{SCREENSHOTS}/report-{request.param}.png", full_page=True)
    yield page, requests, said
    page.close()


def test_no_error_and_nothing_from_outside(opened, file):
    _, requests, said = opened
    assert said == []
    assert [url for url in requests if not url.startswith("data:")] == [file.as_uri()]


def test_everything_is_drawn_and_fits(opened):
    page, _, _ = opened
    boxes = [figure.bounding_box() for figure in page.locator("svg").all()]
    assert len(boxes) == 1 + 2 + 2 * 2 + 1
    assert all(box["width"] > 200 and box["height"] > 80 for box in boxes)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    loaded = "[...document.images].every(i => i.complete && i.naturalWidth > 0)"
    assert page.evaluate(loaded)
    hit = page.locator("svg .line").first.evaluate("e => getComputedStyle(e).stroke")
    assert hit != "none"


def test_tables_sort_by_mouse_and_keyboard(opened):
    page, _, _ = opened
    table = page.locator("table.sortable").first
    cells = table.locator("tbody tr td:nth-child(3)")
    button = table.locator("th:nth-child(3) button")
    button.click()
    assert cells.all_inner_texts() == ["500", "750", "1,000"]
    button.focus()
    page.keyboard.press("Enter")
    assert cells.all_inner_texts() == ["1,000", "750", "500"]
    assert table.locator("th:nth-child(3)").get_attribute("aria-sort") == "descending"


def test_links_lead_to_what_they_name(opened):
    page, _, _ = opened
    for link in page.locator("a").all():
        assert page.locator(f'[id="{link.get_attribute("href")[1:]}"]').count() == 1


def test_dark_and_light_can_be_read(browser, file):
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(file.as_uri())
        ink, paper = page.evaluate(
            "(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))"
        )
        light = [sum(map(int, colour[4:-1].split(","))) for colour in (ink, paper)]
        assert (light[0] < light[1]) == (scheme == "light")
        assert abs(light[0] - light[1]) > 400
        if SCREENSHOTS:
            page.screenshot(path=f"{SCREENSHOTS}/report-{scheme}.png")
        page.close()


@pytest.fixture(params=[400, 1400])
def searched(browser, tmp_path, request):
    """The page of a search, its file, what it asked for and what it said."""
    pytest.importorskip("optuna")
    from synthetic_search import search_page

    file = tmp_path / "search.html"
    file.write_text(search_page(), encoding="utf-8")
    page = browser.new_page(viewport={"width": request.param, "height": 900})
    requests, said = [], []
    page.on("request", lambda asked: requests.append(asked.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(file.as_uri())
    if SCREENSHOTS:
        page.screenshot(path=f"{SCREENSHOTS}/search-{request.param}.png", full_page=True)
    yield page, file, requests, said
    page.close()


def test_the_page_of_a_search_is_drawn_and_fits(searched):
    page, file, requests, said = searched
    assert said == [] and requests == [file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    boxes = [figure.bounding_box() for figure in page.locator("svg").all()]
    assert len(boxes) == 2 + 2  # scores over two costs, two plans of the memory
    assert all(box["width"] > 200 and box["height"] > 80 for box in boxes)
    assert page.locator("svg circle.chosen").count() == 2
    assert "works in 26,816 bytes" in page.locator("section:has(#memory)").inner_text()
    rows = page.locator("table.sortable tbody tr")
    assert rows.count() == 16
    assert rows.last.locator("td").last.inner_text().startswith("Expected a budget of at least")
    page.locator("table.sortable th:nth-child(1) button").click()
    assert rows.first.locator("td").first.inner_text() == "0"


def test_a_networks_configuration_can_be_copied(searched, tmp_path):
    from training.config import read_config

    page, _, _, _ = searched
    row = page.locator("table.sortable tbody tr").first
    row.locator("code").click()
    page.keyboard.press("Control+C")
    page.evaluate("document.body.append(document.createElement('textarea'))")
    page.locator("textarea").focus()
    page.keyboard.press("Control+V")
    text = page.locator("textarea").input_value()
    assert text == row.locator("code").inner_text() and text.startswith("{model: {")
    (tmp_path / "copied.yaml").write_text(text)
    assert read_config(tmp_path / "copied.yaml", {}).model.name == "nano_u"
