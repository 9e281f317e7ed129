import numpy as np
import pytest

from autoseg.core.labels import LabelSpace, Structure
from autoseg.imaging.decide import decide, indices_from


def regions(**structures):
    """Structures by their values, the last of which they are written as."""
    return LabelSpace(
        structures=tuple(Structure(name=n, values=v) for n, v in structures.items()),
        output_values=tuple(v[-1] for v in structures.values()),
    )


CLASSES = LabelSpace(
    structures=tuple(Structure(name=f"s{v}", values=(v,)) for v in (30, 4, 9)), ignore=255
)


def test_of_classes_the_largest_logit_counts_and_of_equal_ones_the_first():
    logits = np.random.default_rng(0).normal(size=(4, 3, 4, 5)).round(1).astype(np.float32)
    found = decide(iter(logits), CLASSES)
    assert found.dtype == np.int16
    np.testing.assert_array_equal(found, logits.argmax(axis=0))


def test_regions_are_written_in_declared_order_one_over_the_other():
    # File values 1, 2, 4 have the indices 1, 2, 3.
    labels = regions(whole=(1, 4, 2), core=(4, 1), enhancing=(4,))
    whole = np.array([-1.0, 1.0, 1.0, 1.0, -1.0, 1.0])
    core = np.array([-1.0, -1.0, 1.0, 1.0, 1.0, -1.0])
    enhancing = np.array([-1.0, -1.0, -1.0, 1.0, -1.0, 1.0])
    assert decide(iter([whole, core, enhancing]), labels).tolist() == [0, 2, 1, 3, 1, 3]


def test_a_region_that_is_as_likely_as_not_is_not_there():
    labels = regions(whole=(1, 2), core=(2,))
    assert decide(iter(np.array([[0.0, 1e-6], [-5.0, 0.0]])), labels).tolist() == [0, 2]


def test_outputs_are_taken_one_by_one():
    alive = []

    def outputs():
        for index in range(2):
            alive.append(index)
            yield np.full((2, 3), float(index))

    decide(outputs(), regions(whole=(1, 2), core=(2,)))
    assert alive == [0, 1]


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_outputs_than_regions_is_refused(count):
    with pytest.raises(ValueError, match="zip"):
        decide(iter(np.zeros((count, 2, 3))), regions(whole=(1, 2), core=(2,)))


def test_of_probabilities_the_most_likely_class_counts():
    probabilities = np.array([[[0.5, 0.2]], [[0.5, 0.3]], [[0.0, 0.5]]], dtype=np.float32)
    labels = LabelSpace(structures=tuple(Structure(name=f"s{v}", values=(v,)) for v in (7, 3)))
    found = indices_from(probabilities, labels)
    assert found.dtype == np.int16
    assert found.tolist() == [[0, 2]]


def test_of_probabilities_of_regions_those_above_one_half_count():
    labels = regions(whole=(1, 4, 2), core=(4, 1), enhancing=(4,))
    whole, core, enhancing = [0.5, 0.6, 0.9], [0.2, 0.51, 0.5], [0.4, 0.1, 0.7]
    found = indices_from(np.array([whole, core, enhancing], dtype=np.float32), labels)
    assert found.tolist() == [0, 1, 3]
