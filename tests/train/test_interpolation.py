from itertools import product

import numpy as np
import pytest
from scipy import ndimage

from autoseg.train.augmentation.grid import Grid
from autoseg.train.augmentation.interpolation import sample


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def points_of(grid: Grid) -> np.ndarray:
    index = np.indices(grid.shape).reshape(len(grid.shape), -1)
    return grid.origin[:, None] + grid.matrix @ index


def naive_label(labels: np.ndarray, point: np.ndarray) -> int:
    """The strongest of the one-label masks; a tie goes to the nearest voxel, else the smallest."""
    low = np.floor(point).astype(int)
    scores: dict[int, float] = {}
    for side in product((0, 1), repeat=len(point)):
        weight = np.prod(np.where(side, point - low, 1 - (point - low)))
        label = int(labels[tuple(low + side)])
        scores[label] = scores.get(label, 0.0) + float(weight)
    best = max(scores.values())
    winners = sorted(label for label, score in scores.items() if score > best - 1e-9)
    nearest = int(labels[tuple(low + (point - low > 0.5))])
    return nearest if nearest in winners else winners[0]


TURNED = Grid(
    matrix=np.array([[0.8, 0.3, -0.2], [-0.25, 0.9, 0.1], [0.15, -0.1, 1.1]]),
    origin=np.array([2.25, 2.5, 1.125]),
    shape=(7, 5, 6),
)
STRAIGHT = Grid(
    matrix=np.diag([0.75, 1.25, 0.5]), origin=np.array([1.25, 0.0, 2.5]), shape=(9, 6, 10)
)
PLANE = Grid(matrix=np.array([[0.7, -0.4], [0.4, 0.7]]), origin=np.array([4.0, 1.0]), shape=(8, 9))
FLAT = Grid(matrix=np.diag([0.5, 1.5]), origin=np.array([0.5, 0.25]), shape=(11, 6))
BOXES = {2: (12, 13), 3: (11, 12, 13)}


@pytest.mark.parametrize("grid", [TURNED, STRAIGHT, PLANE, FLAT])
def test_images_are_interpolated_linearly(grid):
    box = BOXES[len(grid.shape)]
    images = rng(1).normal(size=(3, *box)).astype(np.float32)
    result, _ = sample(images, np.zeros((1, *box), np.int16), grid)
    for image, found in zip(images, result, strict=True):
        expected = ndimage.map_coordinates(image.astype(np.float64), points_of(grid), order=1)
        np.testing.assert_allclose(found.ravel(), expected, atol=2e-6)


@pytest.mark.parametrize("grid", [TURNED, STRAIGHT, PLANE, FLAT])
@pytest.mark.parametrize("num_labels", [2, 6])
def test_labels_are_the_strongest_of_their_cell(grid, num_labels):
    box = BOXES[len(grid.shape)]
    labels = rng(2, num_labels).integers(-1, num_labels - 1, (2, *box)).astype(np.int16)
    _, result = sample(np.zeros((1, *box), np.float32), labels, grid)
    for source, found in zip(labels, result, strict=True):
        expected = [naive_label(source, point) for point in points_of(grid).T]
        np.testing.assert_array_equal(found.ravel(), expected)


def test_a_tie_goes_to_the_nearest_voxel_and_else_to_the_smallest_label():
    labels = np.array([[[5, 2, 9], [5, 7, 9], [5, 7, 9]]], dtype=np.int16)
    grid = Grid(matrix=np.eye(2), origin=np.array([0.0, 0.5]), shape=(2, 2))
    _, halves = sample(np.zeros((1, 3, 3), np.float32), labels, grid)
    np.testing.assert_array_equal(halves[0], [[5, 2], [5, 7]])
    grid = Grid(matrix=np.eye(2), origin=np.array([0.5, 0.5]), shape=(1, 2))
    _, corners = sample(np.zeros((1, 3, 3), np.float32), labels, grid)
    np.testing.assert_array_equal(corners[0], [[5, 9]])


def test_one_label_needs_no_looking():
    labels = np.full((1, 11, 12, 13), 4, dtype=np.int16)
    for grid in (TURNED, STRAIGHT):
        _, result = sample(np.zeros((1, 11, 12, 13), np.float32), labels, grid)
        assert (result == 4).all()


def test_large_grids_are_put_together_from_pieces():
    box = (60, 70, 80)
    z, y, x = np.indices(box, dtype=np.float32)
    images = np.stack([z, y, x])
    labels = (z + y > 60).astype(np.int16)[None]
    turn = np.array([[1.0, 0.02, 0.01], [-0.02, 1.0, 0.03], [0.0, -0.03, 1.0]])
    for matrix in (turn, np.diag([0.9, 1.0, 1.1])):
        grid = Grid(matrix=matrix, origin=np.array([1.5, 3.0, 4.0]), shape=(50, 55, 60))
        result, found = sample(images, labels, grid)
        points = points_of(grid).reshape(3, *grid.shape)
        np.testing.assert_allclose(result, points, atol=2e-5)
        sure = np.abs(points[0] + points[1] - 60.5) > 1.5
        np.testing.assert_array_equal(
            found[0][sure], (points[0] + points[1] > 60.5).astype(np.int16)[sure]
        )
