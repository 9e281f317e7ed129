import json

import pytest
from test_planner import DATA_SETS, STATS, assert_same_plan, labels, measured, reference_file

from autoseg.core.plan import Plan
from autoseg.errors import AutosegError
from autoseg.io import artifacts
from autoseg.plan.planner import make_plan
from autoseg.plan.request import PlanRequest
from autoseg.plan.without_images import plan_without_images

NOTHING_KNOWN = "the fingerprint tells nothing about structures"


def write(folder, spacings, shapes, relative_size, channels, declared):
    """Write a data set's measurements as nnU-Net does."""
    (folder / "dataset_fingerprint.json").write_text(
        json.dumps(
            {
                "foreground_intensity_properties_per_channel": {
                    str(number): STATS.model_dump() for number in range(len(channels))
                },
                "median_relative_size_after_cropping": relative_size,
                "shapes_after_crop": shapes,
                "spacings": spacings,
            },
            indent=4,
        )
    )
    (folder / "dataset.json").write_text(
        json.dumps(
            {
                "channel_names": {str(number): name for number, name in enumerate(channels)},
                "labels": declared,
                "numTraining": len(spacings),
            }
        )
    )
    return folder / "dataset_fingerprint.json"


def write_data_set(folder, data_set):
    spacings, shape, relative_size, channels, num_entries = DATA_SETS[data_set]
    declared = {"background": 0} | {f"s{value}": value for value in range(1, num_entries)}
    return write(folder, spacings, [shape] * len(spacings), relative_size, channels, declared)


@pytest.mark.parametrize("preset", ["default", "resenc-l"])
@pytest.mark.parametrize("data_set", ["902", "903", "904", "905", "906", "910", "911"])
def test_a_compatible_plan_of_a_written_fingerprint_is_that_of_the_measurements(
    data_set, preset, tmp_path
):
    request = PlanRequest(preset=preset, compatible=True)
    spacings, shape, relative_size, channels, num_entries = DATA_SETS[data_set]
    fingerprint = measured(spacings, [shape] * len(spacings), relative_size, len(channels))
    expected = make_plan(fingerprint, channels, labels(num_entries), request)

    made = plan_without_images(write_data_set(tmp_path, data_set), request)

    assert made.plan == expected


@pytest.mark.parametrize("task", ["Dataset001_BrainTumour", "Dataset008_HepaticVessel"])
def test_plans_of_published_fingerprints_equal_the_published_plans(task, tmp_path):
    published = reference_file("msd_plans.json")["tasks"][task]
    facts = published["fingerprint"]
    file = write(
        tmp_path,
        facts["spacings"],
        facts["shapes_after_crop"],
        facts["median_relative_size_after_cropping"],
        list(facts["channel_names"].values()),
        facts["labels"],
    )

    made = plan_without_images(file, PlanRequest(preset="resenc-m", compatible=True))

    assert_same_plan(made.plan, published["resenc_m"]["plan"])


def mirroring(plan):
    return [(d.value, d.reason.split(";")[0]) for d in plan.decisions if d.what == "mirror axes"]


def test_without_structures_all_axes_are_mirrored_and_the_reason_says_so(tmp_path):
    plan = plan_without_images(write_data_set(tmp_path, "903"), PlanRequest()).plan

    assert mirroring(plan) == [("y, x", NOTHING_KNOWN), ("z, y, x", NOTHING_KNOWN)]


def test_names_of_left_and_right_forbid_no_axis_where_orientations_are_unknown(tmp_path):
    file = write(
        tmp_path, [[1, 1, 1]] * 9, [[60, 50, 40]] * 9, 1, ["MRI"], {"eye_l": 1, "eye_r": 2}
    )

    plan = plan_without_images(file, PlanRequest()).plan

    assert mirroring(plan)[-1] == ("z, y, x", NOTHING_KNOWN)


def test_known_orientations_without_structures_leave_left_and_right_by_name(tmp_path):
    fingerprint = measured([(1, 1, 1)] * 9, [(60, 50, 40)] * 9)
    cases = tuple(case.model_copy(update={"structures": ()}) for case in fingerprint.cases)
    space = labels(3)
    sided = tuple(
        structure.model_copy(update={"name": name})
        for structure, name in zip(space.structures, ("eye_l", "eye_r"), strict=True)
    )

    plan = make_plan(
        fingerprint.model_copy(update={"cases": cases}),
        ["MRI"],
        space.model_copy(update={"structures": sided}),
        PlanRequest(),
    )

    assert mirroring(plan)[-1] == ("z, y", "not x: eye_l and eye_r are left and right by name")


def test_wishes_of_the_user_count_without_images_too(tmp_path):
    request = PlanRequest(mirror_axes=(0,), spacing=(2.0, 1.0, 1.0), budget_bytes=24 * 10**9)

    plan = plan_without_images(write_data_set(tmp_path, "902"), request).plan

    assert mirroring(plan)[1] == ("z", "given by the user")
    assert plan.configurations["3d_fullres"].spacing == (2.0, 1.0, 1.0)
    assert plan.budget_bytes == 24 * 10**9


def test_a_plan_is_written_where_the_user_wants_it(tmp_path):
    file = write_data_set(tmp_path, "903")

    made = plan_without_images(file, PlanRequest(), tmp_path / "new" / "plan.json")

    assert artifacts.load(tmp_path / "new" / "plan.json", Plan) == made.plan


def test_a_file_that_is_there_is_not_replaced(tmp_path):
    file = write_data_set(tmp_path, "903")
    (tmp_path / "plan.json").write_text("mine")

    with pytest.raises(
        AutosegError, match=r"plan\.json: exists already; name another file, or take it away"
    ):
        plan_without_images(file, PlanRequest(), tmp_path / "plan.json")

    assert (tmp_path / "plan.json").read_text() == "mine"
