"""The planner against a naive one, and the naive one against the reference's own plans."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from drawn_data_sets import draw_data_set
from naive_planner import naive_plan
from plain_plans import differences, num_label_entries, our_plan, reference_as_plain

REFERENCE = Path(__file__).parents[2].parent / "shared" / "reference"
NUM_PER_TEST, NUM_FAST, NUM_ALL = 100, 600, 3000
PRESET_OF_PLANNER = {
    "ExperimentPlanner": "default",
    "ResEncUNetPlanner": "resenc",
    "nnUNetPlannerResEncM": "resenc-m",
    "nnUNetPlannerResEncL": "resenc-l",
    "nnUNetPlannerResEncXL": "resenc-xl",
}
# Spacings, shape, channels, label entries, part left by cropping: the invented data sets the
# reference was run on.
PROSTATE = [(3.6, 0.625, 0.625)] * 16 + [(3.0, 0.6, 0.6)] * 10 + [(4.0, 0.6, 0.6)] * 6
CINE = [(10.0, 1.5625, 1.5625)] * 150 + [(5.0, 1.37, 1.37)] * 50
INVENTED = {
    "901": ([(1.0, 1.0, 1.0)] * 260, (36, 50, 35), ["MRI"], 3, 1.0),
    "902": ([(3.0, 0.78, 0.78)] * 210, (104, 512, 512), ["CT"], 3, 1.0),
    "903": (PROSTATE, (20, 320, 320), ["T2", "ADC"], 3, 1.0),
    "904": ([(999.0, 1.0, 1.0)] * 100, (1, 1250, 1500), ["R", "G", "B"], 2, 1.0),
    "905": ([(1.0, 1.0, 1.0)] * 484, (138, 170, 138), ["T1", "T1c", "T2", "FLAIR"], 4, 0.5),
    "906": (CINE, (9, 256, 216), ["MRI"], 4, 1.0),
    "907": ([(1.5, 1.5, 1.5)] * 1200, (240, 240, 240), ["CT"], 105, 1.0),
    "908": ([(1.25, 0.75, 0.75)] * 64, (280, 512, 512), ["CT"], 2, 1.0),
    "909": ([(999.0, 1.0, 1.0)] * 20, (1, 256, 256), ["R", "G", "B"], 2, 1.0),
    "910": ([(1.0, 1.0, 1.0)] * 4, (64, 64, 64), ["MRI"], 2, 0.74),
    "911": ([(0.8, 0.8, 2.5)] * 50, (300, 300, 90), ["CT"], 2, 1.0),
}
TASKS = ("001_BrainTumour", "003_Liver", "004_Hippocampus", "006_Lung", "008_HepaticVessel")


@cache
def reference_file(name):
    path = REFERENCE / name
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    return json.loads(path.read_text())


@pytest.mark.parametrize("planner", PRESET_OF_PLANNER)
@pytest.mark.parametrize("data_set", INVENTED)
def test_the_naive_planner_equals_the_reference_on_invented_data(data_set, planner):
    written = reference_file("planner_reference_results.json")[f"{data_set}_{planner}"]["plans"]
    spacings, shape, channels, num_labels, relative_size = INVENTED[data_set]
    naive = naive_plan(
        spacings,
        [shape] * len(spacings),
        channels,
        num_labels,
        relative_size,
        PRESET_OF_PLANNER[planner],
    )
    assert differences(naive, reference_as_plain(written)) == []


@pytest.mark.parametrize("preset", ["default", "resenc-m", "resenc-l"])
@pytest.mark.parametrize("task", TASKS)
def test_the_naive_planner_equals_the_reference_on_real_data(task, preset):
    published = reference_file("msd_plans.json")["tasks"][f"Dataset{task}"]
    facts = published["fingerprint"]
    naive = naive_plan(
        facts["spacings"],
        facts["shapes_after_crop"],
        list(facts["channel_names"].values()),
        len(facts["labels"]),
        facts["median_relative_size_after_cropping"],
        preset,
    )
    written = published[preset.replace("-", "_")]["plan"]
    assert differences(naive, reference_as_plain(written)) == []


@pytest.mark.parametrize(
    "first_seed",
    [
        pytest.param(first, marks=() if first < NUM_FAST else pytest.mark.slow)
        for first in range(0, NUM_ALL, NUM_PER_TEST)
    ],
)
def test_the_planner_equals_the_naive_one_on_data_of_every_kind(first_seed):
    for seed in range(first_seed, first_seed + NUM_PER_TEST):
        drawn = draw_data_set(seed)
        found = differences(our_plan(drawn), naive_plan_of(drawn))
        assert found == [], f"seed {seed}: {json.dumps(drawn)}"


def test_the_planner_equals_the_naive_one_for_the_memory_and_spacing_a_user_names():
    rng = np.random.default_rng(0)
    for seed in range(60):
        drawn = draw_data_set(seed)
        gigabytes = int(rng.choice([6, 10, 11, 16, 48, 80]))
        spacing = tuple(float(mm) for mm in np.mean(drawn["spacings"], axis=0))
        found = differences(
            our_plan(drawn, budget_bytes=gigabytes * 10**9, spacing=spacing),
            naive_plan_of(drawn, gigabytes, spacing),
        )
        assert found == [], f"seed {seed}, {gigabytes} GB, {spacing} mm: {json.dumps(drawn)}"


def naive_plan_of(drawn, *wishes):
    return naive_plan(
        drawn["spacings"],
        drawn["shapes"],
        drawn["channels"],
        num_label_entries(drawn),
        drawn["relative_size"],
        drawn["preset"],
        *wishes,
    )


@pytest.mark.parametrize(
    ("spacings", "shapes"),
    [
        # The median of two far spacings is what numpy's percentile says, not its median: the
        # last digit decides how many voxels a case has.
        ([(0.34,) * 3, (2.06,) * 3], [(90, 96, 80), (30, 33, 41)]),
        # On its way to a low resolution the fine, short axis is for some steps the only one that
        # could be halved, and too short for it.
        ([(4.0, 0.5, 1.0)] * 20, [(400, 20, 1200)] * 20),
    ],
    ids=["far_spacings", "short_fine_axis"],
)
def test_the_planner_equals_the_naive_one_on_data_that_once_failed(spacings, shapes):
    facts = {"num_structures": 1, "has_ignore": False, "relative_size": 1.0, "preset": "default"}
    data_set = {"spacings": spacings, "shapes": shapes, "channels": ["MRI"], **facts}
    assert differences(our_plan(data_set), naive_plan_of(data_set)) == []
