"""Which clean-up is accepted, on parts made by hand."""

import numpy as np
import pytest

from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.metrics import CaseScores
from autoseg.core.selection import CleanUp
from autoseg.evaluate.cleaning import MOST_VOLUMES, choose_clean_up, volumes_to_try
from autoseg.evaluate.removing import CaseParts, parts_of

ORGAN = LabelSpace(
    structures=(Structure(name="organ", values=(1,)), Structure(name="tumour", values=(2,)))
)
NESTED = LabelSpace(
    structures=(Structure(name="whole", values=(1, 2)), Structure(name="core", values=(2,))),
    output_values=(1, 2),
)
VOXEL_ML = 0.01
SHAPE = (3, 6, 20)


def apart(name, prediction, reference, labels=ORGAN, voxel_ml=VOXEL_ML, unknown=()):
    parts = parts_of(prediction, reference, labels, voxel_ml)
    case = CaseScores(name=name, structures={}, not_annotated=unknown)
    return CaseParts(case=case, parts=parts, labels=labels)


def organ(speck: int = 0, second: int = 0):
    """A block that is found, a false speck of so many voxels, a true second part."""
    reference = np.zeros(SHAPE, dtype=np.int16)
    reference[0:2, 1:4, 1:5] = 1
    reference[2, 5, 8 : 8 + second] = 1
    prediction = reference.copy()
    prediction[0, 0, 12 : 12 + speck] = 1
    return prediction, reference


def cases(makers, **others):
    return [apart(f"case_{n}", *make, **others) for n, make in enumerate(makers)]


def test_false_islands_are_removed_by_keeping_the_largest_component():
    found = choose_clean_up(cases([organ(speck=2 + n) for n in range(6)]), ORGAN)
    (effect,) = found
    assert effect.rule == CleanUp(structure="organ", largest_only=True)
    assert effect.after == 1.0
    assert effect.before == pytest.approx(np.mean([48 / (48 + 2 + n) for n in range(6)]))
    assert 0 < effect.interval[0] <= 1 - effect.before <= effect.interval[1]


def test_specks_beside_true_second_parts_are_removed_by_volume():
    found = choose_clean_up(cases([organ(speck=1 + n % 3, second=6) for n in range(6)]), ORGAN)
    (effect,) = found
    assert effect.rule == CleanUp(structure="organ", smallest_ml=0.031)
    assert effect.after == 1.0


def test_nothing_is_removed_where_nothing_is_wrong():
    assert choose_clean_up(cases([organ(second=4) for _ in range(5)]), ORGAN) == ()
    assert choose_clean_up(cases([organ() for _ in range(5)]), ORGAN) == ()


def test_a_gain_within_noise_is_not_accepted():
    mixed = [organ(speck=4), organ(second=3), organ(speck=4), organ(second=3), organ(speck=3)]
    rules = [effect.rule for effect in choose_clean_up(cases(mixed, voxel_ml=None), ORGAN)]
    assert rules == []
    assert choose_clean_up(cases([organ(speck=5)]), ORGAN) == ()  # one patient
    nothing = (np.zeros(SHAPE, dtype=np.int16),) * 2
    assert choose_clean_up(cases([organ(speck=5), *7 * [nothing]]), ORGAN) == ()  # one scored


def test_an_invented_structure_that_goes_is_a_gain():
    empty = np.zeros(SHAPE, dtype=np.int16)
    invented = empty.copy()
    invented[1, 2, 3:5] = 2
    right = empty.copy()
    right[1, 2:5, 3:9] = 2
    makers = [(invented, empty)] * 4 + [(right, right)] * 4
    (effect,) = choose_clean_up(cases(makers), ORGAN)
    assert effect.rule == CleanUp(structure="tumour", smallest_ml=0.021)
    assert (effect.before, effect.after) == (0.5, 1.0)


def test_a_structure_that_another_one_would_suffer_from_is_left_alone():
    makers = []
    for n in range(6):
        reference = np.zeros(SHAPE, dtype=np.int16)
        reference[0:2, 1:4, 1:5] = 1
        reference[1, 2, 15:18] = 2  # of the core a true part, far from the largest
        prediction = reference.copy()
        prediction[0, 5, 1 : 6 + n] = 1
        makers.append((prediction, reference))
    alone = choose_clean_up(cases(makers, labels=NESTED), NESTED)
    assert [effect.rule.largest_only for effect in alone] in ([], [False])
    assert all(effect.rule.structure == "whole" for effect in alone)


def test_cases_that_are_not_annotated_have_no_say():
    makers = [organ(speck=3 + n) for n in range(5)]
    assert choose_clean_up(cases(makers, unknown=("organ",)), ORGAN) == ()


def test_volumes_to_try_lie_just_above_those_found_and_are_few():
    assert volumes_to_try([[0.095], [0.0313, 0.0311], [12.04]]) == [0.032, 0.096, 13.0]
    many = volumes_to_try([[0.01 * n for n in range(1, 90)]])
    assert len(many) == MOST_VOLUMES
    assert (many[0], many[-1]) == (0.011, 0.9)
