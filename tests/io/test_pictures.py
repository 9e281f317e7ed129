"""PNG, BMP and JPEG: every way to store pixels, and what a label map is in it."""

import json
import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image

from autoseg.core.geometry import Geometry
from autoseg.core.image import LabelMap
from autoseg.errors import AutosegError, DataError
from autoseg.fingerprint.stage import measure_dataset
from autoseg.io import formats
from autoseg.io.dataset_folder import find_dataset
from autoseg.io.images import read_geometry, read_image, read_labels, write_labels

GREYS = np.arange(20, dtype=np.uint8).reshape(5, 4) * 7
COLOURS = np.arange(60, dtype=np.uint8).reshape(5, 4, 3)
INDICES = np.arange(20, dtype=np.uint8).reshape(5, 4) % 3
VOC = [0, 0, 0, 128, 0, 0, 0, 128, 0]
FLAT = Geometry(shape=(1, 5, 4), spacing=(999.0, 1.0, 1.0))


def _save(path: Path, array: np.ndarray, **options: object) -> Path:
    Image.fromarray(array).save(path, **options)
    return path


def _save_indexed(path: Path, indices: np.ndarray, palette: list[int]) -> Path:
    image = Image.fromarray(indices)
    image.putpalette(palette)
    image.save(path)
    return path


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def _png(path: Path, array: np.ndarray, colour_type: int, palette: bytes = b"") -> Path:
    """A PNG written byte by byte: 8 or 16 bits, ``(y, x, samples)``."""
    depth = array.dtype.itemsize * 8
    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], depth, colour_type, 0, 0, 0)
    big_endian = array.astype(array.dtype.newbyteorder(">"))
    rows = b"".join(b"\0" + row.tobytes() for row in big_endian)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    parts[1:1] = [(b"PLTE", palette)] if palette else []
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts))
    return path


@pytest.mark.parametrize("ending", [".png", ".bmp"])
def test_greys_are_one_channel_and_labels(tmp_path: Path, ending: str):
    path = _save(tmp_path / f"a{ending}", GREYS)

    image = read_image([path])

    assert image.geometry == FLAT
    assert read_geometry(path) == (FLAT, 1)
    np.testing.assert_array_equal(image.array, GREYS[np.newaxis, np.newaxis])
    np.testing.assert_array_equal(read_labels(path).array, GREYS[np.newaxis])


@pytest.mark.parametrize("ending", [".png", ".bmp"])
def test_colours_are_three_channels(tmp_path: Path, ending: str):
    path = _save(tmp_path / f"a{ending}", COLOURS)

    assert read_geometry(path) == (FLAT, 3)
    np.testing.assert_array_equal(read_image([path]).array[:, 0], COLOURS.transpose(2, 0, 1))


@pytest.mark.parametrize(("colour_type", "samples"), [(0, 1), (4, 2), (2, 3), (6, 4)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_all_bits_are_kept_and_transparency_is_left_out(
    tmp_path: Path, colour_type: int, samples: int, dtype: str
):
    values = np.arange(20 * samples).reshape(5, 4, samples) * (257 if dtype == "uint16" else 1)
    path = _png(tmp_path / "a.png", values.astype(dtype), colour_type)
    kept = 1 if samples < 3 else 3

    array, geometry = formats.reader_of(path).read(path)

    assert array.dtype == dtype
    assert read_geometry(path) == (geometry, kept)
    np.testing.assert_array_equal(array[:, 0], values[..., :kept].transpose(2, 0, 1))


def test_transparency_that_says_something_is_told_at_debug_level(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    pixels = np.dstack([COLOURS, np.full((5, 4), 255, np.uint8)])
    opaque = _save(tmp_path / "opaque.png", pixels)
    pixels[0, 0, 3] = 0
    glassy = _save(tmp_path / "glassy.png", pixels)

    with caplog.at_level(logging.DEBUG, logger="autoseg"):
        read_image([opaque])
        read_image([glassy])

    assert [r.getMessage() for r in caplog.records] == [
        f"{glassy}: the alpha channel is not constant; it is left out"
    ]


@pytest.mark.parametrize("ending", [".png", ".bmp"])
def test_one_bit_is_black_and_white(tmp_path: Path, ending: str):
    bits = INDICES > 0
    path = _save(tmp_path / f"a{ending}", bits)

    np.testing.assert_array_equal(read_image([path]).array[0, 0], bits * 255.0)
    np.testing.assert_array_equal(read_labels(path).array[0], bits * 255)


@pytest.mark.parametrize("ending", [".png", ".bmp"])
def test_a_palette_is_colours_in_images_and_indices_in_labels(tmp_path: Path, ending: str):
    path = _save_indexed(tmp_path / f"a{ending}", INDICES, VOC)

    expected = np.array(VOC).reshape(3, 3)[INDICES].transpose(2, 0, 1)
    assert read_geometry(path) == (FLAT, 3)
    np.testing.assert_array_equal(read_image([path]).array[:, 0], expected)
    np.testing.assert_array_equal(read_labels(path).array[0], INDICES)


def test_a_grey_palette_is_one_channel_and_its_labels_are_indices(tmp_path: Path):
    path = _save_indexed(tmp_path / "a.png", INDICES, [0, 0, 0, 90, 90, 90, 40, 40, 40])

    assert read_geometry(path) == (FLAT, 1)
    np.testing.assert_array_equal(read_image([path]).array[0, 0], np.array([0, 90, 40])[INDICES])
    np.testing.assert_array_equal(read_labels(path).array[0], INDICES)


def test_a_palette_from_black_to_white_is_a_grey_picture(tmp_path: Path):
    bits = (INDICES > 0).astype(np.uint8)
    path = _save_indexed(tmp_path / "a.png", bits, [0, 0, 0, 255, 255, 255])

    np.testing.assert_array_equal(read_labels(path).array[0], bits * 255)


def test_an_index_beyond_the_palette_is_black(tmp_path: Path):
    path = _png(tmp_path / "a.png", INDICES[..., np.newaxis] + np.uint8(2), 3, bytes(VOC))

    expected = np.where(INDICES == 0, 128, 0)
    np.testing.assert_array_equal(read_image([path]).array[1, 0], expected)
    np.testing.assert_array_equal(read_labels(path).array[0], INDICES + 2)


def test_a_bitmap_that_pillow_takes_for_fewer_bits_is_refused(tmp_path: Path):
    bits = (INDICES > 0).astype(np.uint8)
    path = _save_indexed(tmp_path / "a.bmp", bits, [0, 0, 0, 255, 255, 255])

    with pytest.raises(
        DataError, match=r"a\.bmp: a palette of two greys at 8 bits a pixel is not read; save it as"
    ):
        read_labels(path)


@pytest.mark.parametrize("samples", [3, 4])
def test_labels_in_equal_colours_are_grey(tmp_path: Path, samples: int):
    pixels = np.repeat(GREYS[..., np.newaxis], samples, axis=2)
    path = _save(tmp_path / "a.png", pixels)

    np.testing.assert_array_equal(read_labels(path).array[0], GREYS)


def test_labels_in_different_colours_are_listed_most_frequent_first(tmp_path: Path):
    pixels = np.zeros((5, 4, 3), np.uint8)
    pixels[0] = (255, 0, 0)
    pixels[1, :2] = (0, 0, 255)
    path = _save(tmp_path / "a.png", pixels)

    with pytest.raises(
        DataError,
        match=r"a\.png: the labels are 3 colours, not values: "
        r"\(0, 0, 0\), \(255, 0, 0\), \(0, 0, 255\); export a grey-value picture, or an indexed",
    ):
        read_labels(path)


def test_no_more_than_six_colours_are_listed(tmp_path: Path):
    path = _save(tmp_path / "a.png", COLOURS)

    with pytest.raises(
        DataError, match=r"are 20 colours, not values: (\([^)]*\), ){5}\([^)]*\) and"
    ):
        read_labels(path)


def test_the_print_resolution_is_no_spacing(tmp_path: Path):
    path = _save(tmp_path / "a.png", GREYS, dpi=(300, 300))

    assert read_geometry(path)[0] == FLAT


def _smooth(height: int = 40, width: int = 24) -> np.ndarray:
    """Nothing JPEG would blur by much."""
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 5, x * 9, (y + x) * 3], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("ending", [".jpg", ".jpeg"])
def test_a_jpeg_is_an_image(tmp_path: Path, ending: str):
    path = _save(tmp_path / f"a{ending}", _smooth(), quality=95)

    image = read_image([path])

    assert image.array.shape == (3, 1, 40, 24)
    assert np.abs(image.array[:, 0] - _smooth().transpose(2, 0, 1)).mean() < 3


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_jpeg_is_no_label_map_whatever_its_name(tmp_path: Path, name: str):
    path = _save(tmp_path / name, GREYS, format="JPEG")

    assert read_image([path]).num_channels == 1
    with pytest.raises(DataError, match=f"{name}: a JPEG blurs label values; export the labels as"):
        read_labels(path)


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.T),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a.T[::-1, ::-1]),
        (8, np.rot90),
    ],
)
def test_a_photograph_is_turned_as_its_camera_says(tmp_path: Path, orientation: int, expected):
    grey = _smooth()[..., 2]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = _save(tmp_path / "a.jpg", grey, exif=exif, quality=95)

    array, geometry = formats.reader_of(path).read(path)

    assert read_geometry(path) == (geometry, 1)
    assert array.shape[1:] == geometry.shape
    assert np.abs(array[0, 0].astype(float) - expected(grey)).mean() < 3


def test_an_unreadable_orientation_is_none(tmp_path: Path):
    path = _save(tmp_path / "a.jpg", _smooth(), exif=b"Exif\0\0MM\0*garbage")

    assert read_geometry(path)[0].shape == (1, 40, 24)


def test_the_inks_of_a_jpeg_become_colours(tmp_path: Path):
    inks = np.zeros((40, 24, 4), np.uint8)
    inks[..., 0] = 255  # cyan alone
    bands = [Image.fromarray(inks[..., band]) for band in range(4)]
    Image.merge("CMYK", bands).save(tmp_path / "a.jpg")

    array = read_image([tmp_path / "a.jpg"]).array

    assert read_geometry(tmp_path / "a.jpg")[1] == 3
    np.testing.assert_allclose(array[:, 0, 5, 5], (0, 255, 255), atol=3)


def test_a_wrong_ending_does_not_matter(tmp_path: Path):
    path = _save(tmp_path / "a.bmp", GREYS, format="PNG")

    np.testing.assert_array_equal(read_labels(path).array[0], GREYS)


def test_the_number_of_pixels_is_not_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    path = _save(tmp_path / "a.png", COLOURS)

    assert read_image([path]).num_channels == 3
    assert Image.MAX_IMAGE_PIXELS == 5


def test_a_huge_picture_has_a_geometry(tmp_path: Path):
    header = struct.pack(">IIBBBBB", 30000, 40000, 8, 2, 0, 0, 0)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", b"") + _chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)

    assert read_geometry(tmp_path / "a.png")[0].shape == (1, 40000, 30000)


@pytest.mark.parametrize("ending", [".png", ".bmp", ".jpg"])
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_truncated_picture_is_named(tmp_path: Path, ending: str, kept: float):
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    path = _save(tmp_path / f"a{ending}", noise)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])

    with pytest.raises(DataError, match=rf"a\{ending}: incomplete or damaged .*; copy it again"):
        read_image([path])


def test_a_damaged_picture_of_16_bits_is_named(tmp_path: Path):
    values = np.random.default_rng(0).integers(0, 65535, (60, 80, 3)).astype(np.uint16)
    path = _png(tmp_path / "a.png", values, 2)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"a\.png: incomplete or damaged"):
        read_image([path])


@pytest.mark.parametrize("content", [b"", b"not an image"])
@pytest.mark.parametrize("ending", [".png", ".bmp", ".jpg"])
def test_what_is_no_picture_is_named(tmp_path: Path, ending: str, content: bytes):
    (tmp_path / f"a{ending}").write_bytes(content)

    with pytest.raises(DataError, match=r"cannot be read \(empty, damaged or of another format"):
        read_image([tmp_path / f"a{ending}"])


def test_a_missing_picture_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"a\.png: no such file"):
        read_image([tmp_path / "a.png"])


@pytest.mark.parametrize(("highest", "dtype"), [(255, np.uint8), (65535, np.uint16)])
def test_labels_are_written_as_greys_and_compressed(tmp_path: Path, highest: int, dtype: type):
    array = np.zeros((1, 50, 40), np.int64)
    array[0, 3, 2] = highest
    geometry = Geometry(shape=(1, 50, 40), spacing=(999.0, 1.0, 1.0))

    write_labels(tmp_path / "a.png", LabelMap(array=array, geometry=geometry))

    found = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.png")))
    np.testing.assert_array_equal(found, array[0])
    assert found.dtype == dtype
    assert (tmp_path / "a.png").stat().st_size < 500


def _write(path: Path, array: np.ndarray, geometry: Geometry = FLAT) -> None:
    formats.reader_of(path).write(path, array, geometry)


def test_what_a_picture_cannot_hold_is_refused(tmp_path: Path):
    volume = Geometry(shape=(2, 5, 4), spacing=(3.0, 1.0, 1.0))

    with pytest.raises(
        AutosegError, match=r"a\.png: a picture holds one slice, not 2; write anoth"
    ):
        _write(tmp_path / "a.png", np.zeros((2, 5, 4), int), volume)
    with pytest.raises(AutosegError, match=r"a\.png: a picture holds whole numbers only; write"):
        _write(tmp_path / "a.png", GREYS[np.newaxis] + np.float32(0.5))
    with pytest.raises(AutosegError, match=r"a\.png: this format holds label values 0\.\.65535"):
        _write(tmp_path / "a.png", np.full((1, 5, 4), 70000))
    with pytest.raises(AutosegError, match=r"a\.bmp: this format holds label values 0\.\.255 only"):
        _write(tmp_path / "a.bmp", np.full((1, 5, 4), 300))
    with pytest.raises(
        AutosegError, match=r"a\.jpg: a JPEG blurs values and is not written; write"
    ):
        _write(tmp_path / "a.jpg", GREYS[np.newaxis])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "highest", "expected"),
    [
        ("a.png", 65535, ".png"),
        ("a.png", 65536, ".nii.gz"),
        ("a.BMP", 255, ".bmp"),
        ("a.bmp", 256, ".nii.gz"),
        ("a.jpg", 300, ".png"),
        ("a.jpeg", 1, ".png"),
    ],
)
def test_labels_of_a_picture_are_a_picture_if_it_holds_them(name: str, highest: int, expected: str):
    assert formats.label_suffix(Path(name), 0, highest) == expected


def test_a_folder_of_colour_pictures_is_measured(tmp_path: Path):
    rng = np.random.default_rng(0)
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / "Nuclei" / folder).mkdir(parents=True)
    for case in ("a", "b", "c"):
        nucleus = np.zeros((30, 40), np.uint8)
        nucleus[8:20, 10:25] = 255
        pixels = rng.integers(0, 50, (30, 40, 3), dtype=np.uint8)
        pixels[nucleus > 0] += np.array([10, 60, 200], np.uint8)
        _save(tmp_path / "Nuclei" / "imagesTr" / f"{case}_0000.png", pixels)
        _save(tmp_path / "Nuclei" / "labelsTr" / f"{case}.png", nucleus)
    description = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {"background": 0, "nucleus": 255},
        "file_ending": ".png",
        "numTraining": 3,
    }
    (tmp_path / "Nuclei" / "dataset.json").write_text(json.dumps(description))

    dataset = find_dataset(tmp_path / "Nuclei")
    found = measure_dataset(dataset, workers=0).fingerprint

    assert dataset.channels == ("R", "G", "B")
    assert [len(case.images) for case in dataset.cases] == [1, 1, 1]
    means = [stats.mean for stats in found.intensities]
    np.testing.assert_allclose(means, (34.5, 84.5, 224.5), atol=2)
