import json

import pytest

from autoseg.predict.record import (
    CaseHints,
    CaseRecord,
    StructureHints,
    file_hash,
    forget_case,
    load_record,
    save_record,
)


def test_a_folder_that_is_an_image_is_hashed_with_all_its_files(tmp_path):
    series = tmp_path / "series"
    series.mkdir()
    for number in range(3):
        (series / f"{number}.dcm").write_bytes(bytes([number]))
    before = file_hash([series])
    assert file_hash([series]) == before
    (series / "2.dcm").write_bytes(b"other")
    assert file_hash([series]) != before


def test_a_record_of_an_earlier_version_keeps_its_hashes(tmp_path):
    (tmp_path / "predictions.json").write_text('{"format": 1, "cases": {"a": "0f"}}')
    assert load_record(tmp_path).cases == {"a": CaseRecord(source="0f")}


def test_a_record_that_cannot_be_read_is_an_empty_one(tmp_path):
    assert load_record(tmp_path).cases == {}
    for text in ("{", '{"format": 1}', '{"format": 99, "cases": {}}'):
        (tmp_path / "predictions.json").write_text(text)
        assert load_record(tmp_path).cases == {}


def test_what_is_undefined_is_null_and_never_nan(tmp_path):
    hints = CaseHints(structures={"liver": StructureHints(num_voxels=0, num_components=0)})
    save_record(tmp_path, {"a": CaseRecord(source="0f", hints=hints)})
    written = json.loads((tmp_path / "predictions.json").read_text())
    assert written["cases"]["a"]["hints"]["structures"]["liver"]["predicted_dice"] is None
    assert load_record(tmp_path).cases["a"].hints == hints
    with pytest.raises(ValueError, match="finite"):
        StructureHints(num_voxels=0, num_components=0, predicted_dice=float("nan"))


def test_a_case_that_is_forgotten_leaves_the_others(tmp_path):
    forget_case(tmp_path, "a")
    save_record(tmp_path, {"a": CaseRecord(source="0a"), "b": CaseRecord(source="0b")})
    for _ in range(2):
        forget_case(tmp_path, "a")
        assert load_record(tmp_path).cases == {"b": CaseRecord(source="0b")}
