from autoseg.cli.hints import print_hints
from autoseg.predict.record import CaseHints, StructureHints


def structure(voxels=1000, **changes):
    usual = {"num_voxels": voxels, "volume_ml": voxels / 1000, "num_components": min(voxels, 1)}
    return StructureHints(**(usual | changes))


def case(dice=None, warnings=(), **structures):
    return CaseHints(predicted_dice=dice, warnings=warnings, structures=structures)


def printed(capsys, *cases):
    print_hints(cases)
    return capsys.readouterr().out.splitlines()


def test_few_cases_are_listed_with_what_is_worth_a_line(capsys):
    lines = printed(
        capsys,
        ("a", case(0.8769, liver=structure(1234567), tumour=structure(0))),
        (
            "b",
            case(
                None,
                ("spacing is unlike the training data",),
                liver=structure(touches=("superior", "left"), num_components=3),
                tumour=structure(),
            ),
        ),
    )
    assert lines == [
        "case  liver ml  tumour ml  predicted Dice",
        "a         1235          0           0.877",
        "b        1 (3)          1               -",
        "(in brackets: connected parts, where there are several)",
        "a: not found: tumour",
        "b: spacing is unlike the training data",
        "b: at the image's border, perhaps cut off: liver (superior, left)",
        "(predicted Dice: a guess without a reference; see predictions.json)",
    ]


def test_many_structures_are_counted(capsys):
    some = {f"organ{n}": structure(0 if n == 3 else 500) for n in range(7)}
    some["organ5"] = structure(num_components=2)
    lines = printed(capsys, ("a", case(**some)))
    assert [line.split() for line in lines] == [
        ["case", "structures", "predicted", "Dice"],
        ["a", "6", "of", "7", "-"],
        ["a:", "in", "several", "parts:", "organ5", "(2)"],
    ]


def test_pictures_are_measured_in_pixels_or_mm2(capsys):
    plain = structure(30, volume_ml=None)
    sized = structure(30, volume_ml=None, area_mm2=7.5)
    assert printed(capsys, ("a", case(cell=plain)))[0].split()[:3] == ["case", "cell", "pixels"]
    assert printed(capsys, ("a", case(cell=sized)))[1].split()[:2] == ["a", "7.5"]
    both = printed(capsys, ("a", case(cell=plain)), ("b", case(cell=sized)))
    assert [line.split()[:3] for line in both[1:]] == [["a", "30", "pixels"], ["b", "7.5", "mm2"]]


def test_of_many_cases_only_those_worth_a_look_are_named(capsys):
    cases = [(f"c{n:02d}", case(0.5 + n / 100, liver=structure())) for n in range(20)]
    cases[7] = ("c07", case(0.1, ("odd",), liver=structure(0)))
    cases[9] = ("c09", case(None, liver=structure(touches=("left",))))
    assert printed(capsys, *cases) == [
        "predicted Dice: median 0.600, lowest c07 0.100, c00 0.500, c01 0.510, c02 0.520",
        "1 case with warnings: c07",
        "1 case with a structure at the image's border: c09",
        "1 case without one of the structures: c07",
        "(volumes, components and borders of every case: predictions.json)",
        "(predicted Dice: a guess without a reference; see predictions.json)",
    ]


def test_long_lists_are_cut_short(capsys):
    cases = [(f"c{n:02d}", case(liver=structure(0))) for n in range(20)]
    assert "20 cases without one of the structures: c00, c01, c02, c03 and 16 more" in printed(
        capsys, *cases
    )


def test_without_cases_nothing_is_said(capsys):
    assert printed(capsys) == []
