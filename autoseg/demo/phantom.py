"""Generated abdomens: CT-like images of two kidneys, some with a tumour.

The anatomy is coarse, the difficulties are those of real data. Grids are oblique, off-origin,
anisotropic and differ between cases. The spleen and the vessels look like kidney, and tumours
look like liver, muscle and bowel, so that no interval of intensities finds them: what tells
them apart is where they lie and what they bulge from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.spatial.transform import Rotation

from autoseg.core.geometry import Geometry, Matrix, Triple
from autoseg.core.image import Image, LabelMap
from autoseg.core.labels import LabelSpace, Structure

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Range = tuple[float, float]

KIDNEY = 1
TUMOUR = 2

LABELS = LabelSpace(
    structures=(
        Structure(name="kidney", values=(KIDNEY,)),
        Structure(name="tumour", values=(TUMOUR,)),
    )
)
"""What the labels of a generated case mean."""

CHANNELS = ("CT",)
"""Channel names of a generated case."""

AIR_HU, FAT_HU, MARROW_HU, PELVIS_HU = -1000.0, -100.0, 220.0, 15.0

EVERYWHERE = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomSpec:
    """What generated cases are like; every pair is a range drawn from uniformly.

    Attributes:
        size_z: slices, both ends included.
        size_y: rows per slice, both ends included.
        size_x: columns per slice, both ends included.
        spacing_z: distance of slices, mm.
        spacing_yx: distance of rows and of columns, mm.
        tilt_deg: rotation of the grid about each of its axes.
        origin_mm: position of the first voxel along each world axis.
        kidney_hu: intensity of kidneys, spleen and vessels.
        soft_hu: intensity of liver, muscles and bowel.
        tumour_contrast_hu: how much brighter than the liver a tumour is.
        tumour_radius_mm: mean radius of a tumour.
        ripple: relative unevenness of organ surfaces, one standard deviation.
        texture_hu: unevenness within organs, one standard deviation.
        bias_hu: smooth change of intensity over the image, one standard deviation.
        noise_hu: noise, one standard deviation.
        blur_vox: standard deviation of the blur within a slice.
    """

    size_z: tuple[int, int] = (20, 26)
    size_y: tuple[int, int] = (56, 64)
    size_x: tuple[int, int] = (64, 72)
    spacing_z: Range = (3.7, 4.3)
    spacing_yx: Range = (2.1, 2.4)
    tilt_deg: Range = (-8.0, 8.0)
    origin_mm: Range = (-200.0, 200.0)
    kidney_hu: Range = (165.0, 190.0)
    soft_hu: Range = (75.0, 95.0)
    tumour_contrast_hu: Range = (-3.0, 3.0)
    tumour_radius_mm: Range = (14.0, 19.0)
    ripple: float = 0.05
    texture_hu: float = 8.0
    bias_hu: float = 3.0
    noise_hu: float = 14.0
    blur_vox: float = 0.6


STANDARD = PhantomSpec()
"""The cases of the demo: a small network learns them in a few hundred steps."""


def make_case(
    rng: np.random.Generator, *, with_tumour: bool, spec: PhantomSpec = STANDARD
) -> tuple[Image, LabelMap]:
    """Generate one examination and its reference segmentation.

    Args:
        rng: all randomness; equal states give equal cases.
        with_tumour: whether one of the kidneys carries a tumour.
        spec: what cases are like.

    Returns:
        One channel of whole Hounsfield units, float32 ``(1, z, y, x)``, and labels 0, ``KIDNEY``
        and ``TUMOUR``, uint8 ``(z, y, x)``, on the same grid.
    """
    geometry = _random_geometry(rng, spec)
    scene = _Scene(geometry, rng, spec)
    _paint_trunk(scene)
    _paint_bowel(scene)
    _paint_kidneys(scene, with_tumour=with_tumour)
    image = Image(array=scene.scan()[np.newaxis], geometry=geometry)
    return image, LabelMap(array=scene.labels, geometry=geometry)


class _Scene:
    """Intensities and labels under construction.

    Positions are ``(superior, posterior, left)`` of the middle of the image, in mm, whatever
    way the grid is turned.
    """

    def __init__(self, geometry: Geometry, rng: np.random.Generator, spec: PhantomSpec) -> None:
        voxels = np.moveaxis(np.indices(geometry.shape), 0, -1)
        middle = geometry.voxel_to_world((np.asarray(geometry.shape) - 1) / 2)
        self._points = geometry.voxel_to_world(voxels) - middle
        self._shape = geometry.shape
        self._spacing = geometry.spacing
        self.rng = rng
        self.spec = spec
        self.hu = np.full(geometry.shape, AIR_HU)
        self.labels = np.zeros(geometry.shape, dtype=np.uint8)
        self.kidney_hu = rng.uniform(*spec.kidney_hu)
        self.soft_hu = rng.uniform(*spec.soft_hu)
        self._ripple = spec.ripple * self._smooth_noise(scale_mm=10)

    def near(self, centre: Triple, spread_mm: float = 2.0) -> Floats:
        """A random position close to another."""
        return np.asarray(centre) + self.rng.uniform(-spread_mm, spread_mm, 3)

    def ellipsoid(
        self,
        centre: npt.ArrayLike,
        semi_axes_mm: Triple,
        *,
        tilt_deg: float = 0,
        relief: float = 1,
    ) -> Mask:
        """Voxels of an uneven ellipsoid; an infinite first axis makes it a tube.

        The tilt turns its upper end to the right; the relief multiplies the spec's ripple.
        """
        offsets = (self._points - np.asarray(centre)) @ _rotation(0, tilt_deg, 0)
        radii = np.linalg.norm(offsets / np.asarray(semi_axes_mm), axis=-1)
        return radii <= 1 + relief * self._ripple

    def paint(self, mask: Mask, hu: float, label: int = 0) -> None:
        """Fill voxels with a tissue."""
        self.hu[mask] = hu
        self.labels[mask] = label

    def scan(self) -> npt.NDArray[np.float32]:
        """The image a scanner would make, in whole HU."""
        spec = self.spec
        tissue = self.hu + spec.texture_hu * self._smooth_noise(scale_mm=5)
        seen = ndimage.gaussian_filter(tissue, (0, spec.blur_vox, spec.blur_vox), mode="nearest")
        seen += spec.bias_hu * self._smooth_noise(scale_mm=60)
        seen += self.rng.normal(scale=spec.noise_hu, size=seen.shape)
        return np.rint(np.clip(seen, -1024, 3071)).astype(np.float32)

    def _smooth_noise(self, scale_mm: float) -> Floats:
        """A random field of mean 0 and standard deviation 1."""
        sigmas = [scale_mm / spacing for spacing in self._spacing]
        noise = ndimage.gaussian_filter(self.rng.normal(size=self._shape), sigmas, mode="wrap")
        return (noise - noise.mean()) / noise.std()


def _paint_trunk(scene: _Scene) -> None:
    """Body wall, spine, muscles beside it, vessels, liver, stomach and spleen."""
    rng, soft = scene.rng, scene.soft_hu
    depth, width = rng.uniform(52, 57), rng.uniform(64, 70)
    for wall_mm, hu in ((0, soft), (7, FAT_HU)):
        semi_axes = (EVERYWHERE, depth - wall_mm, width - wall_mm)
        scene.paint(scene.ellipsoid((0, 0, 0), semi_axes, relief=0.4), hu)
    scene.paint(scene.ellipsoid(scene.near((12, -16, -32)), (42, 24, 26)), soft)
    scene.paint(scene.ellipsoid(scene.near((6, -20, 30)), (34, 17, 19)), soft)
    scene.paint(scene.ellipsoid(scene.near((18, 2, 50)), (22, 18, 10)), scene.kidney_hu)
    for side in (-1, 1):
        scene.paint(scene.ellipsoid(scene.near((0, 37, 18 * side)), (EVERYWHERE, 11, 14)), soft)
        scene.paint(scene.ellipsoid(scene.near((0, 16, 15 * side)), (EVERYWHERE, 10, 8)), soft)
        vessel = scene.ellipsoid(scene.near((0, 2, 7 * side), 1), (EVERYWHERE, 6, 6))
        scene.paint(vessel, scene.kidney_hu)
    scene.paint(scene.ellipsoid(scene.near((0, 24, 0), 1), (EVERYWHERE, 13, 12)), MARROW_HU)


def _paint_bowel(scene: _Scene) -> None:
    """A few loops in front, as bright as the tumours."""
    for _ in range(5):
        height, front, left = scene.rng.uniform((-45, -38, -10), (45, -14, 40))
        radius = scene.rng.uniform(7, 12)
        loop = scene.ellipsoid((height, front, left), (1.4 * radius, radius, radius))
        scene.paint(loop, scene.soft_hu + scene.rng.uniform(*scene.spec.tumour_contrast_hu))


def _paint_kidneys(scene: _Scene, *, with_tumour: bool) -> None:
    """Two kidneys, each with its pelvis, and a tumour on one of them."""
    sick_side = int(scene.rng.choice((-1, 1)))
    for side in (-1, 1):
        centre = scene.near((0, 15, 37 * side), 3)
        size = scene.rng.uniform(0.92, 1.08)
        tilt = scene.rng.uniform(5, 15) * side
        kidney = scene.ellipsoid(centre, (31 * size, 16 * size, 15 * size), tilt_deg=tilt)
        scene.paint(kidney, scene.kidney_hu, KIDNEY)
        inward = np.array((0, -2, -6 * side))
        pelvis = scene.ellipsoid(centre + inward, (14, 5, 7), tilt_deg=tilt)
        scene.paint(kidney & pelvis, PELVIS_HU, KIDNEY)
        if with_tumour and side == sick_side:
            _paint_tumour(scene, centre, size, side)


def _paint_tumour(scene: _Scene, kidney: Floats, size: float, side: int) -> None:
    """A lump that bulges out of the upper or lower half of a kidney, off its pelvis."""
    height = scene.rng.uniform(0.4, 0.8) * scene.rng.choice((-1, 1))
    angle = np.deg2rad(scene.rng.uniform(-60, 60))
    across = np.sqrt(1 - height**2)
    outward = np.array([height, across * np.sin(angle), across * np.cos(angle) * side])
    centre = kidney + outward * size * (31, 16, 15)
    radius = scene.rng.uniform(*scene.spec.tumour_radius_mm)
    stretch = scene.rng.uniform(0.9, 1.1, 3)
    contrast = scene.rng.uniform(*scene.spec.tumour_contrast_hu)
    lump = scene.ellipsoid(centre, _triple(radius * stretch)) & (scene.hu > AIR_HU)
    scene.paint(lump, scene.soft_hu + contrast, TUMOUR)


def _random_geometry(rng: np.random.Generator, spec: PhantomSpec) -> Geometry:
    sizes = (spec.size_z, spec.size_y, spec.size_x)
    z, y, x = (int(rng.integers(low, high + 1)) for low, high in sizes)
    in_plane = float(rng.uniform(*spec.spacing_yx))
    origin = rng.uniform(*spec.origin_mm, 3)
    return Geometry(
        shape=(z, y, x),
        spacing=(float(rng.uniform(*spec.spacing_z)), in_plane, in_plane),
        origin=_triple(origin),
        direction=_matrix(_rotation(*rng.uniform(*spec.tilt_deg, 3))),
    )


def _rotation(*angles_deg: float) -> Floats:
    """Rotation by one angle about each axis."""
    return Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()


def _triple(values: Floats) -> Triple:
    first, second, third = (float(value) for value in values)
    return first, second, third


def _matrix(values: Floats) -> Matrix:
    first, second, third = (_triple(row) for row in values)
    return first, second, third
