import numpy as np
import pytest

from autoseg.core.fingerprint import ChannelRange
from autoseg.core.geometry import Geometry
from autoseg.core.image import Image
from autoseg.core.labels import LabelSpace, Structure
from autoseg.fingerprint.measure import label_key, measure_case, summarise

LABELS = LabelSpace(structures=(Structure(name="a", values=(1,)), Structure(name="b", values=(2,))))


def published_case(number=0, shape=(24, 40, 32)):
    """The published test case: a wave with zeroed borders, two nested ellipsoids."""
    z, y, x = np.indices(shape).astype(np.float64)
    phase = 0.1 * number
    image = (100 * np.sin(0.3 * z + 0.2 * y + phase) + 50 * np.cos(0.25 * x) + 10).astype("f4")
    image[:2] = 0
    image[:, :3] = 0
    image[10:12, 20:24, 10:14] = 0
    image[:6, :8, :8] = 0
    distance = (z - 12) ** 2 / 36 + (y - 22) ** 2 / 100 + (x - 16) ** 2 / 80
    labels = (distance < 1).astype(np.int16) + (distance < 0.25)
    spacing = (2.5 if number % 4 == 0 else 3.0, 0.8, 0.8)
    geometry = Geometry(shape=shape, spacing=spacing)
    return Image(array=image[np.newaxis], geometry=geometry), labels.astype(np.int16)


def measure(number=0, shape=(24, 40, 32), labels=LABELS):
    image, indices = published_case(number, shape)
    return measure_case(f"case_{number:02d}", image, indices, labels, ())


def test_the_published_case_is_measured_as_published():
    measured = measure()
    assert measured.case.shape == (22, 37, 32)
    assert measured.case.relative_size == pytest.approx(0.8479166666666667)
    assert measured.case.label_voxels == (1944, 273)
    (stats,) = summarise([measured], 1, LABELS).intensities
    assert stats.mean == pytest.approx(34.28700637817383, abs=1e-4)
    assert stats.median == pytest.approx(43.78994369506836, abs=0.2)
    assert stats.min == pytest.approx(-129.10037231, abs=1e-4)
    assert stats.max == pytest.approx(157.90264893, abs=1e-4)
    assert stats.percentile_00_5 == pytest.approx(-116.163525390625, abs=0.3)
    assert stats.percentile_99_5 == pytest.approx(152.95375061035156, abs=0.3)


def test_the_published_data_set_is_summarised_as_published():
    cases = [measure(i, (24 + i % 3, 40, 32 + i % 2)) for i in range(40)]
    fingerprint = summarise(cases, 1, LABELS)
    (stats,) = fingerprint.intensities
    assert [case.shape for case in fingerprint.cases[:3]] == [
        (22, 37, 32),
        (23, 37, 33),
        (24, 37, 32),
    ]
    assert fingerprint.median_relative_size == pytest.approx(0.851, abs=5e-4)
    # The reference draws at random; a part in a thousand of the range is its noise.
    assert stats.mean == pytest.approx(-18.71925926208496, abs=0.05)
    assert stats.median == pytest.approx(-24.377391815185547, abs=0.2)
    assert stats.std == pytest.approx(74.80113220214844, abs=0.05)
    assert stats.percentile_00_5 == pytest.approx(-139.1617431640625, abs=0.2)
    assert stats.percentile_99_5 == pytest.approx(145.32762145996094, abs=0.2)
    assert stats.min == pytest.approx(-139.70550537109375, abs=1e-3)
    assert stats.max == pytest.approx(157.90264892578125, abs=1e-3)


def test_the_ignore_label_is_no_foreground():
    ignoring = LabelSpace(structures=(Structure(name="a", values=(1,)),), ignore=2)
    image, indices = published_case()
    everything = measure_case("c", image, indices, LABELS, ())
    without = measure_case("c", image, indices, ignoring, ())
    assert without.case.label_voxels == (1944,)
    assert without.sketches[0].mean != pytest.approx(everything.sketches[0].mean, abs=1e-3)


def test_intensities_are_those_of_the_annotated_foreground_alone():
    ignoring = LabelSpace(structures=(Structure(name="a", values=(1,)),), ignore=2)
    image, indices = published_case()
    image = Image(array=image.array + np.float32(500) * (indices == 2), geometry=image.geometry)
    found = summarise([measure_case("c", image, indices, ignoring, ())], 1, ignoring)
    annotated = image.array[0][indices == 1]
    (stats,) = found.intensities
    assert stats.mean == pytest.approx(annotated.mean(dtype=float), rel=1e-5)
    assert stats.std == pytest.approx(annotated.std(dtype=float), rel=1e-3)
    assert (stats.min, stats.max) == pytest.approx((annotated.min(), annotated.max()), rel=1e-5)
    assert image.array[0][indices > 0].max() > annotated.max() + 300


def test_a_case_without_foreground_counts_for_shape_only():
    image, indices = published_case()
    empty = measure_case("empty", image, np.zeros_like(indices), LABELS, ())
    fingerprint = summarise([measure(), empty], 1, LABELS)
    assert len(fingerprint.cases) == 2
    assert fingerprint.intensities == summarise([measure()], 1, LABELS).intensities


def test_a_data_set_without_any_foreground_has_no_intensities():
    image, indices = published_case()
    empty = measure_case("empty", image, np.zeros_like(indices), LABELS, ())
    fingerprint = summarise([empty], 1, LABELS)
    assert fingerprint.intensities == ()
    assert fingerprint.cases == (empty.case,)


def test_an_image_whose_label_map_cannot_be_used_is_measured_without():
    image, indices = published_case()
    with_labels = measure_case("c", image, indices, LABELS, ()).case
    without = measure_case("c", image, None, LABELS, ()).case
    assert (without.label_voxels, without.structures, without.num_components) == ((), (), ())
    assert without.shape == with_labels.shape
    assert without.channels == with_labels.channels


def test_the_same_voxels_have_the_same_content_whatever_their_place():
    image, _ = published_case()
    moved = Image(
        array=image.array.copy(), geometry=Geometry(shape=image.geometry.shape, spacing=(1, 1, 1))
    )
    changed = Image(array=image.array.copy(), geometry=image.geometry)
    changed.array[0, 5, 5, 5] += 1
    turned = Image(
        array=np.ascontiguousarray(image.array.reshape(1, 40, 24, 32)),
        geometry=Geometry(shape=(40, 24, 32), spacing=(1, 1, 1)),
    )
    content = [
        measure_case("c", i, None, LABELS, ()).case.content for i in (image, moved, changed, turned)
    ]
    assert content[0] == content[1]
    assert len(set(content)) == 3


def test_every_structure_is_located_and_described():
    rng = np.random.default_rng(3)
    turn = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (-1.0, 0.0, 0.0))
    geometry = Geometry(
        shape=(5, 6, 7), spacing=(3.0, 0.5, 1.5), origin=(10.0, -20.0, 5.0), direction=turn
    )
    array = rng.normal(50, 9, (2, 5, 6, 7)).astype(np.float32)
    indices = rng.integers(0, 3, (5, 6, 7)).astype(np.int16)
    space = LabelSpace(
        structures=tuple(Structure(name=f"s{value}", values=(value,)) for value in (1, 2, 3))
    )

    case = measure_case("a", Image(array=array, geometry=geometry), indices, space, ()).case

    for index in (1, 2):
        found = case.structures[index - 1]
        voxels = np.argwhere(indices == index)
        assert found is not None
        np.testing.assert_allclose(found.centroid, geometry.voxel_to_world(voxels).mean(axis=0))
        inside = array[:, indices == index].astype(np.float64)
        np.testing.assert_allclose(found.means, inside.mean(axis=1))
        np.testing.assert_allclose(found.stds, inside.std(axis=1))
    assert case.structures[2] is None
    assert case.original_shape == (5, 6, 7)
    assert case.orientation == "RSA"


def test_the_range_of_every_channel_covers_all_voxels():
    array = np.zeros((2, 3, 4, 5), np.float32)
    array[0, 0, 0, 0], array[0, 2, 3, 4] = -1024, 3071
    array[1] = 0.5
    image = Image(array=array, geometry=Geometry(shape=(3, 4, 5), spacing=(1.0, 2.0, 3.0)))
    space = LabelSpace(structures=(Structure(name="s", values=(1,)),))

    case = measure_case("a", image, np.zeros((3, 4, 5), np.int16), space, ()).case

    assert case.channels == (
        ChannelRange(min=-1024, max=3071, is_whole=True),
        ChannelRange(min=0.5, max=0.5, is_whole=False),
    )


def test_the_components_of_every_structure_are_counted():
    indices = np.zeros((3, 4, 7), np.int16)
    indices[0, 0, 0] = indices[1, 1, 1] = 1  # they share a corner
    indices[2, 3, 0] = indices[0, 3, 4] = indices[0, 3, 6] = 1
    indices[1, 1, 2] = 2
    indices[2, 0, 6] = 4
    ignoring = LabelSpace(
        structures=tuple(Structure(name=f"s{value}", values=(value,)) for value in (1, 2, 3)),
        ignore=4,
    )
    image = Image(
        array=np.zeros((1, 3, 4, 7), np.float32),
        geometry=Geometry(shape=(3, 4, 7), spacing=(3, 1, 2)),
    )
    image.array[0, 1, 1] = 5  # the count is of all voxels, not of the non-zero region
    case = measure_case("a", image, indices, ignoring, ()).case
    assert case.num_components == (4, 1, 0)


def test_other_names_values_or_an_ignore_label_make_other_measurements():
    renamed = LABELS.model_copy(
        update={"structures": (Structure(name="c", values=(1,)), *LABELS.structures[1:])}
    )
    swapped = LabelSpace(
        structures=(Structure(name="a", values=(2,)), Structure(name="b", values=(1,)))
    )
    fewer = LabelSpace(structures=(Structure(name="a", values=(1,)),))
    ignoring = LabelSpace(structures=(Structure(name="a", values=(1,)),), ignore=2)
    spaces = [LABELS, renamed, swapped, fewer, ignoring]
    assert len({label_key(space) for space in spaces}) == 5
    reordered = LabelSpace(structures=(LABELS.structures[1], LABELS.structures[0]))
    assert label_key(reordered) == label_key(LABELS)
