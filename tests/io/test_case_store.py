import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from autoseg.core.fingerprint import IntensityStats
from autoseg.core.plan import Recipe
from autoseg.errors import ArtifactError, AutosegError, DataError, WorkspaceError
from autoseg.io.case_store import CaseInfo, CaseStore, Manifest, chunking, write_case

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


def _write(folder: Path, name: str = "case_a", channels: int = 2) -> tuple[np.ndarray, np.ndarray]:
    image, labels = _arrays(channels)
    positions = [np.flatnonzero(labels == index)[:100] for index in (1, 2)]
    info = CaseInfo(
        name=name,
        source="abc",
        shape=SHAPE,
        trace={"box": [[0, 1], [2, 3]]},
        position_counts=(100, 100),
        label_voxels=(5, 6),
    )
    write_case(folder, name, image, labels, positions, info, (40, 56, 40))
    return image, labels


# image, patch, bytes per voxel, block, chunk: as the reference chooses them
CHUNKING = [
    ((128, 128, 128), (128, 128, 128), 4, (32, 32, 32), (128, 128, 96)),
    ((128, 128, 128), (128, 128, 128), 2, (64, 32, 32), (128, 128, 128)),
    ((104, 512, 512), (80, 192, 160), 4, (16, 64, 32), (64, 192, 128)),
    ((104, 512, 512), (80, 192, 160), 2, (16, 64, 64), (80, 192, 192)),
    ((20, 320, 320), (20, 320, 256), 4, (8, 64, 64), (16, 320, 256)),
    ((36, 50, 35), (40, 56, 40), 4, (32, 32, 32), (36, 50, 35)),
    ((36, 50, 35), (56, 40), 4, (1, 50, 35), (1, 50, 35)),
    ((1, 1250, 1500), (1024, 1280), 4, (1, 128, 256), (1, 1152, 1280)),
    ((1, 1250, 1500), (1024, 1280), 2, (1, 256, 256), (1, 1250, 1500)),
    ((104, 512, 512), (512, 512), 4, (1, 256, 128), (1, 512, 512)),
    ((138, 170, 138), (128, 128, 128), 4, (32, 32, 32), (128, 128, 96)),
    ((123, 423, 645), (128, 128, 128), 4, (32, 32, 32), (96, 128, 128)),
]


@pytest.mark.parametrize(("shape", "patch", "itemsize", "block", "chunk"), CHUNKING)
def test_chunks_fit_the_patch(shape, patch, itemsize, block, chunk):
    assert chunking(shape, patch, itemsize) == (block, chunk)


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
    info = CaseInfo(
        name="a", source="", shape=SHAPE, trace={}, position_counts=(0, 0), label_voxels=(0, 0)
    )
    write_case(tmp_path, "a", image, labels, [np.empty(0, int)] * 2, info, (40, 56, 40))

    assert len(CaseStore(tmp_path).positions("a", 1)) == 0


@pytest.mark.parametrize(("highest", "itemsize"), [(127, 1), (128, 2)])
def test_labels_take_the_smallest_signed_type(tmp_path: Path, highest: int, itemsize: int):
    import blosc2

    image, labels = _arrays(1)
    labels[0, 0, 0] = highest
    info = CaseInfo(name="a", source="", shape=SHAPE, trace={}, position_counts=(), label_voxels=())

    write_case(tmp_path, "a", image, labels, [], info, (56, 40))

    stored = blosc2.open(str(tmp_path / "a" / "labels.b2nd"), mode="r")
    assert stored.dtype.itemsize == itemsize
    assert stored.dtype.kind == "i"
    assert stored.chunks == (1, 50, 35)
    np.testing.assert_array_equal(CaseStore(tmp_path).read("a", (0, 0, 0), SHAPE)[1], labels)


def test_a_case_whose_writing_fails_does_not_appear(tmp_path: Path):
    image, labels = _arrays(1)
    info = CaseInfo(
        name="a", source="", shape=SHAPE, trace={"f": print}, position_counts=(), label_voxels=()
    )

    with pytest.raises(Exception, match="Unable to serialize"):
        write_case(tmp_path, "a", image, labels, [], info, (40, 56, 40))

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
        tmp_path, "case_a", -image, labels, [], store.info("case_a").model_copy(
            update={"position_counts": (), "source": "new"}
        ), (40, 56, 40)
    )  # fmt: skip

    np.testing.assert_array_equal(store.read("case_a", (0, 0, 0), SHAPE)[0], -image)
    assert store.info("case_a").source == "new"


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
    info = CaseInfo(
        name="../a", source="", shape=SHAPE, trace={}, position_counts=(), label_voxels=()
    )

    with pytest.raises(DataError):
        write_case(tmp_path / "store", "../a", image, labels, [], info, (40, 56, 40))
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
    info = CaseInfo(
        name="a", source="", shape=SHAPE, trace={}, position_counts=(1,), label_voxels=()
    )

    with pytest.raises(ValueError, match="position_counts"):
        write_case(tmp_path, "a", image, labels, [], info, (40, 56, 40))
    with pytest.raises(ValueError, match="shapes differ"):
        write_case(tmp_path, "a", image[:, 1:], labels, [], info, (40, 56, 40))
    with pytest.raises(ValueError, match="info is of case 'a'"):
        write_case(tmp_path, "b", image, labels, [], info, (40, 56, 40))
