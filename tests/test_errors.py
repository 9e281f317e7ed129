import pickle

import pytest

from autoseg.errors import AutosegError, DataError, UnknownNameError, unknown_name


def test_a_message_is_place_finding_and_remedy_on_one_line():
    error = DataError("is\nbroken", place="case_1.nii.gz", remedy="export it again")
    assert str(error) == "case_1.nii.gz: is broken; export it again"


def test_place_and_remedy_are_optional():
    assert str(AutosegError("no disk")) == "no disk"


def test_an_unknown_name_suggests_the_nearest_and_lists_all():
    error = unknown_name("network", "unett", ["unet", "residual_unet"])
    assert isinstance(error, UnknownNameError)
    assert str(error) == (
        "no network named 'unett'; did you mean 'unet'? (available: residual_unet, unet)"
    )


def test_a_name_like_no_other_gets_no_suggestion():
    assert "did you mean" not in str(unknown_name("loss", "zzz", ["dice"]))


@pytest.mark.parametrize("kind", [AutosegError, DataError])
def test_errors_cross_process_borders_whole(kind):
    error = pickle.loads(pickle.dumps(kind("finding", place="place", remedy="remedy")))
    assert type(error) is kind
    assert str(error) == "place: finding; remedy"
