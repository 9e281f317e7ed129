import errno
import shutil
import stat
import zipfile
from functools import partial
from pathlib import Path

import pytest
from peer_models import NAME, configuration, plans, write_trained

from autoseg.errors import AutosegError
from autoseg.exchange.nnunet_import import import_models
from autoseg.io.workspace import Workspace

CASCADE = {
    "3d_lowres": configuration(3, spacing=[4.0, 2.0, 2.0], next_stage="3d_cascade"),
    "3d_fullres": configuration(3),
    "3d_cascade": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
}


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "autoseg_workspace")


@pytest.fixture
def results(tmp_path):
    return tmp_path / "nnUNet_results"


@pytest.fixture
def write(results, tmp_path):
    """Writes a model folder with some folds."""
    return partial(write_trained, results, tmp_path / "scratch")


def refusal(workspace, source):
    with pytest.raises(AutosegError) as caught:
        import_models(workspace, source)
    assert "\n" not in str(caught.value)
    return caught.value


def zipped(results, file, more=(), **options):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for path in sorted(results.rglob("*")):
            archive.write(path, path.relative_to(results))
        for name, content in more:
            archive.writestr(name, content)
    return file


def test_an_exported_zip_is_imported_and_nothing_is_left_beside(
    workspace, write, results, tmp_path, monkeypatch
):
    write(plans(CASCADE), "3d_lowres")
    write(plans(CASCADE), "3d_cascade", inputs=3)
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    file = zipped(results, tmp_path / "model.zip", [(f"{NAME}/notes.txt", "x")])

    done = import_models(workspace, file)

    assert [fold.folder.configuration for fold in done.folds] == ["3d_lowres", "3d_cascade"]
    assert list(scratch.glob("autoseg*")) == []


def _link():
    info = zipfile.ZipInfo("a/plans.json")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("more", "finding"),
    [
        ([("../plans.json", "{}")], "refused: '../plans.json' leaves its folder"),
        ([("/etc/plans.json", "{}")], "refused: '/etc/plans.json' leaves its folder"),
        ([("a/../../x", "{}")], "refused: 'a/../../x' leaves its folder"),
        ([("C:\\x", "{}")], "refused: 'C:\\x' leaves its folder"),
        ([(_link(), "/etc/passwd")], "refused: 'a/plans.json' is a link"),
        (
            [("b/dataset.json", bytes(65 * 2**20))],
            "refused: 'b/dataset.json' would grow to 68157440",
        ),
        (
            [("b/fold_0/checkpoint_final.pth", bytes(3 * 2**20))],
            "refused: 'b/fold_0/checkpoint_final.pth' would grow to 3145728 bytes",
        ),
    ],
)
def test_a_zip_that_means_harm_is_refused(workspace, write, results, tmp_path, more, finding):
    write()

    error = refusal(workspace, zipped(results, tmp_path / "model.zip", more))

    assert error.finding.startswith(finding)
    assert not workspace.task_names()


def test_two_entries_of_one_name_are_refused(workspace, write, results, tmp_path):
    write()
    with pytest.warns(UserWarning, match="Duplicate name"):
        file = zipped(results, tmp_path / "model.zip", [("a/plans.json", "{}")] * 2)

    assert refusal(workspace, file).finding == "refused: holds two entries of one name"


def test_an_encrypted_entry_is_refused(workspace, write, results, tmp_path):
    write()
    file = zipped(results, tmp_path / "model.zip")
    data = bytearray(file.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    file.write_bytes(data)

    assert refusal(workspace, file).finding.endswith("is encrypted")


def test_a_file_that_is_no_zip_or_damaged_is_refused(workspace, write, results, tmp_path):
    write()
    file = zipped(results, tmp_path / "model.zip")
    data = file.read_bytes()
    file.write_bytes(data[:2000] + bytes(100) + data[2100:])
    assert refusal(workspace, file).finding.startswith("refused: damaged, or no zip")
    file.write_text("no zip")
    assert refusal(workspace, file).finding.startswith("refused: damaged, or no zip")


@pytest.mark.parametrize("method", ["DEFLATED", "BZIP2", "LZMA"])
@pytest.mark.parametrize("entry", ["fold_0/checkpoint_final.pth", "plans.json"])
def test_damaged_content_of_any_compression_is_refused(
    workspace, write, results, tmp_path, method, entry
):
    write()
    file = tmp_path / "model.zip"
    with zipfile.ZipFile(file, "w", getattr(zipfile, f"ZIP_{method}")) as archive:
        for path in sorted(results.rglob("*.*")):
            archive.write(path, path.relative_to(results))
        info = next(info for info in archive.infolist() if info.filename.endswith(entry))
    content = bytearray(file.read_bytes())
    # Where the compressed data begin, and in their middle.
    begin = info.header_offset + 30 + len(info.filename)
    for place in (begin, begin + info.compress_size // 2):
        for byte in range(place, place + 12):
            content[byte] ^= 0xFF
    file.write_bytes(content)

    error = refusal(workspace, file)

    assert error.finding.startswith("refused: damaged, or no zip (")
    assert error.place == str(file)
    assert error.remedy == "export the model again, from a source that you trust"
    assert not workspace.task_names()


def test_content_that_ends_too_early_is_refused(workspace, tmp_path):
    file = tmp_path / "model.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/plans.json", "{}")
        archive.filelist[0].file_size = archive.filelist[0].compress_size = 10**6

    assert refusal(workspace, file).finding == "refused: damaged, or no zip (cut off)"


def test_a_compression_that_python_does_not_know_is_refused(workspace, write, results, tmp_path):
    write()
    file = zipped(results, tmp_path / "model.zip")
    content = bytearray(file.read_bytes())
    for mark, field in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        place = content.index(mark)
        while place >= 0:
            content[place + field : place + field + 2] = (99).to_bytes(2, "little")
            place = content.find(mark, place + 1)
    file.write_bytes(content)

    finding = refusal(workspace, file).finding
    assert finding == "refused: damaged, or no zip (That compression method is not supported)"


@pytest.mark.parametrize(
    ("names", "finding"),
    [
        (
            ["a/plans.json", "a/plans.json/dataset.json"],
            "refused: 'a/plans.json/dataset.json' cannot be unpacked (",
        ),
        (
            ["a/plans.json/dataset.json", "a/plans.json"],
            "refused: 'a/plans.json' cannot be unpacked (",
        ),
        (
            [f"{'x' * 300}/plans.json"],
            f"refused: '{'x' * 57}...' cannot be unpacked (file name too long)",
        ),
        (["x/" * 900 + "plans.json"], f"refused: '{'x/' * 28}x...' lies 900 folders deep"),
        (["a\x1b[2J/../plans.json"], "refused: 'a\\x1b[2J/../plans.json' leaves its folder"),
    ],
)
def test_names_that_no_folder_can_hold_are_the_zips_fault(workspace, tmp_path, names, finding):
    file = tmp_path / "model.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "{}")

    error = refusal(workspace, file)

    assert error.finding.startswith(finding)
    assert error.place == str(file)
    assert "autoseg-import" not in str(error)


def test_a_disk_that_cannot_be_written_is_not_the_zips_fault(
    workspace, write, results, tmp_path, monkeypatch
):
    write()
    file = zipped(results, tmp_path / "model.zip")
    opened = Path.open

    def full(path, mode="r", **options):
        if mode == "xb":
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, mode, **options)

    monkeypatch.setattr(Path, "open", full)
    assert refusal(workspace, file).finding == "no space left to write"


def test_a_disk_that_cannot_be_read_is_not_called_damage(
    workspace, write, results, tmp_path, monkeypatch
):
    write()
    file = zipped(results, tmp_path / "model.zip")

    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(zipfile.ZipExtFile, "read", broken)
    error = refusal(workspace, file)
    assert (error.finding, error.place) == ("cannot be read (input/output error)", str(file))


def test_a_zip_larger_than_the_disk_is_refused(workspace, write, results, tmp_path, monkeypatch):
    write()
    file = zipped(results, tmp_path / "model.zip")
    full = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr("autoseg.io.nnunet_zip.shutil.disk_usage", lambda path: full)

    error = refusal(workspace, file)

    assert error.finding.endswith("bytes, where 10 are free")
    assert error.remedy == "make room, or name another folder with TMPDIR"
