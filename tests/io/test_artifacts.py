import json
from pathlib import Path
from typing import Any, ClassVar

import pytest

from autoseg.core.artifact import Artifact, Frozen
from autoseg.core.dataset import Split, Splits
from autoseg.errors import ArtifactError, OutdatedError, WorkspaceError
from autoseg.io import artifacts


class Part(Frozen):
    batch_size: int
    spacing: tuple[float, ...]


class Whole(Artifact):
    FORMAT: ClassVar[int] = 2
    format: int = 2
    name: str
    parts: dict[str, Part]
    rows: tuple[Part | None, ...] = ()
    extra: Part | None = None

    @classmethod
    def migrate(cls, data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "format": 2, "name": data["name"].upper()}


GOOD = {
    "format": 2,
    "name": "x",
    "parts": {"3d_fullres": {"batch_size": 2, "spacing": [3.0, 0.8, 0.8]}},
    "rows": [{"batch_size": 1, "spacing": []}],
    "extra": {"batch_size": 1, "spacing": []},
}


def _message(tmp_path: Path, content: object) -> str:
    path = tmp_path / "plans" / "default.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ArtifactError) as caught:
        artifacts.load(path, Whole)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_what_is_no_text_is_told_in_words(tmp_path: Path):
    (tmp_path / "a.json").write_bytes(b"\x1f\x8b\x08")
    with pytest.raises(ArtifactError) as caught:
        artifacts.load(tmp_path / "a.json", Splits)
    assert str(caught.value) == f"{tmp_path / 'a.json'}: not valid JSON: it is no text"


def test_what_was_saved_is_loaded(tmp_path: Path):
    splits = Splits(folds=(Split(train=("a", "b"), validation=("c",)),), reason="five folds")

    artifacts.save(tmp_path / "splits.json", splits)

    assert artifacts.load(tmp_path / "splits.json", Splits) == splits


def test_short_lists_stay_on_one_line(tmp_path: Path):
    whole = Whole.model_validate(GOOD | {"name": "lists [\n 1,\n 2\n] in text stay"})

    artifacts.save(tmp_path / "a.json", whole)

    text = (tmp_path / "a.json").read_text()
    assert '      "spacing": [3.0, 0.8, 0.8]\n' in text
    assert artifacts.load(tmp_path / "a.json", Whole) == whole


def test_long_lists_have_a_line_per_entry(tmp_path: Path):
    names = tuple(f"case_{i:05d}" for i in range(50))

    artifacts.save(
        tmp_path / "a.json",
        Splits(folds=(Split(train=names[1:], validation=names[:1]),), reason=""),
    )

    assert max(map(len, (tmp_path / "a.json").read_text().splitlines())) < 100


@pytest.mark.parametrize("place", ["parts.3d_fullres", "rows.0", "extra"])
def test_a_misspelt_key_is_named_with_its_place_and_the_right_spelling(tmp_path: Path, place: str):
    data = json.loads(json.dumps(GOOD))
    part = data
    for step in place.split("."):
        part = part[int(step)] if isinstance(part, list) else part[step]
    part["batch_sise"] = part.pop("batch_size")

    message = _message(tmp_path, data)

    assert message == (
        f"{place}: unknown key 'batch_sise' (did you mean 'batch_size'?) (and 1 more)"
    )


def test_a_missing_key_is_named(tmp_path: Path):
    message = _message(tmp_path, GOOD | {"parts": {"2d": {"batch_size": 1}}})

    assert message == "parts.2d: missing key 'spacing'"


def test_a_value_of_the_wrong_type_is_shown(tmp_path: Path):
    message = _message(tmp_path, GOOD | {"extra": {"batch_size": "two", "spacing": []}})

    assert message.startswith("extra.batch_size: should be a valid integer")
    assert message.endswith('got "two"')


def test_broken_json_is_one_line_with_line_and_column(tmp_path: Path):
    message = _message(tmp_path, '{"format": 2,\n "name": }')

    assert message.startswith("not valid JSON: line 2, column 10")


def test_json_that_is_no_object_is_refused(tmp_path: Path):
    assert _message(tmp_path, "[1]") == "must be a JSON object: {...}"


def test_a_newer_format_is_refused_with_a_remedy(tmp_path: Path):
    message = _message(tmp_path, GOOD | {"format": 3})

    assert message == (
        "written by a newer autoseg (format 3; this version reads up to 2); update autoseg"
    )


class Measured(Artifact):
    FORMAT: ClassVar[int] = 2
    format: int = 2

    @classmethod
    def migrate(cls, data: dict[str, Any]) -> None:
        return None


def test_an_older_file_that_holds_too_little_is_to_be_made_anew(tmp_path: Path):
    (tmp_path / "a.json").write_text('{"format": 1}')

    with pytest.raises(OutdatedError, match=r"an earlier autoseg \(format 1\).*; run: it again"):
        artifacts.load(tmp_path / "a.json", Measured, remedy="run: it again")


def test_an_older_format_is_migrated(tmp_path: Path):
    (tmp_path / "a.json").write_text(json.dumps(GOOD | {"format": 1}))

    assert artifacts.load(tmp_path / "a.json", Whole).name == "X"


def test_a_missing_file_is_told_with_the_remedy_that_is_given(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        artifacts.load(tmp_path / "a.json", Whole)

    with pytest.raises(WorkspaceError, match=r"a\.json: does not exist; run: autoseg plan TASK"):
        artifacts.load(tmp_path / "a.json", Whole, remedy="run: autoseg plan TASK")


def test_places_below_the_current_directory_are_shown_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)

    assert artifacts.shown(tmp_path / "plans" / "a.json") == Path("plans/a.json")
    assert artifacts.shown(tmp_path.parent / "a.json") == tmp_path.parent / "a.json"
