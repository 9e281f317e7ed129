"""What the planner's own rules do, alone and together, and that nothing else differs."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from drawn_data_sets import draw_data_set
from plain_plans import STATS

from autoseg.core.fingerprint import CaseFingerprint, Fingerprint
from autoseg.core.labels import LabelSpace, Structure
from autoseg.errors import AutosegError
from autoseg.plan.memory import GIGABYTE, training_memory
from autoseg.plan.planner import PlanRequest, make_plan
from autoseg.plan.presets import PRESETS
from autoseg.plan.rules import FITTING_RULES, MAX_BATCH_SIZE, RULES, coarsest_axis
from autoseg.plan.spacing import target_spacing

REFERENCE = Path(__file__).parents[2].parent / "shared" / "reference"
NUM_PER_TEST, NUM_FAST, NUM_ALL = 25, 75, 300
TASKS = ("001_BrainTumour", "003_Liver", "004_Hippocampus", "006_Lung", "008_HepaticVessel")
NO_RULES = frozenset()


def measured(spacings, shapes, num_channels=1):
    cases = tuple(
        CaseFingerprint(
            name=f"case_{index:04d}",
            shape=tuple(shape),
            spacing=tuple(spacing),
            relative_size=1.0,
            label_voxels=(),
            original_shape=tuple(shape),
            orientation="SPL",
            channels=(),
            structures=(),
            files=(),
        )
        for index, (spacing, shape) in enumerate(zip(spacings, shapes, strict=True))
    )
    return Fingerprint(label_values=(0, 1), cases=cases, intensities=(STATS,) * num_channels)


def plan(spacing, shape, num_cases, num_structures=2, num_channels=1, **request):
    """A plan of equal cases."""
    fingerprint = measured([spacing] * num_cases, [shape] * num_cases, num_channels)
    return plan_measured(fingerprint, num_structures, **request)


def plan_measured(fingerprint, num_structures=2, **request):
    structures = tuple(Structure(name=f"s{i}", values=(i,)) for i in range(1, num_structures + 1))
    channels = ["CT"] * len(fingerprint.intensities)
    space = LabelSpace(structures=structures)
    return make_plan(fingerprint, channels, space, PlanRequest(**request))


def plan_drawn(data_set, **request):
    fingerprint = measured(data_set["spacings"], data_set["shapes"], len(data_set["channels"]))
    request = {"preset": data_set["preset"], **request}
    return plan_measured(fingerprint, data_set["num_structures"], **request)


def told(made, rule, configuration=None):
    """The decision that tells of a rule."""
    (found,) = [
        d for d in made.decisions if (d.what, d.configuration) == (f"rule '{rule}'", configuration)
    ]
    return found


def named_rules(made):
    return frozenset(d.what[6:-1] for d in made.decisions if d.what.startswith("rule '"))


def assert_explained(plan_with):
    """A plan is the compatible one, or names rules without which it would be."""
    made, compatible = plan_with(), plan_with(compatible=True)
    named = named_rules(made)
    assert named <= set(FITTING_RULES)
    assert named_rules(compatible) == set()
    without = plan_with(without=named)
    assert without.configurations == compatible.configurations
    assert without.transpose == compatible.transpose
    return named


# Every difference is told


@pytest.mark.parametrize(
    "first_seed",
    [
        pytest.param(first, marks=() if first < NUM_FAST else pytest.mark.slow)
        for first in range(0, NUM_ALL, NUM_PER_TEST)
    ],
)
def test_plans_of_data_of_every_kind_differ_only_by_the_rules_they_name(first_seed):
    for seed in range(first_seed, first_seed + NUM_PER_TEST):
        drawn = draw_data_set(seed)
        memory = {} if seed % 2 else {"budget_bytes": (4 + seed % 71) * GIGABYTE}
        assert_explained(lambda drawn=drawn, memory=memory, **r: plan_drawn(drawn, **memory, **r))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("task", TASKS)
def test_plans_of_real_data_differ_only_by_the_rules_they_name(task, preset):
    path = REFERENCE / "msd_plans.json"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    facts = json.loads(path.read_text())["tasks"][f"Dataset{task}"]["fingerprint"]
    fingerprint = measured(
        facts["spacings"], facts["shapes_after_crop"], len(facts["channel_names"])
    )
    num_structures = len(facts["labels"]) - 1
    named = assert_explained(
        lambda **request: plan_measured(fingerprint, num_structures, preset=preset, **request)
    )
    if preset == "default":
        assert named == ({"large batch"} if task == "004_Hippocampus" else NO_RULES)


def test_a_compatible_plan_follows_none_of_the_rules():
    assert PlanRequest(compatible=True).rules == NO_RULES
    assert PlanRequest().rules == RULES
    assert PlanRequest(without=frozenset({"bytes"})).rules == RULES - {"bytes"}


def test_a_rule_that_would_decide_as_much_is_named_too():
    # The count and the data set allow 155 patches, the bytes 150, and any batch has at most 128.
    made = plan((1, 1, 1), (36, 50, 35), 260, 40, preset="resenc-l")
    assert told(made, "large batch", "3d_fullres").value == "batch 150 -> 128"
    alone = told(made, "bytes", "3d_fullres")
    assert alone.value == "batch 155 -> 150"
    assert "so it would be by this rule alone, others decide as much" in alone.reason


# Bytes


def estimate(made, name, num_structures, num_channels=1):
    planned = made.configurations[name]
    previous = num_structures if planned.previous else 0
    return training_memory(
        planned.network,
        planned.patch_size,
        planned.batch_size,
        num_channels=num_channels + previous,
        num_outputs=num_structures + 1,
    ).total


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("num_structures", "num_channels"), [(1, 1), (104, 1), (3, 12)])
def test_every_planned_step_is_estimated_to_fit(preset, num_structures, num_channels):
    made = plan((1.5, 1.2, 1.2), (240, 280, 260), 90, num_structures, num_channels, preset=preset)
    for name in made.configurations:
        assert estimate(made, name, num_structures, num_channels) <= made.budget_bytes, name


def test_many_structures_make_the_patch_smaller_and_the_plan_says_by_which_rule():
    made = plan((1.5, 1.5, 1.5), (240, 240, 240), 1200, 104)
    full = made.configurations["3d_fullres"]
    assert (full.patch_size, full.batch_size) == ((112, 112, 96), 2)
    found = told(made, "bytes", "3d_fullres")
    assert found.value == "patch 128x112x112 -> 112x112x96"
    assert "neither input channels nor what many structures cost" in found.reason
    assert found.reason.endswith("(estimated 9.06 GB before, 6.98 GB after)")


def test_the_batch_falls_before_the_patch_shrinks():
    # A little more than 24 GB is needed for three patches, and there are 24.
    made = plan((1, 1, 1), (138, 170, 138), 484, 10, 10, preset="resenc-l")
    assert told(made, "bytes", "3d_fullres").value == "batch 3 -> 2"


def test_the_patch_tells_its_count_and_its_bytes():
    made = plan((3, 0.78, 0.78), (104, 512, 512), 210)
    (found,) = [
        d for d in made.decisions if (d.what, d.configuration) == ("patch size", "3d_fullres")
    ]
    assert found.value == "40x224x224"
    assert found.reason == (
        "from 112x448x448, 14 steps down until the estimate fitted 8 GB: 6.82 GB (540 of 560 "
        "million feature map values)"
    )


def test_a_batch_that_bytes_limit_says_so():
    made = plan((1.5, 1.5, 1.5), (240, 240, 240), 1200, 104)
    (found,) = [d for d in made.decisions if (d.what, d.configuration) == ("batch size", "2d")]
    assert found.reason == (
        "decided by the estimate in bytes: 8 GB hold 34, where nnU-Net's count would allow 37"
    )


def test_a_cascade_is_estimated_with_the_channels_it_reads():
    made = plan((1.5, 1.5, 1.5), (240, 240, 240), 1200, 117).configurations
    cascade, full = made["3d_cascade_fullres"], made["3d_fullres"]
    assert np.prod(cascade.patch_size) < np.prod(full.patch_size)
    assert cascade.previous == "3d_lowres"


def test_a_memory_that_no_network_fits_into_is_refused_with_one_that_does():
    with pytest.raises(AutosegError) as error:
        plan((1, 1, 1), (100, 120, 90), 20, budget_bytes=3 * GIGABYTE // 10)
    assert str(error.value) == (
        "--gpu-memory 0.3GB: the smallest network for these images needs 0.51 GB; plan for that "
        "much or more, or with fewer --base-features"
    )


# Steady growth


DATA = {
    "isotropic": ((1, 1, 1), (36, 50, 35), 80, 2),
    "CT": ((3, 0.78, 0.78), (104, 512, 512), 90, 2),
    "few": ((1.2, 0.9, 0.9), (150, 170, 160), 9, 1),
    "many structures": ((1.5, 1.5, 1.5), (240, 240, 240), 60, 104),
    "thick slices": ((5, 1.5, 1.5), (18, 256, 216), 50, 3),
}


def sizes(made):
    """Voxels of a batch of each configuration whose resolution memory does not change."""
    return {
        name: int(np.prod(planned.patch_size)) * planned.batch_size
        for name, planned in made.configurations.items()
        if name != "3d_lowres"
    }


@pytest.mark.parametrize(
    "preset",
    [
        pytest.param(name, marks=() if name in ("default", "resenc-l") else pytest.mark.slow)
        for name in PRESETS
    ],
)
@pytest.mark.parametrize("name", DATA)
def test_more_memory_never_gives_fewer_voxels_per_batch(name, preset):
    most = {}
    for tenths in range(40, 800, 31):
        made = plan(*DATA[name], preset=preset, budget_bytes=tenths * GIGABYTE // 10)
        found = sizes(made)
        assert all(found[key] >= most.get(key, 0) for key in found), tenths / 10
        most |= found


@pytest.mark.parametrize("seed", range(0, 60, 6))
def test_more_memory_never_gives_fewer_voxels_per_batch_on_data_of_every_kind(seed):
    drawn, most = draw_data_set(seed), {}
    for budget_gb in np.random.default_rng(seed).uniform(4, 80, 25).round(2):
        most[budget_gb] = sizes(plan_drawn(drawn, budget_bytes=int(budget_gb * GIGABYTE)))
    ordered = [most[budget] for budget in sorted(most)]
    for smaller, larger in pairwise(ordered):
        assert all(larger[key] >= smaller[key] for key in larger.keys() & smaller.keys())


PHOTOS = ((999, 1, 1), (1, 1250, 1500), 100, 1)


def falling(budgets_gb, **request):
    """Memories in GB with which a batch has fewer voxels than with the one before."""
    found = [
        sizes(plan(*PHOTOS, budget_bytes=round(gb * GIGABYTE), preset="resenc-m", **request))["2d"]
        for gb in budgets_gb
    ]
    return [
        gb
        for gb, (smaller, larger) in zip(budgets_gb[1:], pairwise(found), strict=True)
        if larger < smaller
    ]


@pytest.mark.parametrize("budgets_gb", [np.arange(4, 8, 0.1), np.arange(8, 24, 0.2)])
def test_without_the_rule_a_larger_memory_may_give_less(budgets_gb):
    alone = RULES - {"steady growth"}
    assert falling(budgets_gb, compatible=True)
    assert falling(budgets_gb, without=alone) == []


@pytest.mark.parametrize("budget_gb", [7.65, 23.2])
def test_a_batch_that_grows_steadily_says_so(budget_gb):
    request = {"preset": "resenc-m", "budget_bytes": round(budget_gb * GIGABYTE)}
    made = plan(*PHOTOS, without=RULES - {"steady growth"}, **request)
    assert "more memory never gives fewer" in told(made, "steady growth", "2d").reason
    (batch,) = [d for d in made.decisions if d.what == "batch size"]
    assert "another memory would then have fewer voxels per batch than a smaller" in batch.reason


def test_at_the_memory_of_a_preset_steady_growth_changes_nothing():
    request = {"preset": "resenc-m"}
    made = plan(*PHOTOS, without=RULES - {"steady growth"}, **request)
    assert made.configurations == plan(*PHOTOS, compatible=True, **request).configurations


# The coarse axis


def test_spacings_that_differ_by_rounding_keep_the_axes_in_place():
    noisy = (0.8, 0.800000011920929, 0.800000011920929)
    made = plan(noisy, (200, 210, 220), 30)
    compatible = plan(noisy, (200, 210, 220), 30, compatible=True)
    assert (made.transpose, compatible.transpose) == ((0, 1, 2), (1, 0, 2))
    assert made.configurations["3d_fullres"].spacing == noisy
    found = told(made, "coarse axis")
    assert found.value == "y, z, x -> z, y, x"
    assert "less than a thousandth count as equal" in found.reason


@pytest.mark.parametrize(
    ("spacing", "with_rule", "without"),
    [
        ((1.0, 1.0009, 1.0), 0, 1),
        ((1.0, 1.0011, 1.0), 1, 1),
        ((1.0, 1.0, 1.0), 0, 0),
        ((0.9995, 0.5, 1.0), 0, 2),
        ((0.5, 2.0, 2.0), 1, 1),
    ],
)
def test_a_thousandth_decides_which_axis_is_the_coarsest(spacing, with_rule, without):
    assert coarsest_axis(spacing, RULES) == with_rule
    assert coarsest_axis(spacing, NO_RULES) == without


def test_an_axis_raised_to_stay_the_coarsest_does():
    spacings = [(0.8, 0.8, 0.5)] * 20 + [(0.8, 0.8, 4.0)] * 80
    fingerprint = measured(spacings, [(200, 200, 30)] * 100)
    for rules in (RULES, NO_RULES):
        spacing, first, _ = target_spacing(fingerprint, None, rules)
        assert spacing == pytest.approx((0.8, 0.8, 0.80001))
        assert first == 2


# Residual networks in 2D, large batches


@pytest.mark.parametrize("preset", ["resenc", "resenc-m", "resenc-l", "resenc-xl"])
def test_a_residual_2d_patch_shrinks_until_a_batch_of_two_fits(preset):
    photo = ((999, 1, 1), (1, 1250, 1500), 100, 1)
    made = plan(*photo, preset=preset).configurations["2d"]
    compatible = plan(*photo, preset=preset, compatible=True).configurations["2d"]
    assert np.prod(made.patch_size) > np.prod(compatible.patch_size)
    assert compatible.batch_size == 13
    assert 2 <= made.batch_size < 13
    reason = told(plan(*photo, preset=preset), "residual 2d", "2d").reason
    assert "nnU-Net asks for a batch of 12 there" in reason


def test_the_default_preset_has_no_residual_networks():
    assert "residual 2d" not in named_rules(plan((999, 1, 1), (1, 1250, 1500), 100, 1))


def test_a_batch_of_tiny_images_is_limited():
    tiny = plan((999, 1, 1), (1, 64, 48), 9000, preset="resenc-m")
    assert tiny.configurations["2d"].batch_size == MAX_BATCH_SIZE == 128
    (batch,) = [d for d in tiny.decisions if d.what == "batch size"]
    assert batch.reason.startswith("the maximum of 128: 100% of the voxels of all cases make 9000")
    found = told(tiny, "large batch", "2d")
    assert found.value.endswith("-> 128")
    assert "the learning rate was found with small batches" in found.reason
