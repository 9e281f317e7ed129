import os

from autoseg.core.fingerprint import FileStamp
from autoseg.io import atomic
from autoseg.io.stamps import are_unchanged, is_unchanged, size_bytes, stamp


def series(folder):
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.dcm").write_bytes(bytes([number]) * (number + 1))
        os.utime(folder / f"{number}.dcm", ns=(5, 100 - number))
    return folder


def test_a_file_is_known_by_size_time_and_content(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    os.utime(file, ns=(7, 7))
    assert stamp(file) == FileStamp(size_bytes=3, mtime_ns=7, digest=atomic.digest(file))


def test_a_folder_counts_as_all_its_files(tmp_path):
    folder = series(tmp_path / "s")
    found = stamp(folder)
    assert (found.size_bytes, found.mtime_ns) == (6, 100)
    assert found.digest == atomic.digest(folder)
    assert size_bytes(folder) == 6


def test_a_folder_changes_with_content_and_name_of_any_file(tmp_path):
    folder = series(tmp_path / "s")
    digests = {atomic.digest(folder)}
    (folder / "1.dcm").write_bytes(b"zz")
    digests.add(atomic.digest(folder))
    (folder / "1.dcm").rename(folder / "9.dcm")
    digests.add(atomic.digest(folder))
    (folder / "0.dcm").unlink()
    digests.add(atomic.digest(folder))
    assert len(digests) == 4


def test_hidden_files_and_the_place_of_a_folder_do_not_count(tmp_path):
    first, second = series(tmp_path / "s"), series(tmp_path / "t")
    (second / ".DS_Store").write_bytes(b"finder")
    assert stamp(first) == stamp(second)


def test_a_new_time_alone_is_no_change_but_new_content_is(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    seen = stamp(file)
    os.utime(file, ns=(1, 1))
    assert is_unchanged(file, seen)
    file.write_bytes(b"abd")
    os.utime(file, ns=(1, 1))
    assert not is_unchanged(file, seen)
    file.write_bytes(b"abcd")
    assert not is_unchanged(file, seen)


def test_a_file_that_is_gone_has_changed(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    seen = stamp(file)
    file.unlink()
    assert not is_unchanged(file, seen)
    assert not are_unchanged([file], [])
