import zipfile

import numpy as np
import pytest

from autoseg.errors import AutosegError
from autoseg.io.probability_file import writing_probabilities


def probabilities(outputs=3, shape=(7, 9, 5)) -> np.ndarray:
    values = np.random.default_rng(0).random((outputs, *shape)).astype(np.float32)
    return values / values.sum(axis=0)


def write(path, values, names, rows=3, axis=0):
    along = np.moveaxis(values, axis + 1, 1)
    with writing_probabilities(path, names, values.shape[1:], axis) as sink:
        for start in range(0, along.shape[1], rows):
            sink.add(along[:, start : start + rows])


def test_one_line_of_numpy_reads_them(tmp_path):
    values = probabilities()
    names = ["background", "liver", "Gefäß / links"]
    write(tmp_path / "a.npz", values, names)

    liver = np.load(tmp_path / "a.npz")["liver"] / 255

    assert liver.shape == values.shape[1:]
    np.testing.assert_allclose(liver, values[1], atol=0.5 / 255 + 1e-6)
    everything = np.stack([*np.load(tmp_path / "a.npz").values()]) / 255
    np.testing.assert_allclose(everything, values, atol=0.5 / 255 + 1e-6)
    assert np.load(tmp_path / "a.npz").files == names


@pytest.mark.parametrize("most", [1, 300, 1 << 25])
@pytest.mark.parametrize("axis", [1, 2])
def test_slabs_along_any_axis_make_the_same_file(tmp_path, monkeypatch, axis, most):
    monkeypatch.setattr("autoseg.io.probability_file._MOST_VALUES", most)
    values = probabilities()
    write(tmp_path / "first.npz", values, ["a", "b", "c"])
    write(tmp_path / "other.npz", values, ["a", "b", "c"], axis=axis)
    assert (tmp_path / "other.npz").read_bytes() == (tmp_path / "first.npz").read_bytes()


@pytest.mark.parametrize("axis", [1, 2])
def test_a_picture_may_be_cut_along_any_axis(tmp_path, axis):
    values = probabilities(shape=(1, 9, 5))
    along = np.moveaxis(values, axis + 1, 1)
    with writing_probabilities(tmp_path / "a.npz", ["a", "b", "c"], (9, 5), axis) as sink:
        sink.add(along[:, :2])
        sink.add(along[:, 2:])
    stored = np.stack([*np.load(tmp_path / "a.npz").values()])
    np.testing.assert_array_equal(stored, np.rint(values[:, 0] * 255))


@pytest.mark.parametrize("stop", [0, 4])
def test_slabs_that_are_missing_along_another_axis_leave_no_file(tmp_path, stop):
    with (
        pytest.raises(ValueError, match="bytes of an array of 443"),
        writing_probabilities(tmp_path / "a.npz", ["a", "b", "c"], (7, 9, 5), 1) as sink,
    ):
        sink.add(probabilities().swapaxes(1, 2)[:, :stop])
    assert list(tmp_path.iterdir()) == []


def test_it_is_a_sound_zip(tmp_path):
    write(tmp_path / "a.npz", probabilities(), ["a", "b", "c"])
    with zipfile.ZipFile(tmp_path / "a.npz") as file:
        assert file.testzip() is None
        assert [one.filename for one in file.infolist()] == ["a.npy", "b.npy", "c.npy"]
        assert {one.compress_type for one in file.infolist()} == {zipfile.ZIP_DEFLATED}


def test_it_appears_whole_or_not_at_all(tmp_path):
    values = probabilities()
    write(tmp_path / "a.npz", values, ["a", "b", "c"])
    before = (tmp_path / "a.npz").read_bytes()

    def stop_halfway() -> None:
        with writing_probabilities(tmp_path / "a.npz", ["a", "b", "c"], (7, 9, 5)) as sink:
            sink.add(values[:, :3])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_halfway()
    assert (tmp_path / "a.npz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_slabs_that_are_missing_leave_no_file(tmp_path):
    values = probabilities()
    with (
        pytest.raises(ValueError, match="a: 263 bytes of an array of 443"),
        writing_probabilities(tmp_path / "a.npz", ["a", "b", "c"], (7, 9, 5)) as sink,
    ):
        sink.add(values[:, :3])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_told(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(AutosegError, match="is a file"):
        write(tmp_path / "out" / "a.npz", probabilities(), ["a", "b", "c"])
