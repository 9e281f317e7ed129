import errno
import hashlib
import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest

from autoseg.errors import AutosegError
from autoseg.io import atomic


def test_a_written_file_has_its_content_and_leaves_nothing_beside_it(tmp_path: Path):
    atomic.write_text(tmp_path / "new" / "a.txt", "größe")

    assert (tmp_path / "new" / "a.txt").read_text(encoding="utf-8") == "größe"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.txt"]


class _FailedError(Exception):
    pass


def _write_half(path: Path, leaving: str = "") -> None:
    with atomic.atomic_path(path) as partial:
        partial.write_text("half")
        if leaving:
            partial.with_name(partial.name + leaving).touch()
        raise _FailedError


def _fill_half(path: Path) -> None:
    with atomic.atomic_folder(path) as partial:
        (partial / "a").write_text("1")
        raise _FailedError


def test_a_failed_write_keeps_the_old_file(tmp_path: Path):
    path = tmp_path / "a.nii.gz"
    path.write_text("old")

    with pytest.raises(_FailedError):
        _write_half(path)

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_partial_file_keeps_the_ending_of_its_target(tmp_path: Path):
    with atomic.atomic_path(tmp_path / "a.nii.gz") as partial:
        assert partial.parent == tmp_path
        assert partial.name.endswith("a.nii.gz")
        partial.touch()


@pytest.mark.parametrize("inside", ["", "/entry.json"])
def test_an_error_of_a_block_names_the_file_that_was_to_appear(tmp_path: Path, inside: str):
    with (
        pytest.raises(AutosegError, match="not good enough") as caught,
        atomic.atomic_path(tmp_path / "a.png") as partial,
    ):
        raise AutosegError("not good enough", place=f"{partial}{inside}")

    assert caught.value.place == f"{tmp_path / 'a.png'}{inside}"


def test_a_folder_appears_only_when_its_block_ends(tmp_path: Path):
    target = tmp_path / "store" / "case"
    with atomic.atomic_folder(target) as partial:
        (partial / "a").write_text("1")
        assert not target.exists()

    assert [p.name for p in target.iterdir()] == ["a"]
    assert list(target.parent.iterdir()) == [target]


def test_a_failed_folder_leaves_nothing(tmp_path: Path):
    with pytest.raises(_FailedError):
        _fill_half(tmp_path / "case")

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_not_replaced(tmp_path: Path):
    (tmp_path / "case").mkdir()

    with (
        pytest.raises(AutosegError, match="case: exists already"),
        atomic.atomic_folder(tmp_path / "case"),
    ):
        pass


def test_removing_a_folder_that_does_not_exist_is_fine(tmp_path: Path):
    (tmp_path / "case" / "deep").mkdir(parents=True)

    atomic.remove_folder(tmp_path / "case")
    atomic.remove_folder(tmp_path / "case")

    assert list(tmp_path.iterdir()) == []


def test_only_partial_files_and_folders_are_removed(tmp_path: Path):
    with pytest.raises(_FailedError):
        _write_half(tmp_path / "a", leaving="x")
    with atomic.atomic_folder(tmp_path / "case") as partial:
        (partial.parent / f"{partial.name}x").mkdir()
    assert len(list(tmp_path.iterdir())) == 3

    atomic.remove_partial(tmp_path)

    assert [p.name for p in tmp_path.iterdir()] == ["case"]


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path):
    (tmp_path / "out").touch()

    with pytest.raises(AutosegError) as caught:
        atomic.write_text(tmp_path / "out" / "deep" / "a.txt", "1")

    assert f"{tmp_path / 'out'} is a file" in str(caught.value)
    assert "choose another folder" in str(caught.value)


@pytest.mark.parametrize(
    ("code", "words"), [(errno.ENOSPC, "no space left"), (errno.EROFS, "read-only file system")]
)
def test_a_disk_that_refuses_is_an_error_with_a_remedy(tmp_path: Path, code: int, words: str):
    with pytest.raises(AutosegError, match=words) as caught, atomic.atomic_path(tmp_path / "a"):
        raise OSError(code, "Read-only file system")

    assert caught.value.place == str(tmp_path / "a")
    assert caught.value.remedy is not None


def test_the_digest_is_of_the_content_alone(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"voxels")
    (tmp_path / "b").write_bytes(b"voxels")

    expected = hashlib.blake2b(b"voxels", digest_size=8).hexdigest()
    assert atomic.digest(tmp_path / "a") == atomic.digest(tmp_path / "b") == expected
    assert len(expected) == 16


def test_a_lock_keeps_others_out_and_names_its_holder(tmp_path: Path):
    path = tmp_path / "fold0" / ".lock"
    with (
        atomic.lock(path),
        pytest.raises(AutosegError, match=r"fold0: in use by process \d+ on"),
        atomic.lock(path),
    ):
        pass

    with atomic.lock(path):
        pass


def _hold(path: Path, held, release) -> None:
    with atomic.lock(path):
        held.set()
        release.wait(300)


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path / ".lock", held, release))
    process.start()
    assert held.wait(300)
    with pytest.raises(AutosegError, match=str(process.pid)), atomic.lock(tmp_path / ".lock"):
        pass

    process.kill()
    process.join()

    with atomic.lock(tmp_path / ".lock"):
        pass


_LOCK_ON_A_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from autoseg.errors import AutosegError
from autoseg.io import atomic

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
try:
    with atomic.lock(Path(sys.argv[1])):
        pass
except AutosegError as error:
    print(error)
"""


def test_a_lock_on_a_full_disk_is_an_error_that_names_it(tmp_path: Path):
    pytest.importorskip("resource", reason="limits of files are not known here")
    words = [sys.executable, "-c", _LOCK_ON_A_FULL_DISK, str(tmp_path / ".lock")]

    run = subprocess.run(words, capture_output=True, text=True, check=False)

    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith(f"{tmp_path / '.lock'}: no space left to write")
