import shutil
import stat
import zipfile
from functools import partial

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
    assert list(scratch.iterdir()) == []


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


def test_a_zip_larger_than_the_disk_is_refused(workspace, write, results, tmp_path, monkeypatch):
    write()
    file = zipped(results, tmp_path / "model.zip")
    full = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr("autoseg.io.nnunet_zip.shutil.disk_usage", lambda path: full)

    error = refusal(workspace, file)

    assert error.finding.endswith("bytes, where 10 are free")
    assert error.remedy == "make room, or name another folder with TMPDIR"
