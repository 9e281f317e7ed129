import re

import numpy as np
import pytest
from pages import Page

from autoseg.report.charts import Curve, Mean, Strip, curves, means, strips, thinned
from autoseg.report.elements import render


def drawn(figure):
    return Page(render(figure))


def numbers(path):
    return [float(number) for number in re.findall(r"[-0-9.]+", path)]


def test_a_curve_goes_from_left_to_right_and_high_values_are_high():
    page = drawn(
        curves(
            [Curve(name="mean", x=[1, 2, 3], y=[0.0, 0.5, 1.0], colour=0)],
            title="Dice", x_title="epoch", range_=(0, 1),
        )
    )  # fmt: skip
    path = next(p["d"] for p in page.all("path") if (p.get("class") or "").startswith("line c0"))
    x, y = numbers(path)[::2], numbers(path)[1::2]
    assert x == sorted(x)
    assert y == sorted(y, reverse=True)
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.2)


def test_a_single_epoch_is_a_dot_and_what_is_undefined_is_left_out():
    page = drawn(
        curves([Curve(name="mean", x=[1, 2], y=[None, 0.5], colour=3)], title="t", x_title="epoch")
    )
    assert [c["class"] for c in page.all("circle")] == ["line c3"]
    assert not any((p.get("class") or "").startswith("line c3") for p in page.all("path")[:-1])


def test_long_curves_are_thinned_and_keep_their_ends():
    assert thinned(5, 10) == [0, 1, 2, 3, 4]
    kept = thinned(1000, 11)
    assert (kept[0], kept[-1], len(kept)) == (0, 999, 11)
    long = Curve(name="mean", x=range(1, 1001), y=list(np.linspace(0, 1, 1000)), colour=0)
    assert len(render(curves([long], title="t", x_title="epoch"))) < 8000


def test_epochs_are_whole_numbers():
    page = drawn(
        curves([Curve(name="m", x=[1, 2], y=[0.1, 0.2], colour=0)], title="t", x_title="epoch")
    )
    assert "1.5" not in page.texts
    assert {"1", "2"} <= set(page.texts)


def test_dots_tell_whose_they_are_and_the_box_is_of_the_quartiles():
    row = Strip(name="kidney", values=[0.0, 0.25, 0.5, 0.75, 1.0], names=list("abcde"), colour=1)
    page = drawn(strips([row], title="Dice", x_title="Dice", range_=(0, 1)))
    assert "c: 0.5" in page.texts
    dots = {float(c["cx"]) for c in page.all("circle")}
    box = next(p["d"] for p in page.all("path") if p.get("class") == "box")
    left, _, right, *_ = numbers(box)
    ordered = sorted(dots)
    assert (left, right) == (ordered[1], ordered[3])


def test_many_dots_stay_few_and_lose_their_names():
    rng = np.random.default_rng(0)
    rows = [
        Strip(name=f"s{n}", values=list(rng.random(2000)), names=["x"] * 2000, colour=n)
        for n in range(20)
    ]
    html = render(strips(rows, title="Dice", x_title="Dice"))
    assert html.count("<circle") <= 1600
    assert "x: " not in html


def test_a_mean_lies_within_its_interval():
    rows = [
        Mean(name="2d", value=0.8, interval=(0.7, 0.9), text="0.8", colour=0),
        Mean(name="3d", value=0.85, interval=None, text="0.85", colour=1),
    ]
    page = drawn(means(rows, title="Dice", x_title="Dice"))
    bars = [p["d"] for p in page.all("path") if (p.get("class") or "").startswith("interval")]
    assert len(bars) == 1
    low, _, high = numbers(bars[0])
    assert float(page.all("circle")[0]["cx"]) == pytest.approx((low + high) / 2, abs=0.2)


@pytest.mark.parametrize("values", [[0.0], [0.5, 0.5], [1e-9, 2e-9], [-3.0, 4e5]])
def test_any_range_has_an_axis(values):
    row = Strip(name="a", values=values, names=["n"] * len(values), colour=0)
    page = drawn(strips([row], title="t", x_title="x"))
    assert 2 <= sum(p.get("class") == "grid" for p in page.all("path")) <= 9


def test_charts_say_in_words_what_they_show():
    row = Strip(name="kidney", values=[0.2, 0.4], names=["a", "b"], colour=0)
    page = drawn(strips([row], title="Dice of the cases", x_title="Dice"))
    assert page.all("svg")[0]["role"] == "img"
    assert page.all("svg")[0]["aria-label"] == "Dice of the cases. kidney: median 0.3"
