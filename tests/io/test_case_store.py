import json
import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from autoseg.core.fingerprint import CaseFingerprint, FileStamp, IntensityStats
from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.plan import Recipe
from autoseg.errors import ArtifactError, AutosegError, DataError, OutdatedError, WorkspaceError
from autoseg.io.case_store import (
    CaseInfo,
    CaseStore,
    Manifest,
    positions_dtype,
    source_of,
    write_case,
)

STATS = IntensityStats(mean=1, median=1, std=1, min=0, max=2, percentile_00_5=0, percentile_99_5=2)
MANIFEST = Manifest(
    configuration="3d_fullres",
    recipe=Recipe(
        transpose=(2, 0, 1),
        spacing=(3.0, 0.8, 0.8),
        channels=("CT",),
        normalization=("ct",),
        use_mask_for_norm=(False,),
        intensities=(STATS,),
        label_values=(0, 1, 2),
    ),
)
SHAPE = (36, 50, 35)


def _arrays(channels: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    image = rng.normal(size=(channels, *SHAPE)).astype(np.float32)
    return image, rng.integers(-1, 3, size=SHAPE).astype(np.int16)


def _info(name: str = "case_a", **changes: object) -> CaseInfo:
    usual = {
        "name": name,
        "source": "abc",
        "shape": SHAPE,
        "trace": {"box": [[0, 1], [2, 3]]},
        "position_counts": (),
        "label_voxels": (5, 6),
    }
    return CaseInfo.model_validate(usual | changes)


def _write(folder: Path, name: str = "case_a", channels: int = 2) -> tuple[np.ndarray, np.ndarray]:
    image, labels = _arrays(channels)
    positions = [np.flatnonzero(labels == index)[:100] for index in (1, 2)]
    info = _info(name, position_counts=(100, 100))
    write_case(folder, name, [image], labels, positions, info, (40, 56, 40))
    return image, labels


def _read_naively(array: np.ndarray, lower: tuple, size: tuple, fill: float) -> np.ndarray:
    out = np.full((*array.shape[:-3], *size), fill, dtype=array.dtype)
    for z, y, x in np.ndindex(*size):
        at = (lower[0] + z, lower[1] + y, lower[2] + x)
        if all(0 <= i < n for i, n in zip(at, array.shape[-3:], strict=True)):
            out[..., z, y, x] = array[(..., *at)]
    return out


@pytest.mark.parametrize(
    ("lower", "size"),
    [
        ((0, 0, 0), SHAPE),
        ((3, 4, 5), (7, 6, 5)),
        ((-2, -3, -4), (40, 56, 43)),
        ((30, -5, 33), (9, 8, 7)),
        ((17, 0, 0), (1, 56, 40)),
        ((36, 0, 0), (4, 4, 4)),
        ((-4, 0, 0), (4, 4, 4)),
        ((0, 200, 0), (2, 3, 4)),
    ],
)
def test_a_box_is_read_and_padded_beyond_the_borders(tmp_path: Path, lower: tuple, size: tuple):
    image, labels = _write(tmp_path)

    patch, labels_patch = CaseStore(tmp_path).read("case_a", lower, size)

    np.testing.assert_array_equal(patch, _read_naively(image, lower, size, 0))
    np.testing.assert_array_equal(labels_patch, _read_naively(labels, lower, size, -1))
    assert patch.dtype == np.float32
    assert labels_patch.dtype == np.int16
    assert patch.flags.writeable
    assert labels_patch.flags.writeable


def test_info_positions_and_manifest_are_read_back(tmp_path: Path):
    store = CaseStore.create(tmp_path / "3d_fullres-0", MANIFEST)
    _, labels = _write(store.folder)

    assert store.manifest == MANIFEST
    assert store.names() == ["case_a"]
    assert store.shape("case_a") == SHAPE
    assert store.info("case_a").trace == {"box": [[0, 1], [2, 3]]}
    for structure, index in enumerate((1, 2)):
        positions = store.positions("case_a", structure)
        assert isinstance(positions, np.memmap)
        np.testing.assert_array_equal(positions, np.flatnonzero(labels == index)[:100])


def test_a_case_without_positions_has_none(tmp_path: Path):
    image, labels = _arrays(1)
    info = _info("a", position_counts=(0, 0))
    write_case(tmp_path, "a", [image], labels, [np.empty(0, int)] * 2, info, (40, 56, 40))

    assert len(CaseStore(tmp_path).positions("a", 1)) == 0


def test_positions_are_told_apart_however_many_there_are(tmp_path: Path):
    image, labels = _arrays(1)
    positions = [np.array(found) for found in ([5, 3], [], [7], [1, 9, 2])]
    info = _info("a", position_counts=(2, 0, 1, 3))
    write_case(tmp_path, "a", [image], labels, positions, info, (40, 56, 40))

    store = CaseStore(tmp_path)

    assert [store.positions("a", i).tolist() for i in range(4)] == [[5, 3], [], [7], [1, 9, 2]]


@pytest.mark.parametrize("content", ["{", '{"format": 1}', '{"format": 99}'])
def test_a_manifest_that_cannot_be_read_is_written_anew(tmp_path: Path, content: str):
    store = CaseStore.create(tmp_path, MANIFEST)
    (tmp_path / "manifest.json").write_text(content)

    CaseStore.create(tmp_path, MANIFEST)

    assert store.manifest == MANIFEST


def test_a_store_keeps_the_manifest_it_was_made_with(tmp_path: Path):
    store = CaseStore.create(tmp_path, MANIFEST)

    CaseStore.create(tmp_path, MANIFEST.model_copy(update={"configuration": "mine"}))

    assert store.manifest == MANIFEST


@pytest.mark.parametrize(("extreme", "itemsize"), [(127, 1), (128, 2), (-127, 1), (-200, 2)])
def test_labels_take_the_smallest_signed_type(tmp_path: Path, extreme: int, itemsize: int):
    import blosc2

    image, labels = _arrays(1)
    labels[0, 0, 0] = extreme
    info = _info("a")

    write_case(tmp_path, "a", [image], labels, [], info, (56, 40))

    stored = blosc2.open(str(tmp_path / "a" / "labels.b2nd"), mode="r")
    assert stored.dtype.itemsize == itemsize
    assert stored.dtype.kind == "i"
    assert stored.chunks == (1, 1, 50, 35)
    np.testing.assert_array_equal(CaseStore(tmp_path).read("a", (0, 0, 0), SHAPE)[1], labels)


def test_a_case_whose_writing_fails_does_not_appear(tmp_path: Path):
    image, labels = _arrays(1)
    info = _info("a", trace={"f": print})

    with pytest.raises(Exception, match="Unable to serialize"):
        write_case(tmp_path, "a", [image], labels, [], info, (40, 56, 40))

    assert list(tmp_path.iterdir()) == []
    assert CaseStore(tmp_path).names() == []


def _die_while_writing(folder: Path) -> None:
    from autoseg.io import atomic

    with atomic.atomic_folder(folder / "case_b") as partial:
        (partial / "case.json").write_text("{}")
        os._exit(1)


def test_what_a_killed_writer_left_is_no_case_and_is_removed(tmp_path: Path):
    process = multiprocessing.get_context("spawn").Process(
        target=_die_while_writing, args=(tmp_path,)
    )
    process.start()
    process.join()
    assert len(list(tmp_path.iterdir())) == 1
    assert CaseStore(tmp_path).names() == []

    CaseStore.create(tmp_path, MANIFEST)

    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_a_case_written_anew_is_read_anew(tmp_path: Path):
    image, _ = _write(tmp_path)
    store = CaseStore(tmp_path)
    np.testing.assert_array_equal(store.read("case_a", (0, 0, 0), SHAPE)[0], image)

    image, labels = _arrays()
    write_case(
        tmp_path, "case_a", [-image], labels, [], store.info("case_a").model_copy(
            update={"position_counts": (), "source": "new"}
        ), (40, 56, 40)
    )  # fmt: skip

    np.testing.assert_array_equal(store.read("case_a", (0, 0, 0), SHAPE)[0], -image)
    assert store.info("case_a").source == "new"


def _bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_case_gives_the_same_bytes_whatever_the_slabs(tmp_path: Path):
    image, labels = _arrays()
    for store, cuts in (("one", []), ("two", [1, 20, 33])):
        slabs = np.split(image, cuts, axis=1)
        write_case(tmp_path / store, "case_a", slabs, labels, [], _info(), (40, 56, 40))

    assert _bytes_of(tmp_path / "one/case_a") == _bytes_of(tmp_path / "two/case_a")


def test_slabs_that_do_not_add_up_leave_nothing(tmp_path: Path):
    image, labels = _arrays()

    with pytest.raises(ValueError, match="slabs end after 35 rows"):
        write_case(tmp_path, "case_a", [image[:, :35]], labels, [], _info(), (40, 56, 40))

    assert list(tmp_path.iterdir()) == []


def test_a_case_is_current_while_its_files_and_its_source_are_the_same(tmp_path: Path):
    _write(tmp_path)
    store = CaseStore(tmp_path)

    assert store.is_current("case_a", "abc")
    assert not store.is_current("case_a", "abd")
    assert not store.is_current("case_b", "abc")


def _measured(*digests: str) -> CaseFingerprint:
    files = tuple(FileStamp(size_bytes=1, mtime_ns=1, digest=digest) for digest in digests)
    return CaseFingerprint(
        name="case_a",
        shape=(4, 5, 6),
        spacing=(1.0, 1.0, 1.0),
        relative_size=1.0,
        label_voxels=(3,),
        original_shape=(4, 5, 6),
        orientation="LPS",
        channels=(),
        structures=(),
        files=files,
    )


def test_a_source_is_the_content_of_the_files_and_the_meaning_of_the_labels():
    shell, core = Structure(name="shell", values=(1,)), Structure(name="core", values=(2,))
    sources = [
        source_of(_measured(*digests), LabelSpace(structures=structures, ignore=ignore))
        for digests, structures, ignore in (
            (("a", "b"), (shell, core), None),
            (("a", "c"), (shell, core), None),
            (("a", "b"), (core, shell), None),
            (("a", "b"), (shell, Structure(name="kernel", values=(2,))), None),
            (("a", "b"), (shell, Structure(name="core", values=(3,))), None),
            (("a", "b"), (shell, core), 3),
        )
    ]
    assert len(set(sources)) == len(sources)
    again = LabelSpace(structures=(Structure(name="Shell", values=(1,)), core))
    assert source_of(_measured("a", "b"), again) == sources[0]


@pytest.mark.parametrize("file", ["image.b2nd", "labels.b2nd", "positions.npy", "case.json"])
def test_a_case_that_lost_bytes_or_a_file_is_not_current(tmp_path: Path, file: str):
    _write(tmp_path)
    path = tmp_path / "case_a" / file
    os.truncate(path, path.stat().st_size - 1 if file != "case.json" else 0)

    assert not CaseStore(tmp_path).is_current("case_a", "abc")

    path.unlink()
    assert not CaseStore(tmp_path).is_current("case_a", "abc")


@pytest.mark.parametrize("file", ["image.b2nd", "labels.b2nd", "positions.npy"])
def test_a_truncated_file_is_told_when_it_is_opened(tmp_path: Path, file: str):
    _write(tmp_path)
    path = tmp_path / "case_a" / file
    os.truncate(path, path.stat().st_size - 1)
    store = CaseStore(tmp_path)

    with pytest.raises(ArtifactError, match="case_a: damaged prepared case"):
        store.read("case_a", (0, 0, 0), (1, 1, 1)), store.positions("case_a", 0)


def test_a_case_of_an_earlier_version_is_outdated_and_not_current(tmp_path: Path):
    _write(tmp_path)
    path = tmp_path / "case_a" / "case.json"
    content = json.loads(path.read_text()) | {"format": 1}
    del content["file_bytes"]
    path.write_text(json.dumps(content))
    store = CaseStore(tmp_path)

    assert store.names() == ["case_a"]
    assert not store.is_current("case_a", "abc")
    with pytest.raises(OutdatedError, match=r"earlier autoseg .* run: autoseg preprocess"):
        store.info("case_a")


def test_the_size_of_a_store_is_that_of_its_cases(tmp_path: Path):
    store = CaseStore.create(tmp_path / "store", MANIFEST)
    assert store.size_bytes() == 0
    for name in ("case_a", "case_b"):
        _write(store.folder, name)
    (store.folder / ".partial-1-case_c").mkdir()
    (store.folder / ".partial-1-case_c" / "image.b2nd").write_bytes(b"unfinished")

    files = [path for path in store.folder.glob("case_*/*") if path.is_file()]
    assert len(files) == 8
    assert store.size_bytes() == sum(path.stat().st_size for path in files)


def test_positions_are_as_narrow_as_the_volume_allows(tmp_path: Path):
    _write(tmp_path)
    assert CaseStore(tmp_path).positions("case_a", 0).dtype == np.int32
    assert positions_dtype((1024, 1024, 2048)) == np.int32
    assert positions_dtype((1024, 1024, 2049)) == np.int64


_ON_A_FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from autoseg.errors import AutosegError
from autoseg.io.case_store import CaseInfo, CaseStore, write_case

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder, (_, most) = Path(sys.argv[1]), resource.getrlimit(resource.RLIMIT_FSIZE)
labels = np.ones((30, 40, 20), dtype=np.int16)
labels[:, ::2, ::3] = np.random.default_rng(0).integers(-1, 9, size=(30, 20, 7))
image = np.zeros((1, 30, 40, 20), dtype=np.float32)
info = CaseInfo(name="a", source="", shape=(30, 40, 20), trace={},
                position_counts=(labels.size,), label_voxels=())
def write():
    positions = [np.arange(labels.size)]
    write_case(folder, "a", [image], labels, positions, info, (32, 32, 32))
write()
sizes = sorted(path.stat().st_size for path in folder.glob("a/*"))
assert len(set(sizes)) == 4
for size in sizes[1:]:  # what holds a kilobyte less than one of the files
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(size - 1000, sizes[0]), most))
    try:
        write()
    except AutosegError as error:
        print(error)
    assert list(folder.iterdir()) == [], size
"""


def test_a_case_that_finds_no_room_does_not_appear(tmp_path: Path):
    pytest.importorskip("resource", reason="limits of files are not known here")

    run = subprocess.run(
        [sys.executable, "-c", _ON_A_FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (run.returncode, run.stderr) == (0, "")
    lines = run.stdout.splitlines()
    assert len(lines) == 3
    assert all("a: no space left to write; free some or choose another disk" in w for w in lines)


def _sum_of_case(store: CaseStore) -> float:
    return float(store.read("case_a", (0, 0, 0), SHAPE)[0].sum())


def test_a_store_travels_to_spawned_workers_after_use(tmp_path: Path):
    image, _ = _write(tmp_path)
    store = CaseStore(tmp_path)
    assert _sum_of_case(store) == float(image.sum())
    assert len(pickle.dumps(store)) < 1000

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        assert pool.submit(_sum_of_case, store).result() == float(image.sum())


def test_threads_read_at_the_same_time(tmp_path: Path):
    image, _ = _write(tmp_path)
    store = CaseStore(tmp_path)

    with ThreadPoolExecutor(4) as pool:
        sums = list(pool.map(_sum_of_case, [store] * 40))

    assert set(sums) == {float(image.sum())}


def test_a_case_that_is_not_there_is_told_with_the_remedy(tmp_path: Path):
    store = CaseStore(tmp_path)
    for use in (
        lambda: store.info("case_b"),
        lambda: store.read("case_b", (0, 0, 0), (1, 1, 1)),
        lambda: store.manifest,
    ):
        with pytest.raises(WorkspaceError, match="does not exist; run: autoseg preprocess"):
            use()
    assert "case_b" not in store


def test_a_damaged_case_is_named(tmp_path: Path):
    _write(tmp_path)
    path = tmp_path / "case_a" / "image.b2nd"
    path.write_bytes(path.read_bytes()[:1000])

    with pytest.raises(ArtifactError, match="case_a: damaged prepared case; delete its folder"):
        CaseStore(tmp_path).read("case_a", (0, 0, 0), SHAPE)


def test_a_case_name_that_leaves_the_store_is_refused(tmp_path: Path):
    image, labels = _arrays(1)
    info = _info("../a")

    with pytest.raises(DataError):
        write_case(tmp_path / "store", "../a", [image], labels, [], info, (40, 56, 40))
    with pytest.raises(DataError):
        CaseStore(tmp_path).read("../a", (0, 0, 0), (1, 1, 1))


def test_a_store_that_cannot_be_written_is_one_line(tmp_path: Path):
    (tmp_path / "store").touch()

    with pytest.raises(AutosegError, match="store is a file"):
        _write(tmp_path / "store")
    with pytest.raises(AutosegError, match="store is a file"):
        CaseStore.create(tmp_path / "store", MANIFEST)


def test_arrays_and_info_that_do_not_fit_are_a_mistake(tmp_path: Path):
    image, labels = _arrays(1)

    with pytest.raises(ValueError, match="position_counts"):
        write_case(
            tmp_path, "a", [image], labels, [], _info("a", position_counts=(1,)), (40, 56, 40)
        )
    with pytest.raises(ValueError, match="shapes differ: labels"):
        write_case(tmp_path, "a", [image], labels[1:], [], _info("a"), (40, 56, 40))
    with pytest.raises(ValueError, match="shapes differ: slab"):
        write_case(tmp_path, "a", [image[:, :, 1:]], labels, [], _info("a"), (40, 56, 40))
    with pytest.raises(ValueError, match="info is of case 'a'"):
        write_case(tmp_path, "b", [image], labels, [], _info("a"), (40, 56, 40))
