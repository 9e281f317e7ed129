import pytest

from autoseg.errors import AutosegError, DataError
from autoseg.plan.fitting import Grid, can_be_halved, fit
from autoseg.plan.memory import GIGABYTE
from autoseg.plan.presets import PRESETS, find_preset


def grid(spacing, shape, num_cases):
    voxels = 1.0
    for size in shape:
        voxels *= size
    dimensions = len(spacing)
    return Grid(spacing=spacing, median_shape=shape[-dimensions:], num_voxels=voxels * num_cases)


ABDOMEN = grid((3.0, 0.78, 0.78), (104.0, 512.0, 512.0), 210)


def test_the_patch_shrinks_step_by_step_until_it_fits():
    fitted = fit(ABDOMEN, PRESETS["default"], 8 * GIGABYTE, 3)
    assert (fitted.first_patch, fitted.num_steps) == ((112, 448, 448), 14)
    assert (fitted.patch_size, fitted.elements) == ((40, 224, 224), 539_611_520)


def test_half_the_memory_halves_the_limit():
    fitted = fit(ABDOMEN, PRESETS["default"], 4 * GIGABYTE, 3)
    assert fitted.max_elements == 280_000_000
    assert fitted.elements <= 280_000_000


def test_a_residual_2d_patch_is_held_to_the_whole_reference_batch():
    photo = Grid(spacing=(1.0, 1.0), median_shape=(1250.0, 1500.0), num_voxels=187_500_000.0)
    plain = fit(photo, PRESETS["default"], 8 * GIGABYTE, 2)
    residual = fit(photo, PRESETS["resenc-m"], 8 * GIGABYTE, 2)
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
    fitted = fit(grid(spacing, shape, num_cases), PRESETS["default"], 8 * GIGABYTE, 3)
    assert (fitted.batch_rule, fitted.batch_size) == (rule, batch_size)


def test_too_little_memory_is_an_error_with_a_remedy():
    with pytest.raises(AutosegError, match=r"fits into 0\.0001 GB; plan for more GPU memory"):
        fit(ABDOMEN, PRESETS["default"], GIGABYTE // 10_000, 3)


def test_images_too_small_for_a_network_are_an_error_that_states_their_size():
    tiny = grid((1.0, 1.0, 1.0), (5.0, 7.0, 6.0), 10)
    assert not can_be_halved(tiny)
    with pytest.raises(DataError, match="5x7x6 voxels"):
        fit(tiny, PRESETS["default"], 8 * GIGABYTE, 3)


def test_blocks_repeat_the_last_number():
    assert find_preset("resenc-l").blocks(7) == (1, 3, 4, 6, 6, 6, 6)
    assert find_preset("default").blocks(5) == (2, 2, 2, 2, 2)
