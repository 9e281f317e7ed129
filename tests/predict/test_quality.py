import numpy as np
import pytest

from autoseg.core.quality import (
    Calibration,
    QualityModel,
    Signals,
    StructureQuality,
    evidence,
    mean_dice,
)
from autoseg.predict.quality import LEAST_CORRELATED, ScoredCase, calibrate


def cases(count: int, noise: float = 0.0, **changes: object) -> list[ScoredCase]:
    """Dice grows with both signals."""
    rng = np.random.default_rng(3)
    found = []
    for number in range(count):
        mirrors, expected = rng.uniform(0.6, 1, 2)
        dice = 0.2 + 0.1 * evidence(mirrors) + 0.05 * evidence(expected) + rng.normal(0, noise)
        found.append(
            ScoredCase(
                **{
                    "group": f"patient {number}",
                    "signals": {"liver": Signals(mirrors=mirrors, expected=expected)},
                    "dice": {"liver": float(np.clip(dice, 0, 1))},
                }
                | changes
            )
        )
    return found


def test_a_relation_that_is_there_is_found():
    quality = calibrate(cases(200), ["liver"])
    first, second = quality.structures["liver"].calibrations
    assert first.signals == ("mirrors", "expected")
    assert first.slopes == pytest.approx((0.1, 0.05), rel=0.03)
    assert first.offset == pytest.approx(0.2, abs=0.02)
    assert second.signals == ("expected",)
    assert (quality.num_fitted, quality.num_checked) == (100, 100)
    for check in (quality.structures["liver"].check, quality.mean):
        assert check.num_cases == 100
        assert check.pearson > 0.999
        assert check.spearman > 0.999
        assert check.mean_error < 0.002 < 0.02 < check.guess_error


def test_it_is_checked_on_cases_it_has_not_seen():
    """Chance that is fitted is not found again: with noise alone, guessing is as good."""
    rng = np.random.default_rng(0)
    noise = [
        ScoredCase(
            group=str(number),
            signals={"liver": Signals(expected=rng.uniform())},
            dice={"liver": rng.uniform()},
        )
        for number in range(60)
    ]
    check = calibrate(noise, ["liver"]).structures["liver"].check
    assert abs(check.pearson or 0) < 0.35
    assert check.mean_error == pytest.approx(check.guess_error, abs=0.03)


def test_no_signal_ever_lowers_the_dice():
    upside_down = [
        ScoredCase(group=c.group, signals=c.signals, dice={"liver": 1 - c.dice["liver"]})
        for c in cases(40)
    ]
    quality = calibrate(upside_down, ["liver"])
    assert quality.structures["liver"].calibrations[0].slopes == (0, 0)
    assert quality.structures["liver"].check.pearson is None  # nothing varies


def test_cases_of_a_patient_are_on_one_side():
    same = cases(12, group="twins")
    assert calibrate(same, ["liver"]).num_checked == 0
    assert calibrate(same, ["liver"]).structures["liver"].check is None
    mixed = [*same, *cases(5)]
    quality = calibrate(mixed, ["liver"])
    assert {quality.num_fitted, quality.num_checked} in ({14, 3}, {15, 2})


def test_the_halves_do_not_depend_on_the_order_of_the_cases():
    some = cases(20, noise=0.05)
    one, other = (calibrate(order, ["liver"]).mean for order in (some, some[::-1]))
    assert one.model_dump() == pytest.approx(other.model_dump())


@pytest.mark.parametrize(("count", "works"), [(4, False), (5, True)])
def test_five_cases_are_the_least(count, works):
    quality = calibrate(cases(count), ["liver"])
    assert (quality is not None) == works
    if quality is not None:
        assert (quality.num_fitted, quality.num_checked) == (3, 2)
        assert quality.mean.pearson is None  # two points always lie on a line
        assert quality.mean.mean_error < 0.1


@pytest.mark.parametrize(("count", "least", "most"), [(6, 0.03, 0.09), (200, 0.099, 0.101)])
def test_few_cases_are_trusted_less_than_many(count, least, most):
    straight = [
        ScoredCase(
            group=str(number),
            signals={"liver": Signals(expected=value)},
            dice={"liver": 0.2 + 0.1 * evidence(value)},
        )
        for number, value in enumerate(np.linspace(0.6, 0.95, count))
    ]
    (line,) = calibrate(straight, ["liver"]).structures["liver"].calibrations
    assert least < line.slopes[0] < most


def test_a_correlation_takes_some_cases():
    assert calibrate(cases(2 * LEAST_CORRELATED - 1), ["liver"]).mean.spearman is None
    assert calibrate(cases(2 * LEAST_CORRELATED), ["liver"]).mean.spearman is not None


def test_a_structure_without_cases_stands_aside():
    quality = calibrate(cases(20), ["liver", "tumour"])
    assert quality.structures["tumour"] == StructureQuality()
    assert quality.dice("tumour", Signals(mirrors=0.9, expected=0.9)) is None
    assert quality.mean == quality.structures["liver"].check


def test_cases_where_dice_or_signal_is_undefined_do_not_count():
    holes = [
        ScoredCase(group="a", signals={"liver": Signals()}, dice={"liver": 0.0}),
        ScoredCase(group="b", signals={"liver": Signals(mirrors=0.9, expected=0.9)}, dice={}),
        ScoredCase(group="c", signals={}, dice={"liver": 0.0}),
    ]
    quality = calibrate([*cases(20), *holes], ["liver"])
    assert quality.structures["liver"].check.mean_error < 0.02


def test_without_mirrors_the_other_calibration_is_used():
    quality = calibrate(cases(200), ["liver"])
    first, second = quality.structures["liver"].calibrations
    assert quality.dice("liver", Signals(mirrors=0.9, expected=0.7)) == first.dice((0.9, 0.7))
    assert quality.dice("liver", Signals(expected=0.7)) == second.dice((0.7,))
    assert quality.dice("liver", Signals(mirrors=0.9)) is None


def test_models_without_mirrors_are_calibrated_too():
    plain = [
        ScoredCase(
            group=c.group,
            signals={"liver": Signals(expected=c.signals["liver"].expected)},
            dice=c.dice,
        )
        for c in cases(40)
    ]
    (only,) = calibrate(plain, ["liver"]).structures["liver"].calibrations
    assert only.signals == ("expected",)


def test_a_predicted_dice_lies_between_0_and_1():
    steep = Calibration(signals=("expected",), offset=-1.0, slopes=(1.0,))
    values = [steep.dice((signal,)) for signal in (0.1, 0.8, 0.9, 1.0)]
    assert values == pytest.approx([0, np.log(5) - 1, 1, 1], abs=0.01)


def test_evidence_grows_from_0_and_ends_somewhere():
    values = [evidence(signal) for signal in (0, 0.5, 0.9, 0.99, 1)]
    assert values == pytest.approx([0, 0.69, 2.29, 4.51, 6.91], abs=0.01)


def test_folds_without_calibration_do_not_count():
    line = Calibration(signals=("expected",), offset=0.1, slopes=(0.5,))
    known = QualityModel(
        structures={"liver": StructureQuality(calibrations=(line,))},
        mean=None,
        num_fitted=3,
        num_checked=2,
    )
    signals = [Signals(expected=0.5), Signals(expected=0.7)]
    expected = 0.1 + 0.5 * evidence(0.5)
    assert mean_dice("liver", signals, [[known, known], []]) == pytest.approx(expected)
    assert mean_dice("liver", signals, [[], []]) is None
