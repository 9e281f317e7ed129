import errno
import os
import subprocess
import sys
from pathlib import Path

import blosc2
import numpy as np
import pytest

from autoseg.io.chunked_arrays import chunking, open_array, read_box, slab_rows, write_array

# Several chunks and a rest along each axis, of several blocks and a rest.
SHAPE = (41, 150, 139)
PATCHES = [(16, 64, 64), (64, 64)]

# image, patch, bytes per voxel, block, chunk: as the reference chooses them, but with blocks of 32
# or 256 voxels where 18 or 250 share the chunk evenly
CHUNKING = [
    ((128, 128, 128), (128, 128, 128), 4, (32, 32, 32), (128, 128, 96)),
    ((128, 128, 128), (128, 128, 128), 2, (64, 32, 32), (128, 128, 128)),
    ((104, 512, 512), (80, 192, 160), 4, (16, 64, 32), (64, 192, 128)),
    ((104, 512, 512), (80, 192, 160), 2, (16, 64, 64), (80, 192, 192)),
    ((20, 320, 320), (20, 320, 256), 4, (8, 64, 64), (16, 320, 256)),
    ((36, 50, 35), (40, 56, 40), 4, (18, 25, 18), (36, 50, 35)),
    ((36, 50, 35), (56, 40), 4, (1, 50, 35), (1, 50, 35)),
    ((1, 1250, 1500), (1024, 1280), 4, (1, 128, 256), (1, 1152, 1280)),
    ((1, 1250, 1500), (1024, 1280), 2, (1, 250, 250), (1, 1250, 1500)),
    ((104, 512, 512), (512, 512), 4, (1, 256, 128), (1, 512, 512)),
    ((138, 170, 138), (128, 128, 128), 4, (32, 32, 32), (128, 128, 96)),
    ((123, 423, 645), (128, 128, 128), 4, (32, 32, 32), (96, 128, 128)),
]


@pytest.mark.parametrize(("shape", "patch", "itemsize", "block", "chunk"), CHUNKING)
def test_chunks_fit_the_patch(shape, patch, itemsize, block, chunk):
    assert chunking(shape, patch, itemsize) == (block, chunk)


def _image(channels: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(size=(channels, *SHAPE)).astype(np.float32)


def _slabs(image: np.ndarray, thickness: list[int]) -> list[np.ndarray]:
    return np.split(image, np.cumsum(thickness), axis=1)


def test_slabs_are_best_as_thick_as_a_chunk():
    assert slab_rows((123, 423, 645), (128, 128, 128)) == 96
    assert slab_rows((104, 512, 512), (512, 512)) == 1
    assert slab_rows((104, 512, 512), (80, 192, 160), 2) == 80


@pytest.mark.parametrize("patch", PATCHES)
def test_what_is_written_is_read(tmp_path: Path, patch: tuple[int, ...]):
    image = _image()
    write_array(tmp_path / "a", [image], SHAPE, np.float32, patch)

    stored = open_array(tmp_path / "a")

    block, chunk = chunking(SHAPE, patch, 4)
    assert max(block) < max(chunk) < max(SHAPE)
    assert (stored.blocks, stored.chunks) == ((1, *block), (1, *chunk))
    np.testing.assert_array_equal(stored[...], image)
    box = read_box(stored, (-1, 70, 100), (30, 20, 60), fill=5)
    np.testing.assert_array_equal(box[:, 1:, :, :39], image[:, :29, 70:90, 100:])
    assert np.all(box[:, 0] == 5)
    assert np.all(box[..., 39:] == 5)


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("thickness", [[1] * 40, [24, 16], [7, 20, 13], [23, 2], [40]])
def test_the_bytes_do_not_depend_on_the_slabs(
    tmp_path: Path, patch: tuple[int, ...], thickness: list[int]
):
    image = _image()
    write_array(tmp_path / "a", [image], SHAPE, np.float32, patch)

    write_array(tmp_path / "b", _slabs(image, thickness), SHAPE, np.float32, patch)

    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()


def _write_in_a_process(path: Path, memory: str) -> bytes:
    script = (
        "import sys; from pathlib import Path; import numpy as np;"
        "from autoseg.io.chunked_arrays import write_array;"
        f"image = np.random.default_rng(0).normal(size=(2, *{SHAPE})).astype(np.float32);"
        f"write_array(Path(sys.argv[1]), [image], {SHAPE}, np.float32, (16, 64, 64))"
    )
    # glibc fills new memory with this byte, or a value that follows from it.
    environ = os.environ | {"MALLOC_PERTURB_": memory}
    subprocess.run([sys.executable, "-c", script, str(path)], env=environ, check=True)
    return path.read_bytes()


def test_the_bytes_do_not_depend_on_what_was_in_memory(tmp_path: Path):
    first = _write_in_a_process(tmp_path / "a", "165")

    assert _write_in_a_process(tmp_path / "b", "90") == first


def test_a_slab_as_thick_as_a_chunk_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    image = _image(1)
    rows = slab_rows(SHAPE, (16, 64, 64))
    assert rows < SHAPE[0]
    monkeypatch.setattr(np, "concatenate", None)

    slabs = [image[:, i : i + rows] for i in range(0, SHAPE[0], rows)]
    write_array(tmp_path / "a", slabs, SHAPE, np.float32, (16, 64, 64))

    np.testing.assert_array_equal(open_array(tmp_path / "a")[...], image)


def test_slabs_are_taken_one_at_a_time(tmp_path: Path):
    image, rows = _image(1), slab_rows(SHAPE, (16, 64, 64))
    sizes = []

    def slabs():
        for slab in _slabs(image, list(range(rows, SHAPE[0], rows))):
            yield slab
            sizes.append((tmp_path / "a").stat().st_size)

    write_array(tmp_path / "a", slabs(), SHAPE, np.float32, (16, 64, 64))

    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(
    ("slabs", "words"),
    [
        ([], "slabs end after 0 rows of"),
        ([np.zeros((1, 40, 150, 139))], "slabs end after 40 rows of"),
        ([np.zeros((1, 40, 150, 139)), np.zeros((1, 2, 150, 139))], "after 40 rows of"),
        ([np.zeros((1, 41, 139, 150))], r"slab \(1, 41, 139, 150\) after 0 rows of"),
        ([np.zeros((1, 40, 150, 139)), np.zeros((2, 1, 150, 139))], r"slab \(2, 1, 150, 139\)"),
        ([np.zeros((41, 150, 139))], r"slab \(41, 150, 139\)"),
    ],
)
def test_slabs_that_do_not_add_up_are_a_mistake(tmp_path: Path, slabs: list, words: str):
    with pytest.raises(ValueError, match=f"shapes differ: .*{words}"):
        write_array(tmp_path / "a", slabs, SHAPE, np.float32, (16, 64, 64))


def test_values_that_repeat_are_compressed_as_words(tmp_path: Path):
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 200, size=(1, *SHAPE)).astype(np.float32) / 7
    smooth = whole + rng.random(whole.shape, dtype=np.float32)

    for name, image in (("whole", whole), ("smooth", smooth)):
        write_array(tmp_path / name, [image], SHAPE, np.float32, (16, 64, 64))

    filters = {
        name: open_array(tmp_path / name).schunk.cparams.filters for name in ("whole", "smooth")
    }
    assert blosc2.Filter.SHUFFLE not in filters["whole"]
    assert blosc2.Filter.SHUFFLE in filters["smooth"]


def test_a_file_that_did_not_become_whole_is_noticed(tmp_path: Path):
    def slabs():
        yield _image(1)
        os.truncate(tmp_path / "a", (tmp_path / "a").stat().st_size - 1)

    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        write_array(tmp_path / "a", slabs(), SHAPE, np.float32, (16, 64, 64))


_ON_A_FULL_DISK = """
import errno, resource, signal, sys
from pathlib import Path
import numpy as np
from autoseg.io.chunked_arrays import write_array

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path, (_, most) = Path(sys.argv[1]), resource.getrlimit(resource.RLIMIT_FSIZE)
image = np.random.default_rng(0).normal(size=(1, 12, 40, 30)).astype(np.float32)
write_array(path, [image], (12, 40, 30), np.float32, (40, 30))
size = path.stat().st_size
for room in (0, 50, 200, size // 4, size // 2, *range(size - 400, size, 9), size - 1):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, most))
    try:
        write_array(path, [image], (12, 40, 30), np.float32, (40, 30))
    except OSError as error:
        assert error.errno == errno.EFBIG, error
    else:
        sys.exit(f"{size} bytes were written where there was room for {room}")
resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
write_array(path, [image], (12, 40, 30), np.float32, (40, 30))
"""


def test_a_disk_that_fills_up_is_noticed_wherever_it_does(tmp_path: Path):
    pytest.importorskip("resource", reason="limits of files are not known here")

    run = subprocess.run(
        [sys.executable, "-c", _ON_A_FULL_DISK, str(tmp_path / "a")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (run.returncode, run.stderr) == (0, "")
