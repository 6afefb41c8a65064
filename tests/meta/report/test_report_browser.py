"""The report in a real browser: charts are there, nothing runs, nothing sticks out."""

import shutil

import pytest

from meta.report.page import render
from tests.helpers.report_toys import (
    HOSTILE,
    toy_battles,
    toy_figures,
    toy_predictions,
    toy_reasons,
)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SIZES = {"phone": (390, 844), "desktop": (1280, 900)}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's package chromium"),
]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page whose mistakes hold every hostile text."""
    predictions = toy_predictions()
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(
        render(
            HOSTILE[0],
            toy_figures(predictions, names=(HOSTILE[4], "w" * 300)),
            predictions,
            toy_reasons(predictions, family=HOSTILE[4]),
            [toy_battles(predictions)],
            toy_figures(toy_predictions(60, 1)),
            file=HOSTILE[1],
            simulated=True,
        ),
        encoding="utf-8",
    )
    return path


@pytest.fixture(params=SIZES)
def size(request):
    return dict(zip(("width", "height"), SIZES[request.param], strict=True))


@pytest.fixture(params=["light", "dark"])
def opened(browser, report, request, size):
    """The page and what its console and its network said while it was opened."""
    page = browser.new_page(color_scheme=request.param, viewport=size)
    page.said, page.asked = [], []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("dialog", lambda dialog: page.said.append(dialog.message))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(report.as_uri())
    yield page
    page.close()


def test_charts_are_drawn_and_nothing_is_said_or_asked_for(opened, report):
    for details in opened.locator("details").all():
        details.evaluate("element => element.open = true")
    charts = opened.locator("svg.chart")
    assert charts.count() == 10  # two ladders, three curves, three triangles, two of the evidence
    for chart in charts.all():
        box = chart.bounding_box()
        assert box["width"] > 200
        assert box["height"] > 60
        assert chart.get_attribute("aria-label")
    assert opened.said == []
    assert opened.asked == [report.as_uri()]


def test_texts_of_battles_do_nothing(opened):
    for details in opened.locator("details").all():
        details.evaluate("element => element.open = true")
    assert opened.title() == f"Tiebreak: {HOSTILE[0]}"
    assert opened.locator("script, img, .text a, .text style").count() == 0
    assert opened.locator("main").is_visible()
    shown = opened.locator(".said").all_text_contents()
    for text in HOSTILE[:7]:
        assert text in shown


def test_nothing_sticks_out_of_the_page(opened, size):
    for details in opened.locator("details").all():
        details.evaluate("element => element.open = true")
    assert opened.evaluate("document.documentElement.scrollWidth") == size["width"]
    letters = opened.locator("svg.chart text").evaluate_all(
        "texts => texts.map(text => text.getBoundingClientRect().height)"
    )
    assert min(letters) > 8


def test_colours_follow_the_theme_and_can_be_read(opened):
    colours = opened.evaluate(
        """() => {
            const of = (selector, name) =>
                getComputedStyle(document.querySelector(selector)).getPropertyValue(name);
            return [of("body", "background-color"), of("body", "color"), of("nav a", "color"),
                    of("svg.chart text", "fill")];
        }"""
    )
    back, *fronts = ([int(n) for n in colour[4:-1].split(",")] for colour in colours)
    for front in fronts:
        assert contrast(back, front) > 4.5


def contrast(one, other):
    """Contrast of two colours, by WCAG 2.2; 4.5 is asked of small text."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    parts = [c / 255 for c in colour]
    parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_a_script_would_be_stopped_by_the_policy(browser, report, tmp_path):
    """The page's second wall: even markup that got through could not run or load anything."""
    path = tmp_path / "report.html"
    got_through = "<main><script>document.title = 'ran'</script><img src=http://127.0.0.1:9/x>"
    path.write_text(report.read_text(encoding="utf-8").replace("<main>", got_through))
    page = browser.new_page()
    page.goto(path.as_uri())
    assert page.title() != "ran"
    page.close()
