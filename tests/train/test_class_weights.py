import math

import pytest

from autoseg.core.fingerprint import CaseFingerprint, ChannelRange, Fingerprint
from autoseg.train.objective.class_weights import class_weights


def case(name, shape, label_voxels, spacing=(1.0, 1.0, 1.0)):
    return CaseFingerprint(
        name=name,
        shape=shape,
        spacing=spacing,
        relative_size=1.0,
        label_voxels=label_voxels,
        original_shape=shape,
        orientation="SPL",
        channels=(ChannelRange(min=0.0, max=1.0, is_whole=False),),
        structures=(None,) * len(label_voxels),
        files=(),
    )


def fingerprint(*cases):
    return Fingerprint(label_values=(0, 1, 2), cases=cases, intensities=())


def test_a_class_weighs_one_over_the_root_of_its_frequency():
    measured = fingerprint(case("a", (10, 10, 10), (90, 10)))  # 90 %, 9 %, 1 %
    raw = [1 / math.sqrt(0.9), 1 / math.sqrt(0.09), 1 / math.sqrt(0.01)]
    assert class_weights(measured, ["a"]) == pytest.approx([3 * w / sum(raw) for w in raw])


def test_the_frequency_is_over_the_cases_that_contain_the_class():
    measured = fingerprint(case("a", (10, 10, 10), (100, 0)), case("b", (10, 10, 10), (100, 100)))
    background, _, lesion = class_weights(measured, ["a", "b"])
    assert lesion / background == pytest.approx(math.sqrt((1700 / 2000) / (100 / 1000)))


def test_cases_that_are_not_annotated_for_a_class_do_not_make_it_rarer():
    full = case("full", (10, 10, 10), (200, 100))
    partial = case("partial", (10, 10, 10), (200, 0))
    _, organ, lesion = class_weights(fingerprint(full, partial), ["full", "partial"])
    assert lesion / organ == pytest.approx(math.sqrt((200 / 1000) / (100 / 1000)))


def test_voxels_count_by_their_volume():
    measured = fingerprint(
        case("fine", (4, 10, 10), (200, 100), spacing=(0.5, 0.5, 1.0)),
        case("coarse", (10, 10, 10), (100, 300), spacing=(3.0, 0.5, 1.0)),
    )
    weights = class_weights(measured, ["fine", "coarse"])
    volumes = [100 * 0.25 + 600 * 1.5, 200 * 0.25 + 100 * 1.5, 100 * 0.25 + 300 * 1.5]
    raw = [1 / math.sqrt(volume) for volume in volumes]
    assert weights == pytest.approx([3 * w / sum(raw) for w in raw])


def test_only_the_training_cases_count():
    shared = case("a", (10, 10, 10), (90, 10))
    other = case("b", (10, 10, 10), (1, 900))
    alone = class_weights(fingerprint(shared), ["a"])
    assert class_weights(fingerprint(shared, other), ["a"]) == alone


def test_the_rarest_weighs_at_most_100_times_the_commonest():
    measured = fingerprint(case("a", (100, 100, 100), (1, 100_000)))
    background, speck, organ = class_weights(measured, ["a"])
    assert speck / background == pytest.approx(100.0)
    assert 1 < organ / background < 100
    assert (background + speck + organ) / 3 == pytest.approx(1.0)


def test_a_class_in_no_training_case_weighs_as_much_as_the_rarest():
    measured = fingerprint(case("a", (10, 10, 10), (10, 0)))
    _, rare, absent = class_weights(measured, ["a"])
    assert absent == rare


def test_a_region_weighs_the_root_of_how_much_rarer_it_is_than_what_is_outside_it():
    measured = fingerprint(
        case("a", (10, 10, 10), (90, 10)),
        case("b", (10, 10, 10), (0, 0)),
        case("c", (1, 1, 1), (1, 0)),
    )
    whole, core = class_weights(measured, ["a", "b"], ((1, 2), (2,)))
    assert whole == pytest.approx(math.sqrt(900 / 100))
    assert core == pytest.approx(math.sqrt(990 / 10))


def test_the_weight_of_a_region_has_a_limit_and_one_of_no_case_that_of_the_rarest():
    measured = fingerprint(case("a", (100, 100, 100), (10, 0)))
    assert class_weights(measured, ["a"], ((1, 2), (1,), (2,))) == (100.0, 100.0, 100.0)
    nothing = fingerprint(case("a", (10, 10, 10), (0, 0)))
    assert class_weights(nothing, ["a"], ((1, 2), (2,))) == (1.0, 1.0)


def test_a_region_counts_in_cases_annotated_for_it_only():
    full, partly = case("a", (10, 10, 10), (60, 40)), case("b", (10, 10, 10), (0, 40))
    alone = class_weights(fingerprint(full), ("a",), [(1, 2), (2,)])
    both = class_weights(
        fingerprint(full, partly), ("a", "b"), [(1, 2), (2,)], {"b": (False, True)}
    )
    assert both == pytest.approx(alone)
