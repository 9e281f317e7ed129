import numpy as np
import pytest
from test_planner import decision, plan

from autoseg.errors import AutosegError
from autoseg.plan.memory import GIGABYTE
from autoseg.plan.planner import PlanRequest
from autoseg.plan.topology import pooling_topology
from autoseg.plan.wishes import Wish, nearest_patch, wished_topology


def test_a_wished_patch_holds_for_the_3d_configurations_and_no_other():
    made, usual = plan("902", patch_size=(48, 192, 160)), plan("902")
    full = made.configurations["3d_fullres"]
    assert full.patch_size == made.configurations["3d_cascade_fullres"].patch_size == (48, 192, 160)
    assert made.configurations["2d"] == usual.configurations["2d"]
    found = decision(made, "patch size", "3d_fullres")
    assert found.value == "48x192x160"
    assert found.reason.startswith("given by the user: ")


def test_two_numbers_are_a_patch_of_the_2d_configuration():
    made, usual = plan("902", patch_size=(256, 320)), plan("902")
    assert made.configurations["2d"].patch_size == (256, 320)
    assert made.configurations["2d"].batch_size > usual.configurations["2d"].batch_size
    assert made.configurations["3d_fullres"] == usual.configurations["3d_fullres"]


@pytest.mark.parametrize("compatible", [False, True])
def test_the_network_follows_from_a_wished_patch(compatible):
    made = plan("905", patch_size=(64, 96, 48), compatible=compatible)
    full = made.configurations["3d_fullres"]
    # 64, 96 and 48 voxels can be halved four, four and three times before fewer than 4 remain.
    assert full.network.downsampling == (16, 16, 8)
    assert full.network.num_stages == 5
    assert full.batch_size > 2


def test_a_wished_patch_is_in_the_axis_order_of_the_plan():
    made = plan("911", patch_size=(32, 160, 128))
    assert made.transpose == (2, 0, 1)
    assert made.configurations["3d_fullres"].patch_size == (32, 160, 128)


def test_a_low_resolution_takes_the_next_patch_its_halvings_divide():
    made = plan("902", patch_size=(40, 224, 224))
    full, low = made.configurations["3d_fullres"], made.configurations["3d_lowres"]
    assert full.patch_size == (40, 224, 224)
    assert all(a >= b for a, b in zip(low.patch_size, full.patch_size, strict=True))
    divisors = low.network.downsampling
    assert all(a % by == 0 for a, by in zip(low.patch_size, divisors, strict=True))
    assert low.spacing != full.spacing


@pytest.mark.parametrize(
    ("patch_size", "message"),
    [
        ((100, 100, 100), "100,100,100: not divisible by 16; nearest: 96,96,96"),
        ((64, 64, 49), "64,64,49: not divisible by 16,16,8; nearest: 64,64,48"),
        ((4, 4, 4), "4,4,4: too small for a network; nearest: 4,8,8"),
        ((50, 60), "50,60: not divisible by 8; nearest: 48,56"),
    ],
)
def test_an_impossible_patch_is_refused_with_the_nearest(patch_size, message):
    with pytest.raises(AutosegError) as error:
        plan("905", patch_size=patch_size)
    assert str(error.value) == f"--patch-size {message}"


def naive_nearest(spacing, wanted, reach):
    """All patches around the wanted one, tried out."""
    around = [range(max(1, size - reach), size + reach + 1) for size in wanted]
    possible = [
        patch
        for patch in ((a, b) for a in around[0] for b in around[1])
        if pooling_topology(spacing, patch).patch_size == patch
        and pooling_topology(spacing, patch).num_stages > 1
    ]
    return min(abs(a - wanted[0]) + abs(b - wanted[1]) for a, b in possible)


@pytest.mark.parametrize("seed", range(12))
def test_no_possible_patch_is_nearer_than_the_nearest(seed):
    rng = np.random.default_rng(seed)
    wanted = tuple(rng.integers(5, 90, 2).tolist())
    spacing = (1.0, float(rng.choice([1.0, 1.7, 2.5])))
    found = nearest_patch(spacing, wanted)
    assert pooling_topology(spacing, found).patch_size == found
    distance = sum(abs(a - b) for a, b in zip(found, wanted, strict=True))
    assert distance == naive_nearest(spacing, wanted, 12)


def test_the_nearest_patch_is_possible():
    spacing = (3.0, 0.8, 0.8)
    for wanted in [(37, 201, 199), (9, 33, 500), (1, 1, 1), (288, 300, 17)]:
        near = nearest_patch(spacing, wanted)
        assert wished_topology(spacing, Wish(patch_size=near)).patch_size == near


def test_a_patch_for_axes_that_nothing_has_is_refused():
    with pytest.raises(AutosegError) as error:
        plan("904", patch_size=(16, 64, 64))
    assert str(error.value) == (
        "--patch-size 16,64,64: no 3D configuration is planned for these images; give 2 numbers "
        "for the 2D configuration"
    )


@pytest.mark.parametrize("compatible", [False, True])
def test_a_wished_batch_is_taken_and_the_patch_made_to_fit(compatible):
    usual = plan("902", compatible=compatible).configurations["3d_fullres"]
    made = plan("902", batch_size=6, compatible=compatible)
    assert {planned.batch_size for planned in made.configurations.values()} == {6}
    full = made.configurations["3d_fullres"]
    assert np.prod(full.patch_size) * 3 <= np.prod(usual.patch_size) * 1.1
    found = decision(made, "batch size", "3d_fullres")
    assert found.reason.startswith("given by the user; 8 GB would hold 6")


def test_a_batch_of_one_leaves_room_for_a_larger_patch():
    one, two = (plan("902", batch_size=n).configurations["3d_fullres"] for n in (1, 2))
    assert np.prod(one.patch_size) > np.prod(two.patch_size)


def test_a_wished_batch_may_be_larger_than_derived_ones():
    assert plan("901", batch_size=200).configurations["2d"].batch_size == 200


def test_a_batch_that_no_patch_is_small_enough_for_is_refused():
    with pytest.raises(AutosegError) as error:
        plan("902", batch_size=10**6)
    assert "--gpu-memory 8GB: the smallest network for these images with a batch" in str(
        error.value
    )
    assert str(error.value).endswith("or with a smaller --batch-size")


def test_a_wish_beyond_the_memory_is_honoured_with_a_warning():
    made = plan("902", patch_size=(64, 256, 256), batch_size=3)
    full = made.configurations["3d_fullres"]
    assert (full.patch_size, full.batch_size) == ((64, 256, 256), 3)
    found = decision(made, "warning", "3d_fullres")
    assert found.value == "beyond 8 GB"
    estimate = decision(made, "memory of a training step", "3d_fullres").value
    assert found.reason == (
        f"the patch 64x256x256 and batch 3 given by the user take {estimate}: training needs a "
        "GPU with more memory"
    )
    alone = plan("902", patch_size=(64, 256, 256))
    assert "given by the user takes" in decision(alone, "warning", "3d_fullres").reason


def test_a_wish_within_the_memory_has_no_warning():
    made = plan("902", patch_size=(32, 128, 128), batch_size=2)
    assert [d for d in made.decisions if d.what == "warning"] == []


def test_a_larger_memory_gives_a_wished_patch_a_larger_batch():
    small, large = (
        plan("902", patch_size=(40, 192, 192), budget_bytes=gb * GIGABYTE) for gb in (8, 24)
    )
    assert small.configurations["3d_fullres"].batch_size == 3
    assert large.configurations["3d_fullres"].batch_size == 8


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"patch_size": (64,)}, r"a patch of \[64\]; give three .* or two for 2D \(--patch-size\)"),
        ({"patch_size": (64, 0, 64)}, r"a patch of \[64, 0, 64\]; give three positive numbers"),
        ({"batch_size": 0}, r"a batch of 0; give 1 or more \(--batch-size\)"),
    ],
)
def test_wishes_that_are_none_are_refused(wish, message):
    with pytest.raises(AutosegError, match=message):
        PlanRequest(**wish)
