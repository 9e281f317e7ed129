import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from autoseg.core.fingerprint import (
    CaseFingerprint,
    Fingerprint,
    IntensityStats,
    StructureMeasure,
)
from autoseg.core.labels import LabelSpace, Structure
from autoseg.errors import AutosegError, DataError, UnknownNameError
from autoseg.plan import reasons
from autoseg.plan.mirror import MirrorVerdict, Order
from autoseg.plan.planner import PlanRequest, make_plan

SHARED = Path(__file__).parents[2].parent / "shared"
REFERENCE, KITS = SHARED / "reference", SHARED / "data" / "KiTS19_geometry"

STATS = IntensityStats(
    mean=101, median=100, std=50, min=-10, max=300, percentile_00_5=-58, percentile_99_5=302
)
SCHEMES = {
    "ct": "CTNormalization",
    "zscore": "ZScoreNormalization",
    "none": "NoNormalization",
}
PRESET_OF_PLANNER = {
    "ExperimentPlanner": "default",
    "ResEncUNetPlanner": "resenc",
    "nnUNetPlannerResEncM": "resenc-m",
    "nnUNetPlannerResEncL": "resenc-l",
    "nnUNetPlannerResEncXL": "resenc-xl",
}
# Spacings, shape, part left by cropping, channels, label entries: the data sets the reference
# was run on.
PROSTATE = [(3.6, 0.625, 0.625)] * 16 + [(3.0, 0.6, 0.6)] * 10 + [(4.0, 0.6, 0.6)] * 6
CINE = [(10.0, 1.5625, 1.5625)] * 150 + [(5.0, 1.37, 1.37)] * 50
RGB = ("R", "G", "B")
DATA_SETS = {
    "901": ([(1.0, 1.0, 1.0)] * 260, (36, 50, 35), 1.0, ("MRI",), 3),
    "902": ([(3.0, 0.78, 0.78)] * 210, (104, 512, 512), 1.0, ("CT",), 3),
    "903": (PROSTATE, (20, 320, 320), 1.0, ("T2", "ADC"), 3),
    "904": ([(999.0, 1.0, 1.0)] * 100, (1, 1250, 1500), 1.0, RGB, 2),
    "905": ([(1.0, 1.0, 1.0)] * 484, (138, 170, 138), 0.5, ("T1", "T1c", "T2", "FLAIR"), 4),
    "906": (CINE, (9, 256, 216), 1.0, ("MRI",), 4),
    "907": ([(1.5, 1.5, 1.5)] * 1200, (240, 240, 240), 1.0, ("CT",), 105),
    "908": ([(1.25, 0.75, 0.75)] * 64, (280, 512, 512), 1.0, ("CT",), 2),
    "909": ([(999.0, 1.0, 1.0)] * 20, (1, 256, 256), 1.0, RGB, 2),
    "910": ([(1.0, 1.0, 1.0)] * 4, (64, 64, 64), 0.74, ("MRI",), 2),
    "911": ([(0.8, 0.8, 2.5)] * 50, (300, 300, 90), 1.0, ("CT",), 2),
}


def measured(spacings, shapes, relative_size=1.0, num_channels=1):
    cases = tuple(
        CaseFingerprint(
            name=f"case_{index:04d}",
            shape=tuple(shape),
            spacing=tuple(spacing),
            relative_size=relative_size,
            label_voxels=(1,),
            original_shape=tuple(shape),
            orientation="SPL",
            channels=(),
            structures=(None,),
            files=(),
        )
        for index, (spacing, shape) in enumerate(zip(spacings, shapes, strict=True))
    )
    return Fingerprint(label_values=(0, 1), cases=cases, intensities=(STATS,) * num_channels)


def labels(num_entries):
    return LabelSpace(
        structures=tuple(Structure(name=f"s{i}", values=(i,)) for i in range(1, num_entries))
    )


def plan(data_set, **request):
    spacings, shape, relative_size, channels, num_entries = DATA_SETS[data_set]
    fingerprint = measured(spacings, [shape] * len(spacings), relative_size, len(channels))
    return make_plan(fingerprint, channels, labels(num_entries), PlanRequest(**request))


def decision(made, what, configuration=None):
    (found,) = [d for d in made.decisions if (d.what, d.configuration) == (what, configuration)]
    return found


def as_lists(values):
    return [list(row) for row in values]


def assert_same_configuration(planned, reference):
    network = reference.get("architecture", {}).get("arch_kwargs", reference)
    blocks = [network[key] for key in network if key.startswith("n_") and "per_stage" in key]
    blocks += [network[key] for key in ("n_conv_or_blocks",) if key in network]
    assert list(planned.spacing) == pytest.approx(reference["spacing"], rel=1e-12)
    assert list(planned.median_shape) == reference["median_image_size_in_voxels"]
    assert list(planned.patch_size) == reference["patch_size"]
    assert planned.batch_size == reference["batch_size"]
    assert planned.batch_dice == reference["batch_dice"]
    assert [SCHEMES[name] for name in planned.normalization] == reference["normalization_schemes"]
    assert list(planned.use_mask_for_norm) == reference["use_mask_for_norm"]
    assert as_lists(planned.network.strides) == network["strides"]
    assert as_lists(planned.network.kernel_sizes) == network["kernel_sizes"]
    assert list(planned.network.features_per_stage) == network["features_per_stage"]
    assert list(planned.network.blocks_per_stage) in blocks


def assert_same_plan(made, reference):
    assert list(made.transpose) == reference["transpose_forward"]
    assert set(made.configurations) == set(reference["configurations"])
    for name, configuration in reference["configurations"].items():
        planned = made.configurations[name]
        if "previous_stage" in configuration:
            parent = made.configurations[configuration["inherits_from"]]
            assert planned == parent.model_copy(
                update={"previous": configuration["previous_stage"]}
            )
        else:
            assert_same_configuration(planned, configuration)


def reference_file(name):
    path = REFERENCE / name
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    return json.loads(path.read_text())


@pytest.mark.parametrize("planner", PRESET_OF_PLANNER)
@pytest.mark.parametrize("data_set", DATA_SETS)
def test_plans_of_invented_data_sets_equal_the_reference(data_set, planner):
    reference = reference_file("planner_reference_results.json")[f"{data_set}_{planner}"]
    made = plan(data_set, preset=PRESET_OF_PLANNER[planner], compatible=True)
    assert_same_plan(made, reference["plans"])


@pytest.mark.parametrize("preset", ["default", "resenc-m", "resenc-l"])
@pytest.mark.parametrize(
    "task",
    [
        "Dataset001_BrainTumour",
        "Dataset003_Liver",
        "Dataset004_Hippocampus",
        "Dataset006_Lung",
        "Dataset008_HepaticVessel",
    ],
)
def test_plans_of_real_data_sets_equal_the_published_ones(task, preset):
    published = reference_file("msd_plans.json")["tasks"][task]
    facts = published["fingerprint"]
    channels = list(facts["channel_names"].values())
    fingerprint = measured(
        facts["spacings"],
        facts["shapes_after_crop"],
        facts["median_relative_size_after_cropping"],
        len(channels),
    )
    request = PlanRequest(preset=preset, compatible=True)
    made = make_plan(fingerprint, channels, labels(len(facts["labels"])), request)
    assert_same_plan(made, published[preset.replace("-", "_")]["plan"])


def test_the_plan_of_true_size_kits_cases_equals_the_reference():
    files = sorted(KITS.glob("case_*/segmentation.nii.gz"))
    if not files:
        pytest.skip(f"{KITS} is absent")
    spacings, shapes = [], []
    for file in files:
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(str(file))
        reader.ReadImageInformation()
        spacings.append(reader.GetSpacing()[::-1])
        shapes.append(reader.GetSize()[::-1])
    made = make_plan(measured(spacings, shapes), ["CT"], labels(3), PlanRequest())
    full, low = made.configurations["3d_fullres"], made.configurations["3d_lowres"]
    assert made.transpose == (2, 0, 1)
    assert made.configurations["2d"].patch_size == (512, 512)
    assert made.configurations["2d"].batch_size == 12
    assert full.spacing == pytest.approx((0.7578225, 0.7578125, 0.7578125), abs=1e-9)
    assert (full.patch_size, full.batch_size) == ((112, 160, 128), 2)
    assert full.network.strides == ((1, 1, 1), *((2, 2, 2),) * 4, (1, 2, 2))
    assert low.spacing == pytest.approx((1.68334, 1.68332, 1.68332), abs=1e-5)
    assert low.median_shape == (166, 230, 230)
    assert (low.patch_size, low.batch_size) == ((112, 160, 128), 2)
    assert made.configurations["3d_cascade_fullres"].previous == "3d_lowres"


@pytest.mark.parametrize(
    ("data_set", "preset", "configuration", "patch_size", "batch_size"),
    [
        ("901", "default", "2d", (56, 40), 366),
        ("901", "resenc-xl", "3d_fullres", (40, 56, 40), 183),
        ("902", "default", "3d_fullres", (40, 224, 224), 2),
        ("902", "default", "3d_lowres", (64, 192, 160), 2),
        ("902", "resenc-l", "3d_fullres", (64, 320, 256), 2),
        ("903", "default", "3d_fullres", (24, 256, 256), 2),
        ("904", "default", "2d", (1024, 1280), 2),
        ("904", "resenc-m", "2d", (512, 512), 13),
        ("905", "resenc-l", "3d_fullres", (160, 192, 160), 3),
        ("906", "default", "3d_fullres", (20, 256, 224), 4),
        ("907", "resenc-m", "3d_fullres", (128, 128, 112), 2),
        ("908", "resenc-l", "3d_lowres", (128, 256, 224), 2),
        ("909", "default", "2d", (256, 256), 2),
        ("910", "resenc-m", "2d", (64, 64), 256),
        ("911", "default", "3d_fullres", (56, 192, 192), 2),
    ],
)
def test_worked_examples(data_set, preset, configuration, patch_size, batch_size):
    planned = plan(data_set, preset=preset, compatible=True).configurations[configuration]
    assert (planned.patch_size, planned.batch_size) == (patch_size, batch_size)


def test_a_large_anisotropic_ct_is_planned_as_the_reference_does():
    made = plan("902")
    full, low = made.configurations["3d_fullres"], made.configurations["3d_lowres"]
    assert full.network.strides == ((1, 1, 1), (1, 2, 2), *((2, 2, 2),) * 3, (1, 2, 2))
    assert full.network.kernel_sizes == ((1, 3, 3), *((3, 3, 3),) * 5)
    assert full.network.features_per_stage == (32, 64, 128, 256, 320, 320)
    assert low.spacing == pytest.approx((3.0, 1.4945606589114102, 1.4945606589114102), rel=1e-12)
    assert low.median_shape == (104, 267, 267)
    assert (full.batch_dice, low.batch_dice) == (True, False)


def test_a_cascade_differs_from_full_resolution_only_in_what_it_reads():
    made = plan("902").configurations
    full = made["3d_fullres"]
    assert made["3d_cascade_fullres"] == full.model_copy(update={"previous": "3d_lowres"})


def test_large_networks_drop_a_low_resolution_that_would_gain_too_little():
    made = plan("902", preset="resenc-l")
    assert set(made.configurations) == {"2d", "3d_fullres"}
    assert not made.configurations["3d_fullres"].batch_dice
    assert "(step 5 of 3% each)" in decision(made, "3d_lowres").reason


def test_flat_images_get_slices_only():
    made = plan("904")
    assert set(made.configurations) == {"2d"}
    assert "single slice" in decision(made, "3d").reason


def test_slices_too_small_for_a_network_leave_3d_only():
    fingerprint = measured([(2.0, 1.0, 1.0)] * 9, [(60, 7, 6)] * 9)
    made = make_plan(fingerprint, ["CT"], labels(2), PlanRequest())
    assert set(made.configurations) == {"3d_fullres"}
    assert "7x6 voxels" in decision(made, "2d").reason


def test_the_coarsest_axis_comes_first():
    made = plan("911")
    assert made.transpose == (2, 0, 1)
    assert made.configurations["3d_fullres"].spacing == (2.5, 0.8, 0.8)
    assert decision(made, "axis order").value == "x, z, y"
    assert "2.5 mm against 0.8 mm" in decision(made, "axis order").reason


def test_strong_anisotropy_takes_the_tenth_percentile_and_says_so():
    made = plan("903")
    assert made.configurations["3d_fullres"].spacing == pytest.approx((3.0, 0.6125, 0.6125))
    assert made.configurations["3d_fullres"].median_shape == (24, 320, 320)
    reason = decision(made, "target spacing").reason
    assert "10th percentile 3 mm instead of the median 3.6 mm" in reason


def test_the_tenth_percentile_is_not_told_where_it_is_the_median():
    made = make_plan(
        measured([(999, 1, 1)] * 8, [(1, 96, 128)] * 8), ["CT"], labels(2), PlanRequest()
    )
    assert decision(made, "target spacing").value == "999 x 1 x 1 mm"
    assert decision(made, "target spacing").reason == "median of 8 cases"


def test_a_percentile_below_the_other_axes_is_raised_to_them():
    spacings = [(0.5, 0.8, 0.8)] * 20 + [(4.0, 0.8, 0.8)] * 80
    made = make_plan(measured(spacings, [(30, 200, 200)] * 100), ["CT"], labels(2), PlanRequest())
    assert made.configurations["3d_fullres"].spacing == pytest.approx((0.80001, 0.8, 0.8))
    assert made.transpose == (0, 1, 2)
    assert "raised" in decision(made, "target spacing").reason


def test_a_wanted_spacing_is_taken_in_raw_axis_order():
    made = plan("911", spacing=(1.0, 3.0, 2.0))
    assert made.transpose == (1, 0, 2)
    assert made.configurations["3d_fullres"].spacing == (3.0, 1.0, 2.0)
    assert made.configurations["2d"].spacing == (1.0, 2.0)
    assert decision(made, "target spacing").reason == "given by the user"


def test_all_axes_are_mirrored_unless_something_forbids_it():
    made = plan("902").configurations
    assert made["2d"].training.mirror_axes == (0, 1)
    assert made["3d_fullres"].training.mirror_axes == (0, 1, 2)


def test_mirror_axes_are_those_of_the_raw_images():
    made = plan("911", mirror_axes=(0, 2))
    assert made.configurations["3d_fullres"].training.mirror_axes == (0, 1)
    assert made.configurations["2d"].training.mirror_axes == (0,)
    assert decision(made, "mirror axes", "2d").value == "z"
    assert decision(made, "mirror axes", "3d_fullres").value == "x, z"


def kidneys(**request):
    """A plan of images with x first, and a left and a right kidney in each of ten cases."""
    fingerprint = measured([(0.8, 0.8, 2.5)] * 10, [(300, 300, 90)] * 10)
    cases = tuple(
        case.model_copy(
            update={
                "label_voxels": (100_000, 100_000),
                "structures": tuple(
                    StructureMeasure(centroid=(0, 0, left), means=(30,), stds=(10,))
                    for left in (60, -60)
                ),
            }
        )
        for case in fingerprint.cases
    )
    space = LabelSpace(
        structures=(Structure(name="LK", values=(1,)), Structure(name="RK", values=(2,)))
    )
    fingerprint = fingerprint.model_copy(update={"cases": cases})
    return make_plan(fingerprint, ["CT"], space, PlanRequest(**request))


LK_AND_RK = (
    "x: LK lies on the same side of RK in 10 of 10 cases and looks alike (0.00 standard deviations "
    "apart)"
)


def test_an_axis_two_alike_structures_lie_along_is_not_mirrored():
    made = kidneys()
    assert made.transpose == (2, 0, 1)
    assert made.configurations["3d_fullres"].training.mirror_axes == (1, 2)
    assert made.configurations["2d"].training.mirror_axes == (0, 1)
    found = decision(made, "mirror axes", "3d_fullres")
    assert found.value == "z, y"
    assert found.reason == f"not {LK_AND_RK}; prediction takes 4 passes per patch"
    # Slices of the 2d configuration do not have that axis.
    assert decision(made, "mirror axes", "2d").reason == (
        "no two structures forbid an axis; prediction takes 4 passes per patch"
    )


def test_a_compatible_plan_mirrors_all_axes_and_says_what_the_data_say():
    made = kidneys(compatible=True)
    assert made.configurations["3d_fullres"].training.mirror_axes == (0, 1, 2)
    assert decision(made, "mirror axes", "3d_fullres").reason == (
        f"as in nnU-Net (--compatible), against what the data say of {LK_AND_RK}; prediction "
        "takes 8 passes per patch"
    )


def test_the_wish_of_the_user_overrules_the_data_and_compatibility():
    made = kidneys(mirror_axes=(2,), compatible=True)
    assert made.configurations["3d_fullres"].training.mirror_axes == (0,)
    assert decision(made, "mirror axes", "3d_fullres").reason == (
        f"given by the user, against what the data say of {LK_AND_RK}; prediction takes 2 passes "
        "per patch"
    )
    unmirrored = decision(kidneys(mirror_axes=()), "mirror axes", "2d")
    assert unmirrored.value == "none"
    assert unmirrored.reason == "given by the user; prediction takes 1 pass per patch"


def mirror_reason(*against):
    verdicts = [MirrorVerdict(axis=axis, against=orders) for axis, orders in enumerate(against)]
    axes = [verdict.axis for verdict in verdicts if verdict.is_allowed]
    return reasons.mirror_axes("3d_fullres", axes, verdicts, "data").reason


def order(first, second, **what):
    numbers = {"num_cases": 9, "num_same": 9, "distance_mm": 20.0, "contrast_stds": 0.026}
    return Order(structures=(first, second), **(numbers | what))


def test_axes_with_one_reason_share_it_and_other_pairs_are_counted():
    pair, other = order("front", "back", num_cases=208, num_same=207), order("a", "b")
    assert mirror_reason((pair,), (pair,), ()) == (
        "not z and y: front lies on the same side of back in 207 of 208 cases and looks alike "
        "(0.03 standard deviations apart); prediction takes 2 passes per patch"
    )
    assert mirror_reason((), (other,), (pair, other, other)) == (
        "not y: a lies on the same side of b in 9 of 9 cases and looks alike (0.03 standard "
        "deviations apart); x: front lies on the same side of back in 207 of 208 cases and looks "
        "alike (0.03 standard deviations apart) (and 2 more pairs); prediction takes 2 passes per "
        "patch"
    )
    assert "(and 1 more pair)" in mirror_reason((), (), (pair, other))


def test_left_and_right_by_name_are_told_as_such():
    named = order("eye_l", "eye_r", num_cases=2, num_same=2, by_name=True)
    words = "eye_l and eye_r are left and right by name and lie in the same order in 2 of 2 cases"
    assert f"not x: {words};" in mirror_reason((), (), (named,))
    unseen = order("eye_l", "eye_r", num_cases=0, num_same=0, by_name=True)
    assert "eye_r are left and right by name; prediction" in mirror_reason((), (), (unseen,))


def test_masks_are_used_where_cropping_leaves_little():
    assert plan("905").configurations["2d"].use_mask_for_norm == (True,) * 4
    assert plan("901").configurations["2d"].use_mask_for_norm == (False,)


def test_a_ct_never_uses_a_mask():
    fingerprint = measured([(1.0, 1.0, 1.0)] * 9, [(64, 60, 56)] * 9, 0.5, 2)
    planned = make_plan(fingerprint, [" Ct", "T2"], labels(2), PlanRequest()).configurations["2d"]
    assert planned.normalization == ("ct", "zscore")
    assert planned.use_mask_for_norm == (False, True)


def test_the_budget_of_a_preset_holds_unless_another_is_named():
    assert plan("901").budget_bytes == 8_000_000_000
    assert plan("901", preset="resenc-l").budget_bytes == 24_000_000_000
    assert plan("901", preset="resenc-l", budget_bytes=10**10).budget_bytes == 10**10


def test_more_memory_allows_a_larger_patch():
    small = plan("902", budget_bytes=8 * 10**9).configurations["3d_fullres"].patch_size
    large = plan("902", budget_bytes=16 * 10**9).configurations["3d_fullres"].patch_size
    assert np.prod(large) > np.prod(small)


@pytest.mark.parametrize(
    ("what", "configuration", "value", "words"),
    [
        ("target spacing", None, "3 x 0.78 x 0.78 mm", ["median of 210 cases"]),
        ("axis order", None, "z, y, x", ["3 mm against 0.78 mm"]),
        ("median shape", None, "104x512x512 voxels", ["210 cases"]),
        ("normalization of CT", None, "ct", ["-58 .. 302", "101", "50"]),
        ("3d_lowres", None, "planned", ["7.36%", "25%", "1.495 x 1.495 mm", "step 22 of 3%"]),
        ("spacing", "3d_lowres", "3 x 1.495 x 1.495 mm", ["22 steps of 3%", "104x267x267"]),
        (
            "patch size",
            "3d_fullres",
            "40x224x224",
            ["from 112x448x448", "14 steps down", "fitted 8 GB", "540 of 560 million"],
        ),
        ("patch size", "2d", "512x512", ["first patch tried", "512x512", "8 GB"]),
        ("batch size", "3d_fullres", "2", ["memory", "8 GB hold 2"]),
        (
            "network",
            "3d_fullres",
            "unet, 6 stages",
            ["3, 5 and 5 times", "5x7x7", "32 to 320 features", "million weights"],
        ),
        ("batch Dice", "3d_fullres", "on", ["7.36%"]),
        ("mirror axes", "2d", "y, x", ["no two structures forbid an axis", "4 passes per patch"]),
        ("memory of a training step", "3d_fullres", "6.82 GB", ["within 8 GB", "activations"]),
    ],
)
def test_decisions_state_value_and_numbers(what, configuration, value, words):
    found = decision(plan("902"), what, configuration)
    assert found.value == value
    assert [word for word in words if word not in found.reason] == []


def test_a_batch_capped_by_the_data_set_says_so():
    found = decision(plan("901"), "batch size", "3d_fullres")
    assert found.value == "9"
    assert "decided by the data set: 5% of the voxels of all cases make 9 patches" in found.reason


def test_a_minimal_batch_says_what_would_have_been_smaller():
    found = decision(plan("910"), "batch size", "3d_fullres")
    assert found.value == "2"
    assert "the minimum of 2: 5% of the voxels of all cases make 0 patches" in found.reason


def test_a_plan_whose_training_step_exceeds_the_budget_says_so():
    found = decision(plan("907", compatible=True), "memory of a training step", "3d_fullres")
    assert "more than the 8 GB planned for" in found.reason


def test_every_configuration_explains_the_same_decisions():
    made = plan("902")
    by_configuration = {
        name: [d.what for d in made.decisions if d.configuration == name]
        for name in made.configurations
    }
    assert len(made.configurations) == 4
    assert all(whats == by_configuration["2d"] != [] for whats in by_configuration.values())


@pytest.mark.parametrize("seed", range(25))
def test_random_data_give_patches_the_network_divides_and_batches_of_two_or_more(seed):
    rng = np.random.default_rng(seed)
    spacing, shape = rng.uniform(0.3, 6, 3), rng.uniform(30, 600, 3)
    count = int(rng.integers(2, 60))
    spacings = [tuple((spacing * rng.uniform(0.9, 1.1, 3)).tolist()) for _ in range(count)]
    shapes = [tuple(map(int, shape * rng.uniform(0.8, 1.2, 3))) for _ in range(count)]
    preset = ("default", "resenc-m", "resenc-l", "resenc-xl")[seed % 4]
    request = PlanRequest(preset=preset, budget_bytes=int(rng.uniform(4e9, 5e10)))
    made = make_plan(measured(spacings, shapes), ["CT"], labels(4), request)
    for configuration in made.configurations.values():
        divisors = configuration.network.downsampling
        pairs = zip(configuration.patch_size, divisors, strict=True)
        assert all(size % divisor == 0 for size, divisor in pairs)
        assert configuration.batch_size >= 2


def test_no_cases_are_an_error():
    with pytest.raises(DataError, match="no training case; add"):
        make_plan(measured([], []), ["CT"], labels(2), PlanRequest())


def test_channels_that_were_not_measured_are_refused():
    with pytest.raises(ValueError, match="2 channels, 1 measured"):
        make_plan(measured([(1, 1, 1)], [(9, 9, 9)]), ["CT", "PET"], labels(2), PlanRequest())


def test_an_unknown_preset_suggests_the_right_one():
    with pytest.raises(UnknownNameError, match="did you mean 'resenc-m'"):
        PlanRequest(preset="resencm")


@pytest.mark.parametrize(
    "request_",
    [
        {"spacing": (1.0, 0.0, 1.0)},
        {"spacing": (1.0, float("nan"), 1.0)},
        {"mirror_axes": (0, 3)},
        {"budget_bytes": 0},
    ],
)
def test_requests_that_cannot_be_planned_name_the_option(request_):
    with pytest.raises(AutosegError, match="--"):
        PlanRequest(**request_)


def test_a_mirror_axis_error_lists_the_axes():
    with pytest.raises(AutosegError, match=r"\[3\].*0 \(z\), 1 \(y\), 2 \(x\)"):
        PlanRequest(mirror_axes=(3,))


def test_base_features_scale_the_network_and_free_memory():
    small = plan("902", base_features=8).configurations["3d_fullres"]
    usual = plan("902").configurations["3d_fullres"]
    assert small.network.features_per_stage[:3] == (8, 16, 32)
    assert usual.network.features_per_stage[:3] == (32, 64, 128)
    assert np.prod(small.patch_size) > np.prod(usual.patch_size)


def test_no_features_are_refused():
    with pytest.raises(AutosegError, match="--base-features"):
        PlanRequest(base_features=0)
