import pytest
from browser import Browser, find_browser
from toy_models import trained_toy

from autoseg.pipeline.reporting import report_task

SHOWN = """Array.from(document.querySelectorAll('.slice [data-layer="%s"]'),
    (part) => getComputedStyle(part).display !== 'none')"""
COLUMN = """Array.from(document.querySelectorAll('#case-scores tbody tr'),
    (row) => row.cells[%d].textContent)"""
SORTED = """Array.from(document.querySelectorAll('#case-scores thead th'),
    (head) => head.getAttribute('aria-sort'))"""
PAPER = "getComputedStyle(document.body).backgroundColor"
WHITE, DARK = "rgb(255, 255, 255)", "rgb(20, 24, 29)"


@pytest.fixture(scope="module")
def page_file(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("opened")
    task = trained_toy(toy, folder)
    return report_task(task, "default", folder / "a report.html")


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    path = find_browser()
    if path is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
    try:
        browser = Browser(path, tmp_path_factory.mktemp("profile"))
    except (OSError, RuntimeError) as error:
        pytest.skip(f"{path} does not start here: {error}")
    yield browser
    browser.close()


@pytest.fixture
def browser(running, page_file):
    """The page freshly opened; what a test does leaves no trace and no complaint."""
    running.prefer("light")
    running.open(page_file)
    running.run("localStorage.clear()")
    running.open(page_file)
    yield running
    assert running.complaints == []


def head(column):
    return f"#case-scores thead th:nth-child({column + 1}) button"


def test_no_request_leaves_the_page(browser, page_file):
    assert browser.requests
    elsewhere = {r for r in browser.requests if not r.startswith(("data:", page_file.as_uri()))}
    assert elsewhere <= {"about:blank"}


def test_pressing_a_head_sorts_and_says_so(browser):
    browser.click(head(3))
    values = browser.run(COLUMN % 3)
    assert values == sorted(values)
    assert browser.run(SORTED)[2:5] == [None, "ascending", None]
    browser.click(head(3))
    assert browser.run(COLUMN % 3) == sorted(values, reverse=True)
    assert browser.run(SORTED)[3] == "descending"
    browser.click(head(0))
    names = browser.run(COLUMN % 0)
    assert names == sorted(names)
    assert browser.run(SORTED)[3] is None


def test_a_head_can_be_pressed_by_key(browser):
    browser.run(f"document.querySelector('{head(4)}').focus()")
    browser.press("Enter")
    values = browser.run(COLUMN % 4)
    assert values == sorted(values)
    browser.press(" ")
    assert browser.run(COLUMN % 4) == sorted(values, reverse=True)


def test_another_metric_can_be_shown_and_sorted(browser):
    dice = browser.run(COLUMN % 3)
    choose = "(m) => { const s = document.getElementById('metric'); s.value = m;"
    choose += "s.dispatchEvent(new Event('change')); }"
    browser.run(f"({choose})('hd95')")
    distances = browser.run(COLUMN % 3)
    assert distances != dice
    assert all(float(value) > 0.5 for value in distances)
    browser.click(head(3))
    assert [float(v) for v in browser.run(COLUMN % 3)] == sorted(map(float, distances))
    browser.run(f"({choose})('dice')")
    assert sorted(browser.run(COLUMN % 3)) == sorted(dice)
    title = f"document.querySelector('{head(2)}').textContent"
    assert browser.run(title) == "mean of structures"
    browser.run(f"({choose})('volume_error_ml')")
    assert browser.run(title) == "mean of structures, absolute"
    browser.run(f"({choose})('dice')")
    assert browser.run(title) == "mean of structures"


@pytest.mark.parametrize("layer", ["reference", "prediction", "errors"])
def test_layers_of_pictures_switch_by_box_and_by_key(browser, layer):
    others = {"image", "reference", "prediction", "errors"} - {layer}
    assert set(browser.run(SHOWN % layer)) == {True}
    browser.click(f"input[data-layer={layer}]")
    assert set(browser.run(SHOWN % layer)) == {False}
    for other in others:
        assert set(browser.run(SHOWN % other)) == {True}
    browser.press(layer[0])
    assert set(browser.run(SHOWN % layer)) == {True}
    assert browser.run(f"document.querySelector('input[data-layer={layer}]').checked")


def test_the_image_can_be_shown_alone_and_everything_again(browser):
    button = "document.querySelector('button[data-only]').getAttribute('aria-pressed')"
    browser.click("button[data-only]")
    assert {
        shown for n in ("reference", "prediction", "errors") for shown in browser.run(SHOWN % n)
    } == {False}
    assert set(browser.run(SHOWN % "image")) == {True}
    assert browser.run(button) == "true"
    browser.press("i")
    assert set(browser.run(SHOWN % "errors")) == {True}
    assert browser.run(button) == "false"


def test_keys_written_into_a_field_switch_nothing(browser):
    browser.run("document.getElementById('metric').focus()")
    browser.press("r")
    assert set(browser.run(SHOWN % "reference")) == {True}


def test_the_page_follows_the_system_until_a_reader_decides(browser, page_file):
    assert browser.run(PAPER) == WHITE
    browser.prefer("dark")
    assert browser.run(PAPER) == DARK
    browser.click("button[data-theme=light]")
    assert browser.run(PAPER) == WHITE
    browser.click("button[data-theme=dark]")
    browser.prefer("light")
    assert browser.run(PAPER) == DARK
    browser.open(page_file)
    assert browser.run(PAPER) == DARK
    browser.click("button[data-theme=auto]")
    assert browser.run(PAPER) == WHITE


def test_paper_is_white_and_holds_what_was_folded(browser):
    browser.prefer("dark", media="print")
    assert browser.run(PAPER) == WHITE
    assert browser.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    browser.run("dispatchEvent(new Event('beforeprint'))")
    folded = "document.querySelectorAll('details:not([open]):not([data-long])').length"
    assert browser.run(folded) == 0
    browser.run("dispatchEvent(new Event('afterprint'))")
    assert browser.run(folded) > 0
    browser.prefer("light")


def test_nothing_is_wider_than_a_telephone(browser):
    browser.send(
        "Emulation.setDeviceMetricsOverride",
        width=390, height=844, deviceScaleFactor=1, mobile=True,
    )  # fmt: skip
    try:
        assert browser.run("document.documentElement.scrollWidth") == 390
    finally:
        browser.send("Emulation.clearDeviceMetricsOverride")


def test_text_stands_out_from_its_ground(browser):
    for scheme in ("light", "dark"):
        browser.prefer(scheme)
        for selector in ("body", ".note", "caption", "a", ".chart text", "td.bad, body"):
            assert contrast(*browser.run(COLOURS % selector)) >= 4.5, (scheme, selector)


COLOURS = """(() => { const e = document.querySelector('%s'), look = getComputedStyle(e);
    const ink = e.closest('svg') ? look.fill : look.color;
    let ground = e;
    const clear = 'rgba(0, 0, 0, 0)';
    while (getComputedStyle(ground).backgroundColor === clear) ground = ground.parentElement;
    return [ink, getComputedStyle(ground).backgroundColor]; })()"""


def contrast(ink, ground):
    """As the Web Content Accessibility Guidelines define it."""

    def luminance(colour):
        parts = [int(part) / 255 for part in colour.strip("rgb()").split(",")]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        weights = (0.2126, 0.7152, 0.0722)
        return sum(weight * part for weight, part in zip(weights, linear, strict=True))

    low, high = sorted((luminance(ink), luminance(ground)))
    return (high + 0.05) / (low + 0.05)
