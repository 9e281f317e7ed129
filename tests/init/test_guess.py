from pathlib import Path, PurePosixPath

import pytest

from autoseg.init.guess import Guess, guess_cases, words_to_try
from autoseg.init.names import ImageFile

ENDINGS = (".nii.gz", ".nrrd", ".mha", ".png", ".tif")


def image_file(text: str) -> ImageFile:
    """A path with a slash at its end is a folder that is an image."""
    path = Path(text)
    if text.endswith("/"):
        return ImageFile(path=path, stem="")
    name = PurePosixPath(text).name
    return ImageFile(path=path, stem=next(name[: -len(e)] for e in ENDINGS if name.endswith(e)))


def guess(*paths: str, label_words: tuple[str, ...] = ()) -> Guess:
    return guess_cases([image_file(path) for path in paths], label_words)


def table(found: Guess) -> list[tuple[str, ...]]:
    return [
        (case.name, *map(Path.as_posix, case.images), case.label.as_posix()) for case in found.cases
    ]


def without_slashes(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [tuple(text.rstrip("/") for text in row) for row in rows]


def left(found: Guess) -> dict[str, list[str]]:
    return {group.why: [file.as_posix() for file in group.files] for group in found.left_out}


SINGLE = {
    "sibling folders": [
        ("a7", "images/a7.nii.gz", "labels/a7.nii.gz"),
        ("b2", "images/b2.nii.gz", "labels/b2.nii.gz"),
    ],
    "tr": [
        ("a7", "imagesTr/a7.nii.gz", "labelsTr/a7.nii.gz"),
        ("b2", "imagesTr/b2.nii.gz", "labelsTr/b2.nii.gz"),
    ],
    "numbered though single": [
        ("a_0001", "imagesTr/a_0001_0000.nii.gz", "labelsTr/a_0001.nii.gz"),
        ("a_0002", "imagesTr/a_0002_0000.nii.gz", "labelsTr/a_0002.nii.gz"),
    ],
    "numbers of cases": [
        ("case_0000", "Scans/case_0000.nii.gz", "Ground_Truth/case_0000.nii.gz"),
        ("case_0001", "Scans/case_0001.nii.gz", "Ground_Truth/case_0001.nii.gz"),
    ],
    "suffixes on either side": [
        ("x1", "img/x1_img.png", "masks/x1_mask.png"),
        ("x2", "img/x2_img.png", "masks/x2_mask.png"),
    ],
    "prefixes": [
        ("12", "volume-12.nii.gz", "segmentation-12.nii.gz"),
        ("3", "volume-3.nii.gz", "segmentation-3.nii.gz"),
    ],
    "prefixes without a separator": [
        ("0001", "img/img0001.nii.gz", "label/label0001.nii.gz"),
        ("0002", "img/img0002.nii.gz", "label/label0002.nii.gz"),
    ],
    "flat": [
        ("case1", "case1.nii.gz", "case1_seg.nii.gz"),
        ("case12", "case12.nii.gz", "case12_seg.nii.gz"),
    ],
    "flat with the structure's name": [
        ("case1", "case1.nii.gz", "case1_liver_seg.nii.gz"),
        ("case2", "case2.nii.gz", "case2_liver_seg.nii.gz"),
    ],
    "slicer": [
        ("p3", "p3.nrrd", "p3.seg.nrrd"),
        ("p4", "p4.nrrd", "p4.seg.nrrd"),
    ],
    "a folder per case with any names": [
        ("alice", "alice/brain.nii.gz", "alice/annotation_final.nii.gz"),
        ("bob", "bob/scan_axial.nii.gz", "bob/mask.nii.gz"),
    ],
    "a folder per case with a folder per role": [
        ("c1", "c1/image/1.mha", "c1/label/1.mha"),
        ("c2", "c2/image/1.mha", "c2/label/1.mha"),
    ],
    "series beside a label map": [
        ("patient1", "patient1/ct/", "patient1/seg.nii.gz"),
        ("patient2", "patient2/ct/", "patient2/seg.nii.gz"),
    ],
    "label map inside the series": [
        ("patient1", "patient1/", "patient1/mask.nii.gz"),
        ("patient2", "patient2/", "patient2/mask.nii.gz"),
    ],
    "series of an archive": [
        ("p1", "p1/1.2.840.7/1.2.840.9/", "p1/p1_roi.nii.gz"),
        ("p2", "p2/1.2.840.13/1.2.840.4/", "p2/p2_roi.nii.gz"),
    ],
    "label maps of a data set named after them": [
        ("a", "brain_seg/images/a.nii.gz", "brain_seg/labels/a.nii.gz"),
        ("b", "brain_seg/images/b.nii.gz", "brain_seg/labels/b.nii.gz"),
    ],
    "numbers shared by several splits": [
        ("train_1", "train/images/1.png", "train/masks/1.png"),
        ("train_2", "train/images/2.png", "train/masks/2.png"),
        ("val_1", "val/images/1.png", "val/masks/1.png"),
    ],
    "sites that number alike": [
        ("siteA_1", "siteA/images/1.png", "siteA/masks/1.png"),
        ("siteB_1", "siteB/images/1.png", "siteB/masks/1.png"),
        ("siteB_2", "siteB/images/2.png", "siteB/masks/2.png"),
    ],
    "names that contain each other": [
        ("a_1", "images/a_1.png", "labels/a_1.png"),
        ("a_1_2", "images/a_1_2.png", "labels/a_1_2.png"),
    ],
    "bids": [
        (
            "sub-01",
            "sub-01/anat/sub-01_T1w.nii.gz",
            "derivatives/labels/sub-01/anat/sub-01_T1w_dseg.nii.gz",
        ),
        (
            "sub-02",
            "sub-02/anat/sub-02_T1w.nii.gz",
            "derivatives/labels/sub-02/anat/sub-02_T1w_dseg.nii.gz",
        ),
    ],
    "bids with more entities": [
        (
            "sub-01",
            "sub-01/anat/sub-01_T1w.nii.gz",
            "derivatives/manual_masks/sub-01/anat/sub-01_space-orig_desc-manual_dseg.nii.gz",
        ),
        (
            "sub-02",
            "sub-02/anat/sub-02_T1w.nii.gz",
            "derivatives/manual_masks/sub-02/anat/sub-02_space-orig_desc-manual_dseg.nii.gz",
        ),
    ],
}
for _word in ("mask", "label", "gt", "segmentation", "annotation", "groundTruth", "roi", "SEG"):
    for _separator in "_-.":
        SINGLE[f"{_separator}{_word}"] = [
            (f"k{i}", f"data/k{i}.nii.gz", f"data/k{i}{_separator}{_word}.nii.gz") for i in (1, 2)
        ]
for _images in ("image", "Img", "imgs", "imagesTr", "scans", "CT", "mr", "volumes", "train_images"):
    for _labels in ("label", "Masks", "seg", "segs", "Segmentations", "annotations", "gt"):
        SINGLE[f"{_images} {_labels}"] = [
            (f"k{i}", f"{_images}/k{i}.mha", f"{_labels}/k{i}.mha") for i in (1, 2, 3)
        ]


@pytest.mark.parametrize("rows", SINGLE.values(), ids=SINGLE)
def test_images_find_their_label_maps(rows):
    found = guess(*(path for row in rows for path in row[1:]))

    assert table(found) == without_slashes(rows)
    assert left(found) == {}


@pytest.mark.parametrize("rows", SINGLE.values(), ids=SINGLE)
def test_the_order_of_the_files_does_not_matter(rows):
    paths = [path for row in rows for path in row[1:]]

    assert guess(*reversed(paths)) == guess(*paths)


BRATS = ("t1", "t1ce", "t2", "flair", "seg")
CHANNELS = {
    "numbers": (
        [
            (f"c_{i}", *(f"im/c_{i}_000{c}.nii.gz" for c in (0, 1)), f"seg/c_{i}.nii.gz")
            for i in (1, 2)
        ],
        ("channel_0", "channel_1"),
    ),
    "suffixes in the usual order": (
        [(f"p{i}", *(f"p{i}_{c}.nii.gz" for c in BRATS)) for i in (1, 2)],
        ("T1", "T1ce", "T2", "FLAIR"),
    ),
    "a folder per channel": (
        [(f"p{i}", *(f"{c}/p{i}.nii.gz" for c in ("T1w", "t2", "Flair", "seg"))) for i in (1, 2)],
        ("T1", "T2", "FLAIR"),
    ),
    "a folder per case": (
        [(f"p{i}", *(f"p{i}/{c}.nii.gz" for c in ("adc", "dwi", "mask"))) for i in (1, 2)],
        ("ADC", "DWI"),
    ),
    "words nobody knows": (
        [(f"p{i}", *(f"p{i}/{c}.nii.gz" for c in ("early", "late", "mask"))) for i in (1, 2, 3)],
        ("early", "late"),
    ),
    "b values": (
        [(f"p{i}", *(f"p{i}_{c}.nii.gz" for c in ("b50", "b800", "gt"))) for i in (1, 2, 3)],
        ("b50", "b800"),
    ),
    "prefixes": (
        [
            (f"p{i}", *(f"x/{c}_p{i}.nii.gz" for c in ("T1", "T2")), f"gt/p{i}.nii.gz")
            for i in (1, 2)
        ],
        ("T1", "T2"),
    ),
    "petct": (
        [
            (f"C-{i}", *(f"imgs/C-{i}__{c}.nii.gz" for c in ("CT", "PT")), f"labels/C-{i}.nii.gz")
            for i in (1, 2)
        ],
        ("CT", "PET"),
    ),
    "bids": (
        [
            (
                f"sub-0{i}",
                f"sub-0{i}/anat/sub-0{i}_T1w.nii.gz",
                f"sub-0{i}/anat/sub-0{i}_FLAIR.nii.gz",
                f"derivatives/labels/sub-0{i}/anat/sub-0{i}_dseg.nii.gz",
            )
            for i in (1, 2)
        ],
        ("T1", "FLAIR"),
    ),
    "series": (
        [(f"p{i}", f"p{i}/CT/", f"p{i}/PET/", f"p{i}/label.nrrd") for i in (1, 2)],
        ("CT", "PET"),
    ),
}


@pytest.mark.parametrize(("rows", "channels"), CHANNELS.values(), ids=CHANNELS)
def test_several_images_of_a_case_are_its_channels(rows, channels):
    found = guess(*(path for row in rows for path in row[1:]))

    assert table(found) == without_slashes(rows)
    assert found.channels == channels
    assert left(found) == {}


@pytest.mark.parametrize(
    ("pattern", "channel"),
    [
        ("images/k{}_ct.nii.gz", "CT"),
        ("CT/k{}.nii.gz", "CT"),
        ("k{}/ct/", "CT"),
        ("images/k{}_HU.nii.gz", "CT"),
        ("images/CT_k{}.nii.gz", "CT"),
        ("images/k{}_T1w.nii.gz", "T1"),
        ("mri/k{}.nii.gz", "MR"),
        ("images/k{}.nii.gz", "image"),
        ("images/k{}_0000.nii.gz", "image"),
    ],
)
def test_a_single_channel_is_named_by_what_the_names_say(pattern, channel):
    paths = [pattern.format(i) for i in (1, 2, 3)]

    found = guess(*paths, *(f"labels/k{i}.nii.gz" for i in (1, 2, 3)))

    assert found.channels == (channel,)
    assert [case.name for case in found.cases] == ["k1", "k2", "k3"]


def test_images_of_several_kinds_one_per_case_have_no_name():
    found = guess("a/ct.mha", "a/seg.mha", "b/mr.mha", "b/seg.mha")

    assert (found.channels, [case.name for case in found.cases]) == (("image",), ["a", "b"])


def test_unpaired_files_are_told():
    found = guess(
        *(f"images/{name}.png" for name in "abc"), *(f"labels/{name}.png" for name in "bcd")
    )

    assert [case.name for case in found.cases] == ["b", "c"]
    assert left(found) == {
        "images without a label map": ["images/a.png"],
        "label maps without an image": ["labels/d.png"],
    }


def test_a_near_name_is_no_pair():
    found = guess(
        *("images/a_1.png", "images/a_2.png", "images/a_3_2.png"),
        *("labels/a_1.png", "labels/a_2.png", "labels/a_3.png"),
    )

    assert [case.name for case in found.cases] == ["a_1", "a_2"]
    assert left(found) == {
        "images without a label map": ["images/a_3_2.png"],
        "label maps without an image": ["labels/a_3.png"],
    }


def test_cases_that_lack_a_channel_are_told():
    paths = [f"p{i}/{c}.nii.gz" for i in (1, 2, 3) for c in ("t1", "t2", "seg")]

    found = guess(*(path for path in paths if path != "p2/t2.nii.gz"))

    assert [case.name for case in found.cases] == ["p1", "p3"]
    assert left(found) == {"files of cases that lack a channel": ["p2/seg.nii.gz", "p2/t1.nii.gz"]}


def test_a_channel_of_few_cases_is_left_out():
    paths = [f"p{i}/{c}.nii.gz" for i in (1, 2, 3) for c in ("t1", "t2", "seg")]

    found = guess(*paths, "p2/flair.nii.gz")

    assert found.channels == ("T1", "T2")
    assert len(found.cases) == 3
    assert left(found) == {"images of a channel that most cases lack": ["p2/flair.nii.gz"]}


def test_one_image_in_two_formats_is_told():
    found = guess("a.nrrd", "a.mha", "a_seg.nrrd", "b.nrrd", "b_seg.nrrd", "c.mha", "c_seg.mha")

    assert [case.name for case in found.cases] == ["b", "c"]
    assert left(found) == {
        "files of cases with two images of one channel": ["a.mha", "a.nrrd", "a_seg.nrrd"]
    }


def test_images_of_a_test_folder_have_no_label_maps():
    found = guess("imagesTr/a.mha", "imagesTr/b.mha", "labelsTr/a.mha", "labelsTr/b.mha",
                  "imagesTs/c.mha", "imagesTs/d.mha")  # fmt: skip

    assert [case.name for case in found.cases] == ["a", "b"]
    assert left(found) == {"images without a label map": ["imagesTs/c.mha", "imagesTs/d.mha"]}


def test_equal_names_in_train_and_test_are_not_two_channels():
    images = [f"{split}/{i}.png" for split in ("train", "test") for i in (1, 2, 3)]

    found = guess(*images, *(f"labels/{i}.png" for i in (1, 2, 3)))

    assert [case.images[0].as_posix() for case in found.cases] == images[:3]
    assert left(found) == {"images without a label map": images[3:]}


def test_annotated_cases_of_a_test_folder_are_not_for_training():
    found = guess(
        *(f"{s}/{kind}/{s}1.png" for s in ("train", "val", "test") for kind in ("img", "gt"))
    )

    assert [case.name for case in found.cases] == ["train1", "val1"]
    assert left(found) == {
        "images of annotated test cases, kept for evaluation": ["test/img/test1.png"],
        "label maps of annotated test cases": ["test/gt/test1.png"],
    }


def test_a_folder_of_test_cases_only_is_taken():
    found = guess("test/img/1.png", "test/img/2.png", "test/gt/1.png", "test/gt/2.png")

    assert len(found.cases) == 2


@pytest.mark.parametrize(
    "labels",
    [
        ("segmentations/liver", "segmentations/kidney"),
        ("seg1", "seg2"),
        ("seg", "mask"),
    ],
)
def test_several_label_maps_of_a_case_are_told(labels):
    found = guess(*(f"s{i}/{name}.nii.gz" for i in (1, 2) for name in ("ct", *labels)))

    assert found.cases == ()
    assert [list(map(Path.as_posix, rivals)) for rivals in found.rivals] == [
        sorted(f"s{i}/{label}.nii.gz" for label in labels) for i in (1, 2)
    ]


def test_time_points_that_look_like_channels_are_cases_if_each_has_a_label_map():
    found = guess(*(f"{p}_{t}{end}.mha" for p in ("p1", "p2") for t in ("t1", "t2")
                    for end in ("", "_seg")))  # fmt: skip

    assert [(case.name, case.group) for case in found.cases] == [
        *(("p1_t1", "p1"), ("p1_t2", "p1"), ("p2_t1", "p2"), ("p2_t2", "p2"))
    ]


@pytest.mark.parametrize(
    ("pattern", "group"),
    [
        ("{}/patient0{}_scan{}.mha", "patient0{}"),
        ("{}/sub-0{}_ses-0{}.mha", "sub-0{}"),
        ("{}/BraTS-GLI-0000{}-00{}.mha", "BraTS-GLI-0000{}"),
    ],
)
def test_scans_of_a_patient_are_a_group(pattern, group):
    numbers = [(1, 1), (1, 2), (2, 1), (2, 2)]

    found = guess(*(pattern.format(kind, *n) for kind in ("images", "labels") for n in numbers))

    assert [case.group for case in found.cases] == [group.format(n) for n, _ in numbers]


def test_the_patient_may_be_in_the_folders():
    found = guess(
        *(
            f"patient{p}/visit{v}/{file}.mha"
            for p in (1, 2)
            for v in (1, 2)
            for file in ("t2", "gt")
        )
    )

    assert [(case.name, case.group) for case in found.cases] == [
        *(("patient1_visit1", "patient1"), ("patient1_visit2", "patient1")),
        *(("patient2_visit1", "patient2"), ("patient2_visit2", "patient2")),
    ]


def test_cases_of_one_scan_each_have_no_group():
    found = guess("images/liver_1.mha", "images/liver_2.mha", "gt/liver_1.mha", "gt/liver_2.mha")

    assert {case.group for case in found.cases} == {None}


def test_a_word_found_by_looking_marks_label_maps():
    paths = [f"s{i}/{name}.nii.gz" for i in (1, 2) for name in ("ct", "organs")]

    assert guess(*paths).cases == ()
    assert "organs" in words_to_try([image_file(path) for path in paths])
    assert table(guess(*paths, label_words=("organs",))) == [
        ("s1", "s1/ct.nii.gz", "s1/organs.nii.gz"),
        ("s2", "s2/ct.nii.gz", "s2/organs.nii.gz"),
    ]


def test_words_of_most_files_are_tried_first_and_those_of_all_not_at_all():
    files = [image_file(f"set/{kind}/{i}.png") for kind in ("in", "out") for i in (1, 2, 3)]

    words = words_to_try(files)

    assert list(words) == ["in", "out", "1", "2", "3"]
    assert words["out"] == Path("set/out/1.png")


def test_a_single_case_is_one():
    found = guess("chest/ct.nii.gz", "chest/organs_seg.nii.gz")

    assert table(found) == [("chest", "chest/ct.nii.gz", "chest/organs_seg.nii.gz")]
    assert found.channels == ("CT",)


def test_nothing_is_nothing():
    assert guess() == Guess(cases=(), channels=("image",), marks=("",), left_out=(), rivals=())


def test_many_files_are_grouped_without_comparing_all_with_all():
    numbers = range(4000)

    found = guess(*(f"a/{n}/x{n}.png" for n in numbers), *(f"seg/y{n}_{n}.png" for n in numbers))

    assert len(found.left_out) == 2
