import pytest

from autoseg.errors import AutosegError, DataError
from autoseg.plan.fitting import fit
from autoseg.plan.memory import GIGABYTE
from autoseg.plan.presets import PRESETS, find_preset
from autoseg.plan.room import Grid, Limits
from autoseg.plan.shrinking import can_be_halved


def grid(spacing, shape, num_cases):
    voxels = 1.0
    for size in shape:
        voxels *= size
    dimensions = len(spacing)
    return Grid(spacing=spacing, median_shape=shape[-dimensions:], num_voxels=voxels * num_cases)


def limits(preset, budget_bytes, num_entries, *rules):
    return Limits(
        preset=PRESETS[preset],
        budget_bytes=budget_bytes,
        num_entries=num_entries,
        num_channels=1,
        num_outputs=num_entries,
        rules=frozenset(rules),
    )


ABDOMEN = grid((3.0, 0.78, 0.78), (104.0, 512.0, 512.0), 210)


def test_the_patch_shrinks_step_by_step_until_it_fits():
    fitted = fit(ABDOMEN, limits("default", 8 * GIGABYTE, 3))
    assert (fitted.first_patch, fitted.num_steps) == ((112, 448, 448), 14)
    assert (fitted.patch_size, fitted.elements) == ((40, 224, 224), 539_611_520)


def test_half_the_memory_halves_the_limit():
    fitted = fit(ABDOMEN, limits("default", 4 * GIGABYTE, 3))
    assert fitted.max_elements == 280_000_000
    assert fitted.elements <= 280_000_000


def test_a_residual_2d_patch_is_held_to_the_whole_reference_batch():
    photo = Grid(spacing=(1.0, 1.0), median_shape=(1250.0, 1500.0), num_voxels=187_500_000.0)
    plain = fit(photo, limits("default", 8 * GIGABYTE, 2))
    residual = fit(photo, limits("resenc-m", 8 * GIGABYTE, 2))
    assert (plain.patch_size, plain.batch_size) == ((1024, 1280), 2)
    assert (residual.patch_size, residual.batch_size) == ((512, 512), 13)


@pytest.mark.parametrize(
    ("spacing", "shape", "num_cases", "rule", "batch_size"),
    [
        ((3.0, 0.78, 0.78), (104.0, 512.0, 512.0), 210, "memory", 2),
        ((1.0, 1.0, 1.0), (36.0, 50.0, 35.0), 260, "data set", 9),
        ((1.0, 1.0, 1.0), (64.0, 64.0, 64.0), 4, "minimum", 2),
    ],
)
def test_the_rule_that_decided_the_batch_size_is_named(spacing, shape, num_cases, rule, batch_size):
    fitted = fit(grid(spacing, shape, num_cases), limits("default", 8 * GIGABYTE, 3))
    assert (fitted.batch.rule, fitted.batch_size) == (rule, batch_size)


def test_too_little_memory_is_an_error_with_a_remedy():
    finding = r"--gpu-memory 0\.0001GB: the smallest network for these images needs 0\.01 GB"
    with pytest.raises(AutosegError, match=f"{finding}; plan for that much or more"):
        fit(ABDOMEN, limits("default", GIGABYTE // 10_000, 3))


def test_a_memory_named_as_enough_is_enough():
    with pytest.raises(AutosegError, match=r"0\.3GB: .* needs 0\.5\d GB") as error:
        fit(ABDOMEN, limits("default", 3 * GIGABYTE // 10, 3, "bytes"))
    named = float(error.value.finding.removesuffix(" GB").split()[-1])
    fit(ABDOMEN, limits("default", round(named * GIGABYTE), 3, "bytes"))


def test_images_too_small_for_a_network_are_an_error_that_states_their_size():
    tiny = grid((1.0, 1.0, 1.0), (5.0, 7.0, 6.0), 10)
    assert not can_be_halved(tiny)
    with pytest.raises(DataError, match="5x7x6 voxels"):
        fit(tiny, limits("default", 8 * GIGABYTE, 3))


def test_blocks_repeat_the_last_number():
    assert find_preset("resenc-l").blocks(7) == (1, 3, 4, 6, 6, 6, 6)
    assert find_preset("default").blocks(5) == (2, 2, 2, 2, 2)
