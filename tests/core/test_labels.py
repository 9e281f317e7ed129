import numpy as np
import pytest
from pydantic import ValidationError

from autoseg.core.labels import LabelSpace, Structure, count_voxels


def space(**changes) -> LabelSpace:
    structures = (Structure(name="tumour", values=(4,)), Structure(name="edema", values=(2,)))
    return LabelSpace(**({"structures": structures} | changes))


def test_values_become_indices_in_ascending_order_and_come_back():
    values = np.array([[0, 4], [2, 2]], dtype=np.uint8)
    indices = space().to_indices(values)
    np.testing.assert_array_equal(indices, [[0, 2], [1, 1]])
    np.testing.assert_array_equal(space().to_values(indices), values)


def test_structures_keep_their_declared_order_and_know_their_indices():
    assert space().names == ("tumour", "edema")
    assert [space().indices_of(s) for s in space().structures] == [(2,), (1,)]


def test_the_ignore_label_has_the_highest_index():
    with_ignore = space(ignore=1)
    assert with_ignore.ignore_index == 3
    assert with_ignore.values == (0, 2, 4, 1)
    assert with_ignore.to_indices(np.array([1, 2])).tolist() == [3, 1]
    assert with_ignore.num_classes == 3
    assert with_ignore.num_entries == 4


def test_an_undeclared_value_is_refused():
    with pytest.raises(ValueError, match=r"\[7\] are not declared"):
        space().to_indices(np.array([0, 7]))


@pytest.mark.parametrize(
    ("value", "dtype"), [(255, np.uint8), (256, np.uint16), (70000, np.uint32), (-1, np.int16)]
)
def test_values_are_written_in_the_smallest_type_that_holds_them(value, dtype):
    one = LabelSpace(structures=(Structure(name="organ", values=(value,)),))
    assert one.to_values(np.array([0, 1])).dtype == dtype
    assert one.to_values(np.array([0, 1])).tolist() == [0, value]


@pytest.mark.parametrize(
    ("count", "dtype"), [(127, np.int8), (128, np.int16), (32767, np.int16), (70000, np.int32)]
)
def test_many_structures_have_indices_of_their_own(count: int, dtype: type):
    structures = tuple(Structure(name=f"cell {n}", values=(3 * n,)) for n in range(1, count + 1))
    many = LabelSpace(structures=structures)
    values = np.array([[0, 3, 3 * count], [6, 3 * count - 3, 0]])

    indices = many.to_indices(values)

    assert indices.dtype == dtype
    np.testing.assert_array_equal(indices, [[0, 1, count], [2, count - 1, 0]])
    np.testing.assert_array_equal(many.to_values(indices), values)
    everything = np.arange(count + 1)
    np.testing.assert_array_equal(many.to_indices(many.to_values(everything)), everything)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int64])
def test_values_far_apart_and_below_zero_become_indices(dtype: type):
    far = (Structure(name="far", values=(30000,)), Structure(name="near", values=(2,)))
    below = (*far, Structure(name="below", values=(-7,)))

    plain = LabelSpace(structures=far).to_indices(np.array([2, 30000, 0], dtype=dtype))

    assert plain.tolist() == [1, 2, 0]
    signed = LabelSpace(structures=below).to_indices(np.array([2, -7, 30000, 0], dtype=np.int32))
    assert signed.tolist() == [2, 1, 3, 0]


@pytest.mark.parametrize("count", [127, 128])
def test_values_that_are_indices_stay_as_they_are(count):
    plain = LabelSpace(
        structures=tuple(Structure(name=str(n), values=(n,)) for n in range(1, count + 1))
    )
    values = np.array([[0, count], [1, 5]], dtype=np.uint8)

    indices = plain.to_indices(values)

    assert indices.tolist() == values.tolist()
    assert indices.dtype == (np.int8 if count == 127 else np.int16)
    with pytest.raises(ValueError, match="not declared"):
        plain.to_indices(values.astype(np.int16) - 1)


def test_values_beyond_32_bits_become_indices():
    huge = LabelSpace(structures=(Structure(name="a", values=(2**40,)),), ignore=2**32 - 1)

    assert huge.to_indices(np.array([2**40, 0, 2**32 - 1])).tolist() == [1, 0, 2]


def test_a_negative_value_is_not_taken_for_another_counted_from_the_end():
    labels = space(structures=(Structure(name="a", values=(5,)), Structure(name="b", values=(-1,))))
    indices = labels.to_indices(np.array([0, 5, -1, 5, -1]))
    assert indices.tolist() == [0, 2, 1, 2, 1]


def test_voxels_of_each_index_are_counted():
    indices = np.array([[[0, 1, -1], [3, 3, -1]], [[0, 0, 3], [127, 1, -3]]], dtype=np.int8)
    counts = count_voxels(indices, 128)
    assert counts[:5] == (3, 2, 0, 3, 0)
    assert counts[127] == 1
    assert len(counts) == 128


def test_regions_share_values():
    regions = LabelSpace(
        structures=(Structure(name="whole", values=(1, 2)), Structure(name="core", values=(2,))),
        output_values=(1, 2),
    )
    assert regions.has_regions
    assert regions.num_classes == 3
    assert regions.num_outputs == 2
    assert regions.indices_of(regions.structures[0]) == (1, 2)
    assert regions.regions == regions.output_indices == ((1, 2), (2,))
    assert regions.output_names == ("whole", "core")


def test_outputs_of_classes_are_named_by_ascending_value():
    labels = LabelSpace(
        structures=(Structure(name="far", values=(9,)), Structure(name="near", values=(4,)))
    )
    assert labels.regions is None
    assert labels.output_names == labels.index_names == ("near", "far")
    assert labels.output_indices == ((1,), (2,))


def test_pictures_name_a_value_by_the_region_written_as_it_or_by_all_that_share_it():
    labels = LabelSpace(
        structures=(
            Structure(name="whole", values=(1, 2, 3, 4)),
            Structure(name="core", values=(1, 4)),
            Structure(name="rim", values=(3, 4)),
        ),
        output_values=(2, 1, 3),
    )
    assert labels.index_names == ("core", "whole", "rim", "whole & core & rim")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"structures": ()}, "no structure besides the background"),
        ({"ignore": 4}, "uses the value of background or ignore"),
        ({"background": 2}, "uses the value of background or ignore"),
        ({"structures": (Structure(name="a", values=(1,)),) * 2}, "names must differ"),
        ({"structures": (Structure(name="a", values=()),)}, "has no label value"),
        ({"structures": (Structure(name="a", values=(1, 2)),)}, "need 'output_values'"),
        (
            {"structures": (Structure(name="a", values=(1,)), Structure(name="b", values=(1,)))},
            "share one label value",
        ),
        ({"output_values": (1,)}, "one value per structure"),
        (
            {
                "structures": (
                    Structure(name="whole", values=(1, 2)),
                    Structure(name="core", values=(2,)),
                ),
                "output_values": (2, 1),
            },
            r"'core' is to be written as 1, which is none of its values \(2\): .*the order of",
        ),
    ],
)
def test_contradictions_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        space(**changes)
