from autoseg.predict.record import file_hash


def test_a_folder_that_is_an_image_is_hashed_with_all_its_files(tmp_path):
    series = tmp_path / "series"
    series.mkdir()
    for number in range(3):
        (series / f"{number}.dcm").write_bytes(bytes([number]))
    before = file_hash([series])
    assert file_hash([series]) == before
    (series / "2.dcm").write_bytes(b"other")
    assert file_hash([series]) != before
