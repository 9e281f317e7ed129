"""TIFF: what is a slice, a channel or a colour, and how large voxels are."""

import importlib.util
import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
from PIL import Image

from autoseg.core.geometry import Geometry
from autoseg.core.image import LabelMap
from autoseg.errors import AutosegError, DataError
from autoseg.io import formats
from autoseg.io.images import read_geometry, read_image, read_labels, write_labels

VOLUME = np.arange(6 * 5 * 4, dtype=np.uint16).reshape(6, 5, 4) * 3
FLAT = Geometry(shape=(1, 5, 4), spacing=(999.0, 1.0, 1.0))
GREY = {"photometric": "minisblack"}
MICRONS = {"axes": "ZYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}

has_no_imagecodecs = pytest.mark.skipif(
    importlib.util.find_spec("imagecodecs") is not None, reason="imagecodecs is installed"
)


@pytest.fixture
def no_tifffile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)


def _tiff(path: Path, array: np.ndarray, **options: object) -> Path:
    tifffile.imwrite(path, array, **options)
    return path


def _read(path: Path) -> tuple[np.ndarray, Geometry]:
    """What is read, which the header must agree with."""
    array, geometry = formats.reader_of(path).read(path)
    assert read_geometry(path) == (geometry, len(array))
    assert array.shape[1:] == geometry.shape
    return array, geometry


# Pictures


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64"]
)
def test_a_grey_picture_keeps_its_numbers(tmp_path: Path, dtype: str, byteorder: str):
    path = _tiff(tmp_path / "a.tif", VOLUME[0].astype(dtype), byteorder=byteorder, **GREY)

    array, geometry = _read(path)

    assert geometry == FLAT
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, VOLUME[:1][np.newaxis])


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize(("samples", "dtype"), [(3, "uint8"), (4, "uint8"), (3, "uint16")])
def test_colours_are_three_channels(tmp_path: Path, planar: str, samples: int, dtype: str):
    colours = np.arange(20 * samples, dtype=dtype).reshape(5, 4, samples)
    stored = colours if planar == "contig" else colours.transpose(2, 0, 1)
    path = _tiff(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)

    array, geometry = _read(path)

    assert geometry == FLAT
    np.testing.assert_array_equal(array[:, 0], colours[..., :3].transpose(2, 0, 1))


def test_samples_that_are_no_transparency_are_channels(tmp_path: Path):
    bands = np.arange(100, dtype=np.uint8).reshape(5, 4, 5)
    path = _tiff(
        tmp_path / "a.tif", bands, extrasamples=["unspecified"] * 4, planarconfig="contig", **GREY
    )

    np.testing.assert_array_equal(_read(path)[0][:, 0], bands.transpose(2, 0, 1))


def test_a_palette_is_colours_in_images_and_indices_in_labels(tmp_path: Path):
    indices = (VOLUME[0] % 3).astype(np.uint8)
    image = Image.fromarray(indices)
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    image.save(tmp_path / "a.tif")

    colours = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]])[indices].transpose(2, 0, 1)
    np.testing.assert_array_equal(_read(tmp_path / "a.tif")[0][:, 0], colours)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif").array[0], indices)


def test_the_palette_of_an_imagej_picture_is_for_display(tmp_path: Path):
    colormap = np.zeros((3, 256), np.uint16)
    colormap[1] = np.arange(256) * 257  # green
    numbers = VOLUME[0].astype(np.uint8)
    path = _tiff(tmp_path / "a.tif", numbers, description="ImageJ=1.54f\n", colormap=colormap)

    np.testing.assert_array_equal(_read(path)[0], numbers[np.newaxis, np.newaxis])


def test_labels_in_equal_colours_are_grey_and_others_are_listed(tmp_path: Path):
    grey = np.repeat(VOLUME[0, ..., np.newaxis].astype(np.uint8), 3, axis=2)
    coloured = grey.copy()
    coloured[0, 0] = (255, 0, 0)
    _tiff(tmp_path / "a.tif", grey, photometric="rgb")
    _tiff(tmp_path / "b.tif", coloured, photometric="rgb")

    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif").array, VOLUME[:1])
    with pytest.raises(DataError, match=r"b\.tif: the labels are 20 colours, not values"):
        read_labels(tmp_path / "b.tif")


def test_one_bit_is_black_and_white(tmp_path: Path):
    path = _tiff(tmp_path / "a.tif", VOLUME[0] % 2 > 0, **GREY)

    np.testing.assert_array_equal(read_labels(path).array[0], VOLUME[0] % 2 * 255)


def test_the_print_resolution_of_a_picture_is_no_spacing(tmp_path: Path):
    path = _tiff(tmp_path / "a.tif", VOLUME[0], resolution=(300, 300), resolutionunit="INCH")

    assert _read(path)[1] == FLAT


# Volumes


@pytest.mark.parametrize("shape", [(3, 5, 4), (4, 5, 4), (6, 5, 3), (6, 4, 4), (2, 3, 3)])
def test_a_stack_of_three_or_four_is_no_colour(tmp_path: Path, shape: tuple[int, int, int]):
    volume = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    path = _tiff(tmp_path / "a.tif", volume, **GREY)

    array, geometry = _read(path)

    assert geometry == Geometry(shape=shape, spacing=(1, 1, 1))
    np.testing.assert_array_equal(array[0], volume)


def _by_pillow(path: Path) -> None:
    first, *others = (Image.fromarray(page) for page in VOLUME)
    first.save(path, save_all=True, append_images=others)


def _by_itk(path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(VOLUME), str(path))


def _page_by_page(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        for page in VOLUME:
            file.write(page, **GREY)


@pytest.mark.parametrize("write", [_by_pillow, _by_itk, _page_by_page])
def test_pages_are_slices_whoever_wrote_them(tmp_path: Path, write):
    write(tmp_path / "a.tif")

    np.testing.assert_array_equal(_read(tmp_path / "a.tif")[0][0], VOLUME)


@pytest.mark.parametrize(
    "options", [{"bigtiff": True}, {"compression": "zlib"}, {"tile": (16, 16)}, {"predictor": True}]
)
def test_all_ways_to_store_a_stack_are_read(tmp_path: Path, options: dict[str, object]):
    if "predictor" in options:
        options = options | {"compression": "zlib"}
    path = _tiff(tmp_path / "a.tif", VOLUME, **GREY, **options)

    np.testing.assert_array_equal(_read(path)[0][0], VOLUME)


def test_a_stack_of_coloured_pages_has_three_channels(tmp_path: Path):
    pages = np.arange(360, dtype=np.uint16).astype(np.uint8).reshape(6, 5, 4, 3)
    path = _tiff(tmp_path / "a.tif", pages, photometric="rgb")

    np.testing.assert_array_equal(_read(path)[0], pages.transpose(3, 0, 1, 2))


@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_channels_of_a_stack_come_first(tmp_path: Path, kind: str):
    stack = np.arange(240, dtype=np.uint16).reshape(6, 2, 5, 4)
    stored = stack if kind == "imagej" else stack.transpose(1, 0, 2, 3)
    axes = "ZCYX" if kind == "imagej" else "CZYX"
    path = _tiff(tmp_path / "a.tif", stored, **{kind: True}, metadata={"axes": axes}, **GREY)

    np.testing.assert_array_equal(_read(path)[0], stack.transpose(1, 0, 2, 3))


@pytest.mark.parametrize(
    ("num_pages", "metadata", "shape"),
    [
        (6, {"spacing": 2.0, "unit": "mm"}, (1, 6, 5, 9)),
        (8, {}, (1, 8, 5, 9)),
        (6, {}, (6, 1, 5, 9)),
    ],
)
def test_imagej_channels_with_a_distance_or_in_number_are_slices(
    tmp_path: Path, num_pages: int, metadata: dict[str, object], shape: tuple[int, ...]
):
    stack = np.arange(num_pages * 45, dtype=np.uint16).reshape(num_pages, 5, 9)
    # Without axes, tifffile calls the pages of an ImageJ file channels.
    path = _tiff(tmp_path / "a.tif", stack, imagej=True, metadata=metadata)

    array, _ = _read(path)

    np.testing.assert_array_equal(array, stack.reshape(shape))


@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_a_time_series_is_refused(tmp_path: Path, kind: str):
    path = _tiff(tmp_path / "a.tif", VOLUME, **{kind: True}, metadata={"axes": "TYX"}, **GREY)

    with pytest.raises(
        DataError, match=r"a\.tif: a time series of 6 frames; save each frame in a file .* ImageJ"
    ):
        read_image([path])


def test_more_axes_than_a_volume_has_are_refused(tmp_path: Path):
    path = _tiff(tmp_path / "a.tif", VOLUME.reshape(2, 3, 5, 4), **GREY)

    with pytest.raises(
        DataError, match=r"axes QQYX of size \(2, 3, 5, 4\) are no image or volume; save it with"
    ):
        read_image([path])


def test_the_largest_of_several_images_is_read(tmp_path: Path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(VOLUME[0, ::2, ::2], **GREY)
        file.write(VOLUME[0], subifds=1, **GREY)
        file.write(VOLUME[0, ::2, ::2], subfiletype=1, **GREY)

    np.testing.assert_array_equal(_read(tmp_path / "a.tif")[0][0], VOLUME[:1])


# Spacing


def test_spacing_comes_from_ome_xml_in_any_unit(tmp_path: Path):
    um = _tiff(tmp_path / "a.ome.tif", VOLUME, metadata=MICRONS, **GREY)
    units = {"PhysicalSizeXUnit": "nm", "PhysicalSizeYUnit": "\u03bcm", "PhysicalSizeZUnit": "mm"}
    mixed = _tiff(tmp_path / "b.ome.tif", VOLUME, metadata=MICRONS | units, **GREY)

    np.testing.assert_allclose(_read(um)[1].spacing, (0.002, 0.0005, 0.00025))
    np.testing.assert_allclose(_read(mixed)[1].spacing, (2.0, 0.0005, 0.25e-6))


def test_ome_xml_without_a_slice_distance_is_refused_with_a_way_out(tmp_path: Path):
    known = {key: value for key, value in MICRONS.items() if key != "PhysicalSizeZ"}
    path = _tiff(tmp_path / "b.1.ome.tif", VOLUME, metadata=known, **GREY)

    with pytest.raises(
        DataError,
        match=r'has no PhysicalSizeZ; put \{"spacing": \[z, y, x\]\} in mm into b\.1\.json beside',
    ):
        read_image([path])

    (tmp_path / "b.1.json").write_text('{"spacing": [3, 2, 1]}')
    assert _read(path)[1].spacing == (3.0, 2.0, 1.0)


def test_ome_xml_without_any_size_is_1_mm(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = _tiff(tmp_path / "a.ome.tif", VOLUME, metadata={"axes": "ZYX"}, **GREY)

    with caplog.at_level(logging.DEBUG, logger="autoseg"):
        assert read_image([path]).geometry.spacing == (1.0, 1.0, 1.0)

    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("DEBUG", f"{path}: no spacing found, taken as 1 mm")
    ]


def test_damaged_ome_xml_is_named(tmp_path: Path):
    text = "<?xml version='1.0'?><OME xmlns='http://x/OME/2016-06'><Pixels></OME>"
    path = _tiff(tmp_path / "a.tif", VOLUME, description=text, metadata=None, **GREY)

    with pytest.raises(DataError, match=r"a\.tif: .*damaged"):
        read_image([path])


@pytest.mark.parametrize(
    ("unit", "mm"),
    [("micron", 1e-3), ("\\u00B5m", 1e-3), ("um", 1e-3), ("nm", 1e-6), ("mm", 1), ("inch", 25.4)],
)
def test_spacing_comes_from_imagej_in_any_unit(tmp_path: Path, unit: str, mm: float):
    path = _tiff(
        tmp_path / "a.tif",
        VOLUME,
        imagej=True,
        resolution=(4.0, 2.0),
        metadata={"axes": "ZYX", "spacing": 3.0, "unit": unit},
    )

    np.testing.assert_allclose(_read(path)[1].spacing, np.array([3.0, 0.5, 0.25]) * mm)


def test_the_slice_distance_imagej_leaves_out_is_1(tmp_path: Path):
    path = _tiff(
        tmp_path / "a.tif",
        VOLUME,
        imagej=True,
        resolution=(4.0, 2.0),
        metadata={"axes": "ZYX", "unit": "micron"},
    )

    np.testing.assert_allclose(_read(path)[1].spacing, (1e-3, 0.5e-3, 0.25e-3))


@pytest.mark.parametrize(("name", "mm"), [("NONE", 1.0), ("CENTIMETER", 10.0)])
def test_without_a_unit_imagejs_numbers_are_in_that_of_the_resolution(
    tmp_path: Path, name: str, mm: float
):
    path = _tiff(
        tmp_path / "a.tif",
        VOLUME,
        imagej=True,
        resolution=(4.0, 2.0),
        resolutionunit=name,
        metadata={"axes": "ZYX", "spacing": 3.0},
    )

    np.testing.assert_allclose(_read(path)[1].spacing, np.array([3.0, 0.5, 0.25]) * mm)


def test_the_print_resolution_of_an_imagej_stack_is_no_spacing(tmp_path: Path):
    path = _tiff(
        tmp_path / "a.tif", VOLUME, imagej=True, resolution=(72, 72), metadata={"axes": "ZYX"}
    )

    assert _read(path)[1].spacing == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("name", ["case_1_0000.json", "case_1.json"])
def test_a_file_beside_the_image_has_the_last_word(tmp_path: Path, name: str):
    path = _tiff(tmp_path / "case_1_0000.tif", VOLUME, ome=True, metadata=MICRONS, **GREY)
    (tmp_path / name).write_text(json.dumps({"spacing": [3, 0.5, 0.25], "other": 1}))

    assert _read(path)[1].spacing == (3.0, 0.5, 0.25)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"a\.json: not valid JSON"),
        ("[]", r"a\.json: 'spacing' is missing; hold \{\"spacing\": \[z, y, x\]\} in mm"),
        ('{"Spacing": [1, 2, 3]}', r"a\.json: 'spacing' is missing"),
        ('{"spacing": [1, 2]}', r"'spacing' must be three positive numbers, found \[1, 2\]; hold"),
        ('{"spacing": [1, 2, 0]}', r"must be three positive numbers, found \[1, 2, 0\]"),
        ('{"spacing": [1, 2, true]}', r"must be three positive numbers, found \[1, 2, true\]"),
        ('{"spacing": "1 2 3"}', r"must be three positive numbers, found \"1 2 3\""),
    ],
)
def test_a_broken_file_beside_the_image_is_named(tmp_path: Path, content: str, message: str):
    path = _tiff(tmp_path / "a.tif", VOLUME, **GREY)
    (tmp_path / "a.json").write_text(content)

    with pytest.raises(DataError, match=message):
        read_image([path])


# Damage and what takes other packages


@pytest.mark.parametrize("write", [_by_pillow, _by_itk, _page_by_page])
@pytest.mark.parametrize("kept", [0.1, 0.3, 0.6, 0.9, 0.97])
def test_a_truncated_stack_is_named(
    tmp_path: Path, write, kept: float, caplog: pytest.LogCaptureFixture
):
    write(tmp_path / "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: int(len(content) * kept)])

    with pytest.raises(DataError, match=r"a\.tif: incomplete or damaged .*; copy it again"):
        read_image([tmp_path / "a.tif"])
    assert caplog.records == []


@pytest.mark.parametrize(
    "options", [{"imagej": True}, {"ome": True}, {"bigtiff": True}, {"compression": "zlib"}]
)
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_truncated_file_of_any_kind_is_named(
    tmp_path: Path, options: dict[str, object], kept: float
):
    noise = np.random.default_rng(0).integers(0, 60000, (6, 40, 50)).astype(np.uint16)
    path = _tiff(tmp_path / "a.tif", noise, **GREY, **options)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])

    with pytest.raises(DataError, match=r"a\.tif: incomplete or damaged"):
        read_image([path])


@pytest.mark.parametrize("content", [b"", b"II", b"not an image", b"II*\0\0\0\0\0"])
def test_what_is_no_tiff_is_named(tmp_path: Path, content: bytes):
    (tmp_path / "a.tif").write_bytes(content)

    with pytest.raises(DataError, match=r"a\.tif: (cannot be read|holds no image|incomplete)"):
        read_image([tmp_path / "a.tif"])


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"a\.tif: no such file"):
        read_image([tmp_path / "a.tif"])


def test_inks_and_complex_numbers_are_refused(tmp_path: Path):
    inks = _tiff(tmp_path / "a.tif", np.zeros((5, 4, 4), np.uint8), photometric="separated")
    waves = _tiff(tmp_path / "b.tif", np.zeros((5, 4), np.complex64))

    with pytest.raises(DataError, match=r"a\.tif: its colours are stored as CMYK; save it as RGB"):
        read_image([inks])
    with pytest.raises(
        DataError, match=r"b\.tif: pixels of type complex64 are not read; save real"
    ):
        read_image([waves])


def test_planes_in_other_files_are_missed(tmp_path: Path):
    first, other = tmp_path / "a.ome.tif", tmp_path / "b.ome.tif"
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        'UUID="urn:uuid:1"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
        'Type="uint16" SizeX="4" SizeY="5" SizeZ="2" SizeC="1" SizeT="1">'
        '<TiffData IFD="0" FirstZ="0" PlaneCount="1"><UUID FileName="a.ome.tif">urn:uuid:1'
        '</UUID></TiffData><TiffData IFD="0" FirstZ="1" PlaneCount="1">'
        '<UUID FileName="b.ome.tif">urn:uuid:2</UUID></TiffData></Pixels></Image></OME>'
    )
    _tiff(first, VOLUME[0], description=xml, metadata=None, **GREY)
    assert not other.exists()

    with pytest.raises(DataError, match=r"a\.ome\.tif: 1 of its 2 planes are in other files"):
        read_image([first])


@has_no_imagecodecs
def test_a_stack_that_cannot_be_decompressed_names_the_package(tmp_path: Path):
    first, *others = (Image.fromarray(page) for page in VOLUME)
    first.save(tmp_path / "a.tif", save_all=True, append_images=others, compression="tiff_lzw")

    with pytest.raises(
        DataError, match=r"a\.tif: compressed with LZW, which takes .*; pip install imagecodecs"
    ):
        read_image([tmp_path / "a.tif"])


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_pictures_need_no_package_to_decompress(tmp_path: Path, compression: str):
    Image.fromarray(VOLUME[0]).save(tmp_path / "a.tif", compression=compression)

    np.testing.assert_array_equal(_read(tmp_path / "a.tif")[0][0], VOLUME[:1])


def test_labels_compressed_as_photographs_are_refused(tmp_path: Path):
    grey = np.repeat(np.repeat(VOLUME[0].astype(np.uint8), 8, axis=0), 8, axis=1)
    Image.fromarray(grey).save(tmp_path / "a.tif", compression="jpeg")

    assert _read(tmp_path / "a.tif")[0].shape == (1, 1, 40, 32)
    with pytest.raises(DataError, match=r"a\.tif: its compression blurs label values; export"):
        read_labels(tmp_path / "a.tif")


@pytest.mark.usefixtures("no_tifffile")
@pytest.mark.parametrize("compression", ["jpeg", None])
def test_labels_compressed_as_photographs_are_refused_without_tifffile(
    tmp_path: Path, compression: str | None
):
    grey = np.repeat(np.repeat(VOLUME[0].astype(np.uint8), 8, axis=0), 8, axis=1)
    Image.fromarray(grey).save(tmp_path / "a.tif", compression=compression)

    if compression is None:
        np.testing.assert_array_equal(read_labels(tmp_path / "a.tif").array[0], grey)
        return
    with pytest.raises(DataError, match=r"a\.tif: its compression blurs label values"):
        read_labels(tmp_path / "a.tif")


@pytest.mark.usefixtures("no_tifffile")
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
def test_a_plain_grey_picture_needs_no_tifffile(tmp_path: Path, dtype: str):
    Image.fromarray(VOLUME[0].astype(dtype)).save(tmp_path / "a.tif")

    array, geometry = _read(tmp_path / "a.tif")

    assert geometry == FLAT
    assert array.dtype == dtype
    np.testing.assert_array_equal(array[0], VOLUME[:1])


@pytest.mark.usefixtures("no_tifffile")
@pytest.mark.parametrize("samples", [3, 4])
def test_a_plain_colour_picture_needs_no_tifffile(tmp_path: Path, samples: int):
    colours = np.arange(20 * samples, dtype=np.uint8).reshape(5, 4, samples)
    Image.fromarray(colours).save(tmp_path / "a.tif")

    array, _ = _read(tmp_path / "a.tif")

    np.testing.assert_array_equal(array[:, 0], colours[..., :3].transpose(2, 0, 1))


@pytest.mark.usefixtures("no_tifffile")
def test_a_palette_needs_no_tifffile(tmp_path: Path):
    indices = (VOLUME[0] % 3).astype(np.uint8)
    image = Image.fromarray(indices)
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    image.save(tmp_path / "a.tif")

    colours = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]])[indices].transpose(2, 0, 1)
    np.testing.assert_array_equal(_read(tmp_path / "a.tif")[0][:, 0], colours)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif").array[0], indices)


@pytest.mark.parametrize("dtype", ["bool", "uint8"])
def test_an_inverted_picture_keeps_its_numbers_with_and_without_tifffile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
):
    numbers = (VOLUME[0] % 2).astype(dtype)
    path = _tiff(tmp_path / "a.tif", numbers, photometric="miniswhite")
    expected = numbers * 255 if dtype == "bool" else numbers

    np.testing.assert_array_equal(_read(path)[0][0, 0], expected)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    np.testing.assert_array_equal(_read(path)[0][0, 0], expected)


@pytest.mark.parametrize(
    ("array", "options"),
    [
        (VOLUME, {}),
        (VOLUME[0].astype(np.float64), {}),
        (VOLUME[:3].transpose(1, 2, 0), {"photometric": "rgb"}),
    ],
)
def test_more_than_a_plain_picture_asks_for_tifffile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, array: np.ndarray, options: dict[str, object]
):
    path = _tiff(tmp_path / "a.tif", array, **(GREY | options))
    monkeypatch.setitem(sys.modules, "tifffile", None)

    message = r'a\.tif: stacks and other than plain TIFF .*; pip install "autoseg\[micro\]"'
    with pytest.raises(AutosegError, match=message):
        read_image([path])
    with pytest.raises(AutosegError, match=message):
        read_geometry(path)


def test_the_hidden_pages_of_a_large_imagej_stack_ask_for_tifffile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = _tiff(tmp_path / "a.tif", VOLUME[0], description="ImageJ=1.54f\nimages=6\nslices=6\n")
    monkeypatch.setitem(sys.modules, "tifffile", None)

    with pytest.raises(AutosegError, match="autoseg\\[micro\\]"):
        read_image([path])


# Writing


@pytest.mark.parametrize("name", ["a.tif", "a.TIFF", "a.ome.tif"])
@pytest.mark.parametrize("highest", [200, 60000, 70000, 2**32 - 1])
def test_a_volume_is_read_back_with_its_spacing(tmp_path: Path, name: str, highest: int):
    geometry = Geometry(shape=(6, 5, 4), spacing=(2.5, 0.742187, 0.0002))
    array = np.arange(120).reshape(6, 5, 4)
    array[5, 4, 3] = highest

    write_labels(tmp_path / name, LabelMap(array=array, geometry=geometry))

    found = read_labels(tmp_path / name)
    np.testing.assert_array_equal(found.array, array)
    np.testing.assert_allclose(found.geometry.spacing, geometry.spacing, rtol=1e-6)
    assert found.geometry.distance_vox(geometry) < 1e-4


def test_a_written_volume_is_a_compressed_imagej_stack(tmp_path: Path):
    geometry = Geometry(shape=(60, 50, 40), spacing=(2.5, 0.5, 0.25))
    labels = LabelMap(array=np.ones(geometry.shape, np.uint8), geometry=geometry)

    write_labels(tmp_path / "a.tif", labels)

    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.imagej_metadata is not None
        assert file.imagej_metadata["slices"] == 60
        assert (file.imagej_metadata["spacing"], file.imagej_metadata["unit"]) == (2.5, "mm")
        assert file.pages.first.tags["XResolution"].value == (4, 1)
        assert file.pages.first.tags["YResolution"].value == (2, 1)
    assert (tmp_path / "a.tif").stat().st_size < 60 * 50 * 40 / 4


def test_a_slice_is_written_as_a_plain_picture(tmp_path: Path):
    write_labels(tmp_path / "a.tif", LabelMap(array=VOLUME[:1], geometry=FLAT))

    with Image.open(tmp_path / "a.tif") as image:
        np.testing.assert_array_equal(np.asarray(image), VOLUME[0])
    assert read_labels(tmp_path / "a.tif").geometry == FLAT


@pytest.mark.usefixtures("no_tifffile")
def test_a_slice_but_no_volume_is_written_without_tifffile(tmp_path: Path):
    volume = Geometry(shape=(6, 5, 4), spacing=(1.0, 1.0, 1.0))

    write_labels(tmp_path / "a.tif", LabelMap(array=VOLUME[:1], geometry=FLAT))

    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif").array, VOLUME[:1])
    for array, geometry in ((VOLUME, volume), (VOLUME[:1].astype(int) + 70000, FLAT)):
        with pytest.raises(AutosegError, match=r"autoseg\[micro\]"):
            write_labels(tmp_path / "b.tif", LabelMap(array=array, geometry=geometry))
    assert [file.name for file in tmp_path.iterdir()] == ["a.tif"]


def test_a_place_in_the_world_is_refused(tmp_path: Path):
    moved = Geometry(shape=(6, 5, 4), spacing=(1, 1, 1), origin=(0, 0, 2.0))
    mirrored = Geometry(
        shape=(6, 5, 4), spacing=(1, 1, 1), direction=((1, 0, 0), (0, -1, 0), (0, 0, 1))
    )

    for geometry in (moved, mirrored):
        with pytest.raises(AutosegError, match=r"a TIFF holds no origin and no direction; write"):
            write_labels(tmp_path / "a.tif", LabelMap(array=VOLUME, geometry=geometry))


def test_a_volume_of_one_slice_is_refused(tmp_path: Path):
    geometry = Geometry(shape=(1, 5, 4), spacing=(5.0, 1.0, 1.0))

    with pytest.raises(AutosegError, match=r"one slice holds no slice thickness \(5 mm\); write"):
        write_labels(tmp_path / "a.tif", LabelMap(array=VOLUME[:1], geometry=geometry))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.tif", ".tif"),
        ("a.TIFF", ".tiff"),
        ("a.ome.tif", ".ome.tif"),
        ("a.ome.tiff", ".ome.tiff"),
    ],
)
def test_labels_of_a_tiff_are_a_tiff(name: str, expected: str):
    assert formats.label_suffix(Path(name), 0, 2**32 - 1) == expected
    assert formats.stem(Path(name)) == "a"
