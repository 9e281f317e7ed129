import matplotlib.image
import numpy as np
import pytest
from PIL import Image

from autoseg.figures.cases import draw_overlay


@pytest.mark.parametrize("kind", ["colour", "grey"])
def test_a_colour_picture_is_shown_in_its_colours(tmp_path, kind):
    shape = (40, 60, 3) if kind == "colour" else (40, 60)
    pixels = np.full(shape, (200, 40, 90) if kind == "colour" else 120, dtype=np.uint8)
    pixels[::2] += 20
    Image.fromarray(pixels).save(tmp_path / "image.png")
    labels = np.zeros((40, 60), dtype=np.uint8)
    labels[10:20, 10:30] = 1
    Image.fromarray(labels).save(tmp_path / "labels.png")
    draw_overlay(tmp_path / "image.png", tmp_path / "labels.png", tmp_path / "overlay.png")

    drawn = matplotlib.image.imread(tmp_path / "overlay.png")[..., :3]
    middle = drawn[drawn.shape[0] // 2, : drawn.shape[1] // 2]
    reddish = (middle[:, 0] > middle[:, 2] + 0.2) & (middle[:, 2] > middle[:, 1] + 0.1)
    assert (reddish.mean() > 0.3) == (kind == "colour")
