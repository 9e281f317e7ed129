from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from autoseg.core.labels import LabelSpace, Structure
from autoseg.errors import DataError
from autoseg.io.formats import label_suffix
from autoseg.io.images import read_image, read_labels
from autoseg.io.readers.segmentation import SEGMENTATION, Segment, read_segments

SHAPE = (6, 5, 4)
LIVER = np.zeros(SHAPE, bool)
LIVER[1:5, 1:4, :3] = True
TUMOUR = np.zeros(SHAPE, bool)
TUMOUR[2:4, 2, 1] = True
VESSEL = np.zeros(SHAPE, bool)
VESSEL[5, 4, 1:] = True


def _save(
    path: Path, layers: np.ndarray, *segments: tuple[str, int, int], old: bool = False
) -> Path:
    """Write ``(z, y, x)`` or ``(layers, z, y, x)`` as 3D Slicer does."""
    is_layered = layers.ndim == 4
    array = np.moveaxis(layers, 0, -1) if is_layered else layers
    none, list_ = ("none ", "list ") if is_layered else ("", "")
    fields = {
        "type": {"u1": "uint8", "i2": "int16", "i4": "int32", "f4": "float"}[array.dtype.str[1:]],
        "dimension": array.ndim,
        "space": "left-posterior-superior",
        "sizes": " ".join(map(str, array.shape[::-1])),
        "space directions": f"{none}(0.3,0.4,0) (-0.6,0.45,0) (0,0,3)",
        "kinds": f"{list_}domain domain domain",
        "endian": "little",
        "encoding": "raw",
        "space origin": "(-12.25,33.5,101.125)",
    }
    lines = ["NRRD0004", *(f"{key}: {value}" for key, value in fields.items())]
    for number, (name, value, layer) in enumerate(segments):
        lines += [f"Segment{number}_ID:=Segment_{number}", f"Segment{number}_Name:={name}"]
        lines += [f"Segment{number}_Extent:=0 3 0 4 0 5", f"Segment{number}_Color:=1 0 0"]
        if not old:
            lines += [f"Segment{number}_LabelValue:={value}", f"Segment{number}_Layer:={layer}"]
    header = "\n".join(lines) + "\n\n"
    path.write_bytes(header.encode() + np.ascontiguousarray(array).tobytes())
    return path


def _plain(ignore: int | None = None) -> LabelSpace:
    structures = (
        Structure(name="liver", values=(20,)),
        Structure(name="tumour", values=(300,)),
        Structure(name="vessel", values=(7,)),
    )
    return LabelSpace(structures=structures, background=1, ignore=ignore)


def _regions() -> LabelSpace:
    structures = (
        Structure(name="liver", values=(20, 300)),
        Structure(name="tumour", values=(300,)),
        Structure(name="vessel", values=(7,)),
    )
    return LabelSpace(structures=structures, output_values=(20, 300, 7))


def _one_layer() -> np.ndarray:
    layer = np.zeros(SHAPE, np.uint8)
    layer[LIVER], layer[TUMOUR], layer[VESSEL] = 1, 2, 3
    return layer


def _two_layers() -> np.ndarray:
    return np.stack([LIVER * 1 + VESSEL * 2, TUMOUR * 1]).astype(np.uint8)


TWO = [("liver", 1, 0), ("vessel", 2, 0), ("tumour", 1, 1)]


def test_the_header_names_the_segments(tmp_path: Path):
    path = _save(tmp_path / "a.seg.nrrd", _two_layers(), ("Tumör links", 1, 1), ("liver", 4, 0))

    assert read_segments(path) == (
        Segment(name="Tumör links", value=1, layer=1),
        Segment(name="liver", value=4, layer=0),
    )


def test_segments_are_in_the_order_of_their_numbers(tmp_path: Path):
    names = [f"part {number}" for number in range(12)]
    path = _save(tmp_path / "a.seg.nrrd", _one_layer(), *[(name, 1, 0) for name in names])

    assert [segment.name for segment in read_segments(path)] == names


def test_a_value_that_is_no_number_is_named(tmp_path: Path):
    path = _save(tmp_path / "a.seg.nrrd", _one_layer(), ("liver", "one", 0))

    with pytest.raises(DataError, match=r"value and layer of a segment are numbers: .*'one'"):
        read_segments(path)


def test_segments_get_the_values_declared_for_their_names(tmp_path: Path):
    segments = [(" Vessel ", 3, 0), ("LIVER", 1, 0), ("tumour", 2, 0)]
    path = _save(tmp_path / "a.seg.nrrd", _one_layer(), *segments)

    labels = read_labels(path, _plain())

    expected = np.full(SHAPE, 1)
    expected[LIVER], expected[TUMOUR], expected[VESSEL] = 20, 300, 7
    np.testing.assert_array_equal(labels.array, expected)
    assert labels.array.dtype == np.uint16


def test_labels_lie_where_itk_says(tmp_path: Path):
    path = _save(tmp_path / "a.seg.nrrd", _two_layers(), *TWO)

    geometry = read_labels(path, _regions()).geometry

    image = sitk.ReadImage(str(path))
    for index in [(0, 0, 0), (3, 4, 5), (1, 3, 2)]:
        expected = image.TransformIndexToPhysicalPoint(index)[::-1]
        np.testing.assert_allclose(geometry.voxel_to_world(index[::-1]), expected, atol=1e-9)


def test_overlapping_segments_are_regions(tmp_path: Path):
    path = _save(tmp_path / "a.seg.nrrd", _two_layers(), *TWO)

    labels = read_labels(path, _regions())

    expected = np.zeros(SHAPE)
    expected[LIVER], expected[TUMOUR], expected[VESSEL] = 20, 300, 7
    np.testing.assert_array_equal(labels.array, expected)


def test_segments_of_two_layers_that_do_not_overlap_need_no_regions(tmp_path: Path):
    layers = np.stack([LIVER & ~TUMOUR, TUMOUR]).astype(np.int16)
    path = _save(tmp_path / "a.seg.nrrd", layers, ("liver", 1, 0), ("tumour", 1, 1))

    labels = read_labels(path, _plain())

    expected = np.full(SHAPE, 1)
    expected[LIVER], expected[TUMOUR] = 20, 300
    np.testing.assert_array_equal(labels.array, expected)


def test_an_overlap_no_value_stands_for_is_refused(tmp_path: Path):
    path = _save(tmp_path / "a.seg.nrrd", _two_layers(), *TWO)

    with pytest.raises(
        DataError,
        match=r"a\.seg\.nrrd: segments 'liver' and 'tumour' overlap in 2 voxels, and no declared "
        "label value means both; declare overlapping structures as regions",
    ):
        read_labels(path, _plain())


def test_a_structure_outside_the_one_that_contains_it_is_refused(tmp_path: Path):
    path = _save(tmp_path / "a.seg.nrrd", _one_layer(), ("liver", 1, 0), ("tumour", 2, 0))

    with pytest.raises(DataError, match="2 voxels are in segment 'tumour' alone, which no decl"):
        read_labels(path, _regions())


def test_segments_nobody_declared_are_listed(tmp_path: Path):
    segments = [("lever", 1, 0), ("tumour", 2, 0), ("bone", 3, 0)]
    path = _save(tmp_path / "a.seg.nrrd", _one_layer(), *segments)

    with pytest.raises(
        DataError,
        match=r"segments lever, bone are not declared \(declared: liver, tumour, vessel\); rename",
    ):
        read_labels(path, _plain())


def test_a_segment_without_a_voxel_must_be_declared_too(tmp_path: Path):
    path = _save(tmp_path / "a.seg.nrrd", _one_layer(), ("bone", 200, 0))

    with pytest.raises(DataError, match="segments bone are not declared"):
        read_labels(path, _plain())


def test_two_segments_of_one_name_are_one_structure(tmp_path: Path):
    path = _save(tmp_path / "a.seg.nrrd", _one_layer(), ("liver", 1, 0), ("Liver", 2, 0))

    labels = read_labels(path, _plain())

    np.testing.assert_array_equal(labels.array, np.where(LIVER, 20, 1))


def test_background_and_ignore_are_known_by_name(tmp_path: Path):
    segments = [("Background", 1, 0), ("tumour", 2, 0), ("ignore", 3, 0)]
    path = _save(tmp_path / "a.seg.nrrd", _one_layer(), *segments)

    labels = read_labels(path, _plain(ignore=9))

    expected = np.full(SHAPE, 1)
    expected[TUMOUR], expected[VESSEL] = 300, 9
    np.testing.assert_array_equal(labels.array, expected)
    with pytest.raises(DataError, match="segments ignore are not declared"):
        read_labels(path, _plain())


def test_blanks_around_declared_names_do_not_count(tmp_path: Path):
    path = _save(tmp_path / "a.seg.nrrd", _one_layer(), ("Liver", 1, 0))
    labels = LabelSpace(structures=(Structure(name=" liver ", values=(20,)),))

    np.testing.assert_array_equal(
        read_labels(path, labels).array, np.where(LIVER, 20, 0) * (~TUMOUR)
    )


def test_of_values_that_mean_the_same_the_lowest_is_taken(tmp_path: Path):
    path = _save(tmp_path / "a.seg.nrrd", np.uint8(LIVER), ("liver", 1, 0))
    labels = LabelSpace(
        structures=(Structure(name="liver", values=(30, 4, 8)),), output_values=(8,)
    )

    np.testing.assert_array_equal(read_labels(path, labels).array, np.where(LIVER, 4, 0))


def test_values_that_belong_to_no_segment_are_background(tmp_path: Path):
    path = _save(tmp_path / "a.seg.nrrd", _one_layer(), ("tumour", 2, 0))

    np.testing.assert_array_equal(read_labels(path, _plain()).array, np.where(TUMOUR, 300, 1))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32"])
@pytest.mark.parametrize("value", [3, 100])
def test_files_of_any_type_are_read(tmp_path: Path, dtype: str, value: int):
    layer = np.where(LIVER, value, 0).astype(dtype)
    path = _save(tmp_path / "a.seg.nrrd", layer, ("liver", value, 0))

    np.testing.assert_array_equal(read_labels(path, _plain()).array, np.where(LIVER, 20, 1))


def test_segment_values_beyond_16_bits_and_below_zero_are_found(tmp_path: Path):
    layer = (LIVER * 1_000_000 - VESSEL * 5).astype(np.int32)
    path = _save(tmp_path / "a.seg.nrrd", layer, ("liver", 1_000_000, 0), ("tumour", 70_000, 0))

    np.testing.assert_array_equal(read_labels(path, _plain()).array, np.where(LIVER, 20, 1))


def test_old_files_have_a_layer_per_segment(tmp_path: Path):
    layers = np.stack([LIVER, TUMOUR, VESSEL]).astype(np.uint8)
    path = _save(
        tmp_path / "a.seg.nrrd",
        layers,
        ("liver", 0, 0),
        ("tumour", 0, 0),
        ("vessel", 0, 0),
        old=True,
    )

    assert read_segments(path)[2] == Segment(name="vessel", value=1, layer=2)
    expected = np.zeros(SHAPE)
    expected[LIVER], expected[TUMOUR], expected[VESSEL] = 20, 300, 7
    np.testing.assert_array_equal(read_labels(path, _regions()).array, expected)


def test_many_overlapping_layers_agree_with_a_search_voxel_by_voxel(tmp_path: Path):
    rng = np.random.default_rng(1)
    num_structures = 9
    members = rng.integers(0, 2, (30, num_structures)).astype(bool)
    members[:num_structures] = np.eye(num_structures, dtype=bool)
    members = np.unique(members[members.any(axis=1)], axis=0)
    values = [int(value) for value in rng.permutation(1000)[: len(members)] + 1]
    structures = tuple(
        Structure(
            name=f"s{s}", values=tuple(v for v, m in zip(values, members, strict=True) if m[s])
        )
        for s in range(num_structures)
    )
    labels = LabelSpace(structures=structures, output_values=tuple(s.values[0] for s in structures))
    truth = rng.integers(-1, len(members), SHAPE)
    layers = np.zeros((num_structures, *SHAPE), np.uint8)
    for index in np.ndindex(SHAPE):
        if truth[index] >= 0:
            layers[:, *index] = members[truth[index]] * (np.arange(num_structures) + 1)
    segments = [(f"s{s}", s + 1, s) for s in range(num_structures)]
    path = _save(tmp_path / "a.seg.nrrd", layers, *segments)

    found = read_labels(path, labels).array

    for index in np.ndindex(SHAPE):
        assert found[index] == (0 if truth[index] < 0 else values[truth[index]])


def test_a_segment_in_a_layer_there_is_not_is_refused(tmp_path: Path):
    path = _save(tmp_path / "a.seg.nrrd", _two_layers(), ("liver", 1, 2))

    with pytest.raises(DataError, match="segment 'liver' is in layer 2, but there are 2"):
        read_labels(path, _plain())


def test_without_a_declaration_one_layer_keeps_its_values(tmp_path: Path):
    path = _save(tmp_path / "a.seg.nrrd", _one_layer(), ("a", 1, 0), ("b", 2, 0), ("c", 3, 0))

    np.testing.assert_array_equal(read_labels(path).array, _one_layer())


def test_without_a_declaration_layers_are_merged_where_they_agree(tmp_path: Path):
    layers = np.stack([LIVER * 4, VESSEL * 5]).astype(np.uint8)
    path = _save(tmp_path / "a.seg.nrrd", layers, ("a", 4, 0), ("b", 5, 1))

    np.testing.assert_array_equal(read_labels(path).array, LIVER * 4 + VESSEL * 5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1, 1), "segments 'a' and 'b' both have the value 1, in different layers; export it"),
        ((1, 2), "segments 'a' and 'b' overlap in 2 voxels; export it as a label map"),
    ],
)
def test_without_a_declaration_a_conflict_is_refused(
    tmp_path: Path, values: tuple[int, int], message: str
):
    layers = np.stack([LIVER * values[0], TUMOUR * values[1]]).astype(np.uint8)
    path = _save(tmp_path / "a.seg.nrrd", layers, ("a", values[0], 0), ("b", values[1], 1))

    with pytest.raises(DataError, match=message):
        read_labels(path)


def test_a_file_without_segments_is_a_plain_one(tmp_path: Path):
    path = _save(tmp_path / "a.seg.nrrd", _one_layer())

    assert read_segments(path) == ()
    np.testing.assert_array_equal(read_labels(path, _plain()).array, _one_layer())


def test_as_an_image_its_layers_are_channels(tmp_path: Path):
    path = _save(tmp_path / "a.seg.nrrd", _two_layers(), *TWO)

    np.testing.assert_array_equal(read_image([path]).array, _two_layers())
    assert SEGMENTATION.read_geometry(path)[1] == 2


def test_predictions_for_it_are_plain_files():
    assert label_suffix(Path("a.seg.nrrd"), 0, 300) == ".nrrd"
