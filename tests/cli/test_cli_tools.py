import pytest
from commands import assert_done, call

from autoseg import doctor


def test_doctor_counts_what_stands_in_the_way():
    called = call("doctor")
    assert_done(called)
    *lines, verdict = called.out.splitlines()
    problems = sum(line.startswith("! ") for line in lines)
    expected = {0: "nothing stands in the way", 1: "1 thing to look at"}
    assert verdict == expected.get(problems, f"{problems} things to look at")
    assert any(line.split()[0] == "torch" for line in lines)


@pytest.mark.parametrize(
    ("problems", "verdict"),
    [
        ([None, None], "nothing stands in the way"),
        ([None, "remedy"], "1 thing to look at"),
        (["remedy", "remedy"], "2 things to look at"),
    ],
)
def test_the_verdict_is_the_number_of_problems(problems, verdict, monkeypatch):
    findings = [doctor.Finding(what="disk", value="full", problem=problem) for problem in problems]
    monkeypatch.setattr(doctor, "examine_machine", lambda: findings)
    assert call("doctor").out.splitlines()[-1] == verdict


def test_an_overlay_is_a_picture_and_says_where(toy, tmp_path):
    file, picture = "ball_00.nii.gz", tmp_path / "deep" / "picture.png"
    called = call(
        "overlay", toy.raw / "imagesTr" / file, toy.raw / "labelsTr" / file, "-o", picture
    )
    assert_done(called)
    assert called.out == f"picture: {picture}\n"
    assert picture.read_bytes().startswith(b"\x89PNG")
