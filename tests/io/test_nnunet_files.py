import json
import logging

import pytest

from autoseg.core.fingerprint import IntensityStats
from autoseg.errors import ArtifactError, AutosegError, DataError, OutdatedError, WorkspaceError
from autoseg.io.measurements import read_measurements

CT = {
    "mean": 101.5,
    "median": 100.0,
    "std": 50.0,
    "min": -10.0,
    "max": 300.0,
    "percentile_00_5": -58.0,
    "percentile_99_5": 302.0,
}
PET = {name: value / 2 for name, value in CT.items()}
INTENSITIES = "foreground_intensity_properties_per_channel"
MEASURED = {
    INTENSITIES: {"1": PET, "0": CT},
    "median_relative_size_after_cropping": 0.625,
    "shapes_after_crop": [[22, 37, 32], [23, 37, 33], [24, 41, 30]],
    "spacings": [[2.5, 0.8, 0.75], [3.0, 0.8, 0.7], [3, 0.9, 0.7]],
}
DESCRIBED = {
    "channel_names": {"0": "CT", "1": "PET"},
    "file_ending": ".nii.gz",
    "labels": {"background": 0, "kidney": 2, "tumour": 5, "ignore": 6},
    "numTraining": 3,
}


@pytest.fixture
def write(tmp_path):
    """Writes the two files, changed at some places; returns the fingerprint's."""
    folder = tmp_path / "Dataset220_KiTS"
    folder.mkdir()

    def write(measured=MEASURED, described=DESCRIBED):
        (folder / "dataset_fingerprint.json").write_text(json.dumps(measured))
        (folder / "dataset.json").write_text(json.dumps(described))
        return folder / "dataset_fingerprint.json"

    return write


def changed(data, place, *value):
    """A copy with one value replaced, or without it if there is none."""
    copy = json.loads(json.dumps(data))
    *parents, key = place
    inner = copy
    for parent in parents:
        inner = inner[parent]
    if value:
        inner[key] = value[0]
    else:
        del inner[key]
    return copy


def refusal(write, measured=MEASURED, described=DESCRIBED):
    with pytest.raises(AutosegError) as caught:
        read_measurements(write(measured, described))
    assert "\n" not in str(caught.value)
    return caught.value


def test_cases_have_the_shapes_and_spacings_of_the_file_in_its_axis_order(write):
    cases = read_measurements(write()).fingerprint.cases

    assert [case.shape for case in cases] == [(22, 37, 32), (23, 37, 33), (24, 41, 30)]
    assert [case.spacing for case in cases] == [(2.5, 0.8, 0.75), (3.0, 0.8, 0.7), (3.0, 0.9, 0.7)]
    assert [case.name for case in cases] == ["case_00000", "case_00001", "case_00002"]


def test_the_median_relative_size_is_that_of_the_file(write):
    fingerprint = read_measurements(write()).fingerprint

    assert fingerprint.median_relative_size == 0.625


def test_intensities_are_in_the_order_of_the_channels(write):
    fingerprint = read_measurements(write()).fingerprint

    assert fingerprint.intensities == (IntensityStats(**CT), IntensityStats(**PET))


def test_ten_channels_and_more_are_ordered_by_number(write):
    stats = {str(number): CT | {"mean": float(number)} for number in range(12)}
    names = {str(number): f"MR{number}" for number in range(12)}

    file = write(MEASURED | {INTENSITIES: stats}, DESCRIBED | {"channel_names": names})

    means = [stats.mean for stats in read_measurements(file).fingerprint.intensities]
    assert means == list(range(12))


def test_name_channels_and_labels_are_those_of_the_description(write):
    known = read_measurements(write())

    assert known.name == "Dataset220_KiTS"
    assert known.channels == ("CT", "PET")
    assert known.labels.names == ("kidney", "tumour")
    assert known.labels.num_entries == 4
    assert known.fingerprint.label_values == (0, 2, 5, 6)


def test_what_the_file_does_not_tell_is_empty(write):
    case = read_measurements(write()).fingerprint.cases[0]

    assert (case.orientation, case.content, case.patient) == ("", None, None)
    assert case.label_voxels == case.structures == case.channels == case.files == ()


def test_keys_nobody_needs_may_be_there(write):
    more = changed(MEASURED | {"case_identifiers": ["a"]}, [INTENSITIES, "0", "sum"], 7.5)

    assert read_measurements(write(more)) == read_measurements(write())


@pytest.mark.parametrize("key", MEASURED)
def test_a_missing_key_is_named(write, key):
    error = refusal(write, changed(MEASURED, [key]))

    assert error.finding == f"missing key '{key}'"
    assert str(error.place).endswith("dataset_fingerprint.json")


@pytest.mark.parametrize("key", CT)
def test_a_missing_statistic_is_named_with_its_channel(write, key):
    error = refusal(write, changed(MEASURED, [INTENSITIES, "1", key]))

    assert error.finding == f"{INTENSITIES}.1: missing key '{key}'"


@pytest.mark.parametrize(
    ("place", "value", "finding"),
    [
        (["spacings", 1, 2], 0, "spacings.1.2: should be greater than 0, got 0"),
        (["spacings", 1, 2], float("nan"), "spacings.1.2: should be a finite number, got NaN"),
        (["spacings", 1], [3.0, 0.8], "spacings.1: missing key '2'"),
        (["spacings"], 3, "spacings: should be a valid tuple, got 3"),
        (["shapes_after_crop", 0, 1], -3, "shapes_after_crop.0.1: should be greater than 0"),
        (["shapes_after_crop", 0, 1], 3.5, "shapes_after_crop.0.1: should be a valid integer"),
        ([INTENSITIES, "0", "std"], "wide", f"{INTENSITIES}.0.std: should be a valid number"),
        ([INTENSITIES, "0", "std"], float("nan"), f"{INTENSITIES}.0.std: should be a finite"),
        ([INTENSITIES], {"0": CT, "2": PET}, f"{INTENSITIES}: should number the channels from 0"),
        (["median_relative_size_after_cropping"], 1.5, "median_relative_size_after_cropping: "),
        (["spacings"], [], "shapes_after_crop: 3 shapes, but 'spacings' lists 0"),
    ],
)
def test_a_wrong_value_is_told_with_its_place(write, place, value, finding):
    assert refusal(write, changed(MEASURED, place, value)).finding.startswith(finding)


def test_a_fingerprint_of_no_case_is_refused(write):
    error = refusal(write, MEASURED | {"spacings": [], "shapes_after_crop": []})

    assert error.finding == "spacings: lists no case"


@pytest.mark.parametrize(
    ("place", "finding"),
    [(["channel_names"], "channel_names: missing key"), (["labels"], "labels: missing key")],
)
def test_a_description_that_lacks_something_is_refused(write, place, finding):
    error = refusal(write, described=changed(DESCRIBED, place))

    assert isinstance(error, DataError)
    assert (error.finding, str(error.place).endswith("dataset.json")) == (finding, True)


def test_all_that_a_description_lacks_is_told_at_once(write):
    error = refusal(write, described={"numTraining": 3})

    assert error.finding == "channel_names: missing key; labels: missing key"


def test_another_number_of_channels_is_refused(write):
    error = refusal(write, described=DESCRIBED | {"channel_names": {"0": "CT"}})

    assert error.finding == "2 channels measured, but dataset.json names 1: CT"
    assert error.remedy == "put the files of one data set side by side"


def test_another_number_of_cases_is_warned_of(write, caplog):
    with caplog.at_level(logging.WARNING):
        known = read_measurements(write(described=DESCRIBED | {"numTraining": 1}))

    assert len(known.fingerprint.cases) == 3
    (message,) = caplog.messages
    assert message.endswith(
        "dataset.json: numTraining: 1 case, but 3 were measured; the plan is for those"
    )


def test_without_a_description_the_remedy_is_to_bring_it(write):
    file = write()
    (file.parent / "dataset.json").unlink()

    with pytest.raises(
        WorkspaceError,
        match=r"dataset\.json: does not exist; put the dataset\.json of the data set beside the",
    ):
        read_measurements(file)


def test_a_file_that_is_missing_or_something_else_is_refused_with_what_is_wanted(write):
    file = write({"plans_name": "nnUNetPlans"})

    with pytest.raises(ArtifactError, match=r"is no fingerprint; name a fingerprint\.json of a"):
        read_measurements(file)
    with pytest.raises(WorkspaceError, match=r"x\.json: does not exist; name a fingerprint\.json"):
        read_measurements(file.with_name("x.json"))


# Our own fingerprints


@pytest.fixture
def ours(toy, tmp_path):
    """A copy of the toy task's fingerprint and description, away from the workspace."""
    for file in (toy.task.fingerprint_file, toy.task.task_file):
        (tmp_path / file.name).write_text(file.read_text())
    return tmp_path / "fingerprint.json"


def test_a_fingerprint_of_ours_is_described_by_its_task(ours):
    known = read_measurements(ours)

    assert (known.name, known.channels) == ("Task01_Ball", ("MRI",))
    assert known.labels.names == ("shell", "core")
    assert len(known.fingerprint.cases) == 6


def test_a_fingerprint_of_ours_without_its_task_is_described_by_dataset_json(ours, toy):
    (ours.parent / "task.json").unlink()
    description = json.loads((toy.raw / "dataset.json").read_text())
    (ours.parent / "dataset.json").write_text(json.dumps(description | {"name": "Balls"}))

    known = read_measurements(ours)

    assert (known.name, known.labels.names) == ("Balls", ("shell", "core"))


def test_the_task_is_believed_before_dataset_json(ours):
    (ours.parent / "dataset.json").write_text(json.dumps(DESCRIBED))

    assert read_measurements(ours).channels == ("MRI",)


def test_a_fingerprint_of_ours_without_any_description_names_both(ours):
    (ours.parent / "task.json").unlink()

    with pytest.raises(WorkspaceError, match=r"; put task\.json or dataset\.json of the data set"):
        read_measurements(ours)


def test_a_description_of_other_label_values_is_refused(ours):
    (ours.parent / "task.json").unlink()
    (ours.parent / "dataset.json").write_text(
        json.dumps(DESCRIBED | {"channel_names": {"0": "MRI"}})
    )

    with pytest.raises(
        ArtifactError,
        match=r"values \[0, 1, 2\], but dataset\.json declares \[0, 2, 5, 6\]; put the files",
    ):
        read_measurements(ours)


def test_an_older_fingerprint_of_ours_is_to_be_made_anew(ours):
    ours.write_text(json.dumps(json.loads(ours.read_text()) | {"format": 1}))

    with pytest.raises(OutdatedError, match=r"earlier autoseg .*; run: autoseg plan TASK"):
        read_measurements(ours)
