import numpy as np
import pytest

from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.plan import Recipe
from autoseg.imaging.prepare import prepare, trace_of
from autoseg.imaging.resample import resample_logits
from autoseg.imaging.restore import hand_on_labels

LABELS = LabelSpace(structures=(Structure(name="a", values=(3,)), Structure(name="b", values=(7,))))
REGIONS = LabelSpace(
    structures=(Structure(name="whole", values=(3, 7)), Structure(name="core", values=(7,))),
    output_values=(3, 7),
)
SPACING = (2.0, 1.0, 1.25)


def recipe(spacing):
    return Recipe(
        transpose=(1, 0, 2),
        spacing=spacing,
        channels=("MRI",),
        normalization=("zscore",),
        use_mask_for_norm=(False,),
        intensities=(None,),
        label_values=(0, 3, 7),
    )


@pytest.fixture
def traces(phantom):
    coarse, fine = recipe((2.5, 4.0, 3.0)), recipe((1.0, 2.0, 1.25))
    return [trace_of(phantom.image, SPACING, one) for one in (coarse, fine)]


def logits_on(trace, outputs):
    rng = np.random.default_rng(0)
    return rng.normal(size=(outputs, *trace.prepared_shape)).astype(np.float32)


def test_the_trace_of_an_image_is_the_one_it_is_prepared_with(phantom):
    fine = recipe((1.0, 2.0, 1.25))
    trace = trace_of(phantom.image, SPACING, fine)
    assert trace == prepare(phantom.image, SPACING, fine).trace


def test_logits_are_resampled_before_they_are_decided_upon(traces):
    source, target = traces
    logits = logits_on(source, 3)
    spacings = (source.target_spacing, target.target_spacing)
    whole = resample_logits(logits, target.prepared_shape, *spacings)
    indices = hand_on_labels([logits], source, target, LABELS)
    assert indices.shape == target.prepared_shape != source.prepared_shape
    np.testing.assert_array_equal(indices, whole.argmax(0))


def test_regions_become_a_label_map_too(traces):
    source, target = traces
    logits = logits_on(source, 2)
    whole = resample_logits(logits, target.prepared_shape, (2.5, 4.0, 3.0), (1.0, 2.0, 1.25))
    indices = hand_on_labels([logits], source, target, REGIONS)
    expected = np.where(whole[1] > 0, 2, np.where(whole[0] > 0, 1, 0))
    np.testing.assert_array_equal(indices, expected)


def test_a_coarse_axis_takes_the_nearest_slice(phantom):
    source, target = (trace_of(phantom.image, SPACING, recipe(s)) for s in ((1, 8, 1), (1, 2, 1)))
    logits = np.zeros((3, *source.prepared_shape), np.float32)
    logits[1, :, 1::2] = 1
    logits[2, :, ::2] = 0.9
    indices = hand_on_labels([logits], source, target, LABELS)
    size, new_size = source.prepared_shape[1], target.prepared_shape[1]
    nearest = ((np.arange(new_size) + 0.5) * size / new_size).astype(int)
    np.testing.assert_array_equal(indices[0, :, 0], np.where(nearest % 2, 1, 2))


def test_logits_of_another_grid_or_image_are_refused(traces, phantom):
    source, target = traces
    with pytest.raises(ValueError, match="outputs are"):
        hand_on_labels([logits_on(target, 3)], source, target, LABELS)
    other = trace_of(phantom.image[:, :20], SPACING, recipe((1.0, 2.0, 1.25)))
    with pytest.raises(ValueError, match="one image's box"):
        hand_on_labels([logits_on(source, 3)], source, other, LABELS)
