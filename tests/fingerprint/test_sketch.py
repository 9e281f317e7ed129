from fractions import Fraction

import numpy as np
import pytest

from autoseg.fingerprint.sketch import MOST_VALUES, combine, sketch

SIZES = (1, 37, 4_000, 60_001)
MOST_RANGES = 40_961


def exact_percentile(cases, share):
    """The smallest value at or below which that part of the equally weighted cases lies."""
    values = np.unique(np.concatenate(cases))
    ordered = [np.sort(case) for case in cases]

    def weight(value):
        counts = [int(np.searchsorted(case, value, side="right")) for case in ordered]
        parts = (Fraction(n, len(case)) for n, case in zip(counts, cases, strict=True))
        return sum(parts) / len(cases)

    low, high = 0, len(values) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if weight(values[middle]) >= share else (middle + 1, high)
    return float(values[low])


def exact_percentiles(cases):
    shares = (Fraction(5, 1000), Fraction(1, 2), Fraction(995, 1000))
    return [exact_percentile(cases, share) for share in shares]


def percentiles(cases):
    stats = combine([sketch(case) for case in cases])
    return [stats.percentile_00_5, stats.median, stats.percentile_99_5]


def test_cases_weigh_the_same_whatever_their_size():
    small, large = np.zeros(10, "f4"), np.full(1000, 100.0, "f4")
    stats = combine([sketch(small), sketch(large)])
    assert stats.mean == pytest.approx(50.0)
    assert stats.std == pytest.approx(50.0)
    assert (stats.min, stats.max) == (0.0, 100.0)
    assert (stats.percentile_00_5, stats.median, stats.percentile_99_5) == (0.0, 0.0, 100.0)


@pytest.mark.parametrize("spread", [3, 500, 40_000, 500_000])
def test_percentiles_of_whole_numbers_are_exact(spread):
    rng = np.random.default_rng(spread)
    cases = [rng.integers(-spread // 3, spread, size).astype("f4") for size in SIZES]
    assert percentiles(cases) == exact_percentiles(cases)


def test_percentiles_of_whole_numbers_are_those_of_numpy_for_cases_of_one_size():
    rng = np.random.default_rng(3)
    cases = [rng.integers(-200, 300, 4000).astype("f4") for _ in range(3)]
    expected = np.percentile(np.concatenate(cases), (0.5, 50, 99.5), method="inverted_cdf")
    assert percentiles(cases) == expected.tolist()


def test_halves_that_meet_at_the_median_are_not_parted_by_rounding():
    cases = [
        np.array([1, 1, 1, 7, 7, 9], "f4"),
        np.array([2, 8, 8], "f4"),
        np.array([3, 3, 7], "f4"),
    ]
    # At 3: 3/6, 1/3 and 2/3, a half in all.
    assert percentiles(cases) == [1, 3, 9]


def test_a_percentile_that_is_met_exactly_is_not_missed_by_rounding():
    cases = [np.full(size, 5, "f4") for size in (14, 35, *range(20, 38))]
    cases[0][3] = cases[1][30] = 1
    # (1/14 + 1/35) / 20 is 0.005; in float64 the sum comes out below.
    assert exact_percentiles(cases) == percentiles(cases) == [1, 5, 5]


@pytest.mark.parametrize("draw", ["normal", "uniform", "lognormal", "laplace", "standard_t"])
def test_percentiles_of_any_numbers_are_off_by_a_thousandth_of_their_range_at_most(draw):
    rng = np.random.default_rng(5)
    sizes = (40, 3_000, 30_000, 150_000)
    options = {"df": 2} if draw == "standard_t" else {}
    cases = [
        (getattr(rng, draw)(size=size, **options) * (1 + i / 3) + i).astype("f4")
        for i, size in enumerate(sizes)
    ]
    low, median, high = exact_percentiles(cases)
    error = np.abs(np.subtract(percentiles(cases), (low, median, high)))
    assert error.max() <= 1e-3 * (high - low)


def test_few_different_values_are_exact_whatever_they_are():
    cases = [np.random.default_rng(i).integers(0, 9000, 40_000).astype("f4") * 0.37 for i in (1, 2)]
    assert percentiles(cases) == exact_percentiles(cases)


@pytest.mark.parametrize("power", [1, 9])
def test_the_memory_of_a_case_is_bounded(power):
    values = np.random.default_rng(6).normal(size=400_000).astype("f8") ** power
    made = sketch(values.astype("f4"))
    assert MOST_VALUES / 2 < len(made.values) <= MOST_RANGES
    assert made.counts.sum() == values.size
    assert (np.diff(made.values) > 0).all()


def test_too_many_whole_numbers_are_put_in_ranges():
    values = np.arange(2**18 + 1, dtype="f4")
    made = sketch(values)
    assert len(made.values) <= MOST_RANGES
    assert len(sketch(values[1:]).values) == 2**18
    assert abs(combine([made]).median - 2**17) < 1e-3 * len(values)


def test_a_frequent_value_among_many_others_stays_what_it_is():
    others = np.random.default_rng(7).normal(3, 1e-3, 30_000)
    values = np.concatenate([np.full(5_000_000, 3.0), others]).astype("f4")
    made = sketch(values)
    assert made.values[np.argmax(made.counts)] == 3.0
    assert combine([made]).median == 3.0


def test_mean_and_spread_are_of_all_voxels():
    values = np.random.default_rng(8).normal(100, 4, 50_000).astype("f4")
    made = sketch(values)
    assert made.mean == values.astype("f8").mean()
    assert (made.minimum, made.maximum) == (values.min(), values.max())
    assert combine([made]).std == pytest.approx(values.astype("f8").std(), rel=1e-9)


def test_the_order_of_cases_has_no_influence_on_percentiles():
    cases = [np.random.default_rng(i).normal(i, 1, 500).astype("f4") for i in range(7)]
    assert percentiles(cases) == percentiles(cases[::-1])
