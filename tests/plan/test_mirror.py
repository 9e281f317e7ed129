import numpy as np
import pytest

from autoseg.core.fingerprint import (
    CaseFingerprint,
    Fingerprint,
    IntensityStats,
    StructureMeasure,
)
from autoseg.core.labels import LabelSpace, Structure
from autoseg.plan.mirror import mirror_verdicts

STATS = IntensityStats(mean=1, median=1, std=1, min=0, max=2, percentile_00_5=0, percentile_99_5=2)
SPACING = (3.0, 1.0, 1.5)
RADIUS_MM = 12.0
"""Two such structures lie apart from 8 mm on."""
Z, Y, X = range(3)


def labels(*names):
    return LabelSpace(
        structures=tuple(Structure(name=n, values=(i,)) for i, n in enumerate(names, start=1))
    )


PAIR = labels("front", "back")


def case(*offsets, means=None, radius_mm=RADIUS_MM, orientation="SPL", stds=None):
    """A case whose structures lie at these offsets (mm) from a point far off the origin."""
    means = means or [(100.0,)] * len(offsets)
    stds = stds or [tuple(10.0 for _ in m) for m in means]
    voxels = round(4 / 3 * np.pi * radius_mm**3 / np.prod(SPACING))
    return CaseFingerprint(
        name="",
        shape=(40, 50, 60),
        spacing=SPACING,
        relative_size=1.0,
        label_voxels=tuple(0 if offset is None else voxels for offset in offsets),
        original_shape=(40, 50, 60),
        orientation=orientation,
        channels=(),
        structures=tuple(
            None
            if offset is None
            else StructureMeasure(
                centroid=(-500.0 + offset[0], 80.0 + offset[1], 900.0 + offset[2]),
                means=mean,
                stds=std,
            )
            for offset, mean, std in zip(offsets, means, stds, strict=True)
        ),
        files=(),
    )


def apart(*offset, **what):
    """Two structures of which the second lies at an offset of the first."""
    return case((0.0, 0.0, 0.0), offset, **what)


def verdicts(cases, space=PAIR):
    named = [c.model_copy(update={"name": f"case_{i:03d}"}) for i, c in enumerate(cases)]
    num_channels = max(len(s.means) for c in cases for s in c.structures if s is not None)
    fingerprint = Fingerprint(
        label_values=space.values, cases=tuple(named), intensities=(STATS,) * num_channels
    )
    return mirror_verdicts(fingerprint, space)


def forbidden(cases, space=PAIR):
    return [verdict.axis for verdict in verdicts(cases, space) if not verdict.is_allowed]


def test_alike_structures_in_the_same_order_forbid_the_axis_they_lie_along():
    for axis in (Z, Y, X):
        offset = [0.0, 0.0, 0.0]
        offset[axis] = -20.0
        assert forbidden([apart(*offset)] * 8) == [axis]


def test_a_verdict_states_how_the_structures_lie_and_look():
    cases = [apart(0.0, mm, 0.0, means=[(100.0,), (103.0,)]) for mm in (18, 19, 20, 21)] * 2
    none, found, _ = verdicts(cases)
    assert none.is_allowed
    assert none.against == ()
    (order,) = found.against
    assert order.structures == ("front", "back")
    assert (order.num_same, order.num_cases) == (8, 8)
    assert order.distance_mm == 19.5
    assert order.contrast_stds == pytest.approx(0.3)
    assert not order.by_name


def test_structures_that_lie_either_way_round_forbid_nothing():
    assert forbidden([apart(0, 20, 0)] * 9 + [apart(0, -20, 0)]) == []


def test_an_exception_in_a_hundred_does_not_count():
    assert forbidden([apart(0, 20, 0)] * 97 + [apart(0, -20, 0)] * 3) == [Y]
    assert forbidden([apart(0, 20, 0)] * 96 + [apart(0, -20, 0)] * 4) == []


def test_an_order_in_few_cases_may_be_an_accident():
    # 10 to 30 mm apart: 2.4 standard deviations.
    cases = [apart(0, mm, 0) for mm in (10, 30, 25, 15, 20, 12, 28, 22)]
    assert forbidden(cases[:7]) == []
    assert forbidden(cases) == [Y]


def test_a_steady_distance_is_no_accident_from_three_cases_on():
    cases = [apart(0, mm, 0) for mm in (19, 20, 21)]
    assert forbidden(cases[:2]) == []
    assert forbidden(cases) == [Y]


def test_a_single_case_forbids_nothing():
    assert forbidden([apart(20, 20, 20)]) == []


def test_cases_that_lack_a_structure_do_not_count():
    lacking = [case((0, 0, 0), None), case(None, (0, 0, 0))] * 4
    _, found, _ = verdicts([apart(0, 20, 0)] * 8 + lacking)
    assert found.against[0].num_cases == 8
    assert forbidden(lacking) == []


def test_structures_that_look_different_forbid_nothing():
    assert forbidden([apart(0, 20, 0, means=[(100.0,), (111.0,)])] * 8) == []
    assert forbidden([apart(0, 20, 0, means=[(100.0,), (109.0,)])] * 8) == [Y]


def test_one_channel_is_enough_to_look_different():
    means = [(100.0, 50.0, 7.0), (100.0, 30.0, 7.0)]
    assert forbidden([apart(0, 20, 0, means=means)] * 8) == []


def test_the_spread_of_both_structures_counts():
    # The pooled standard deviation is 25: of 20 and 29.15.
    stds = [(20.0,), (850.0**0.5,)]
    assert forbidden([apart(0, 20, 0, means=[(100.0,), (124.0,)], stds=stds)] * 8) == [Y]
    assert forbidden([apart(0, 20, 0, means=[(100.0,), (126.0,)], stds=stds)] * 8) == []


def test_what_is_brighter_in_one_case_and_darker_in_the_next_is_alike():
    brighter = [(100.0,), (150.0,)]
    cases = [apart(0, 20, 0, means=m) for m in (brighter, brighter[::-1])] * 4
    assert forbidden(cases) == [Y]


def test_constant_structures_are_alike_only_if_they_are_equal():
    constant = [(0.0,), (0.0,)]
    same, different = [(5.0,), (5.0,)], [(5.0,), (6.0,)]
    assert forbidden([apart(0, 20, 0, means=same, stds=constant)] * 8) == [Y]
    assert forbidden([apart(0, 20, 0, means=different, stds=constant)] * 8) == []


def test_structures_inside_each_other_forbid_nothing():
    # A third of the sum of the radii is 8 mm.
    assert forbidden([apart(0, 7.5, 0)] * 20) == []
    assert forbidden([apart(0, 8.5, 0)] * 20) == [Y]


def test_structures_less_than_two_voxels_apart_forbid_nothing():
    # Voxels are 3, 1 and 1.5 mm large, the structures 2.4 mm.
    cases = [apart(5.5, 2.1, 2.9, radius_mm=2.4)] * 8
    assert forbidden(cases) == [Y]


def test_the_size_of_a_voxel_follows_the_orientation_of_the_images():
    # Along the image's z (3 mm) lies the patient's left and right, along its x (1.5 mm) the height.
    cases = [apart(3.1, 0, 5.9, radius_mm=2.4, orientation="LPS")] * 8
    assert forbidden(cases) == [X]


def test_axes_of_the_images_follow_their_orientation():
    assert forbidden([apart(0, 0, 20, orientation="RIA")] * 8) == [Z]
    assert forbidden([apart(20, 0, 0, orientation="RIA")] * 8) == [Y]


def test_images_oriented_differently_lose_every_axis_that_is_forbidden_in_one_of_them():
    cases = [apart(0, 0, 20)] * 7 + [apart(0, 0, 20, orientation="LPS")]
    assert forbidden(cases) == [Z, X]


def test_the_plainest_pair_comes_first():
    space = labels("a", "b", "c")
    means = [(100.0,), (105.0,), (100.0,)]
    cases = [case((0, 0, 0), (0, 20, 0), (0, 60, 0), means=means)] * 8
    cases.append(case((0, 0, 0), None, (0, 60, 0), means=means))
    _, found, _ = verdicts(cases, space)
    assert [order.structures for order in found.against] == [("a", "c"), ("a", "b"), ("b", "c")]


SIDES = labels("kidney_left", "spleen", "Kidney Right")


def test_left_and_right_by_name_forbid_that_axis_in_a_single_case():
    _, _, found = verdicts([case((0, 0, 40), None, (0, 0, -40))], SIDES)
    (order,) = found.against
    assert order.by_name
    assert order.structures == ("kidney_left", "Kidney Right")
    assert (order.num_same, order.num_cases) == (1, 1)


def test_left_and_right_by_name_need_no_case_that_has_both():
    cases = [case((0, 0, 40), None, None), case(None, None, (0, 0, -40))]
    found = verdicts(cases, SIDES)
    assert [verdict.is_allowed for verdict in found] == [True, True, False]
    assert found[X].against[0].num_cases == 0


def test_left_and_right_by_name_may_look_different():
    means = [(100.0,), (0.0,), (300.0,)]
    assert forbidden([case((0, 0, 40), None, (0, 0, -40), means=means)], SIDES) == [X]


def test_left_and_right_by_name_yield_to_cases_that_lie_either_way():
    same, other = case((0, 0, 40), None, (0, 0, -40)), case((0, 0, -40), None, (0, 0, 40))
    assert forbidden([same, other], SIDES) == []
    assert forbidden([same] * 3 + [other], SIDES) == [X]


def test_regions_are_judged_by_their_label_values():
    space = LabelSpace(
        structures=(
            Structure(name="whole", values=(1, 2)),
            Structure(name="back", values=(2,)),
        ),
        output_values=(1, 2),
        ignore=3,
    )
    _, found, _ = verdicts([apart(0, 20, 0)] * 8, space)
    assert found.against[0].structures == ("label 1", "back")


def test_regions_that_are_left_and_right_by_name_are_seen():
    space = LabelSpace(
        structures=(
            Structure(name="left lung", values=(1, 2)),
            Structure(name="right lung", values=(3, 4)),
        ),
        output_values=(1, 3),
    )
    cases = [case((0, 0, 40), (30, 0, 40), (0, 0, -40), (30, 0, -40))]
    assert forbidden(cases, space) == [X]
