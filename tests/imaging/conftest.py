from types import SimpleNamespace

import numpy as np
import pytest


@pytest.fixture
def phantom():
    """Test case T of the reference: a wavy image with zero margins, a hole and a corner box."""
    z, y, x = np.meshgrid(*map(np.arange, (24, 40, 32)), indexing="ij")
    image = (100 * np.sin(0.3 * z + 0.2 * y) + 50 * np.cos(0.25 * x) + 10).astype(np.float32)
    image[:2] = 0
    image[:, :3] = 0
    image[10:12, 20:24, 10:14] = 0
    image[:6, :8, :8] = 0
    distance = (z - 12) ** 2 / 36 + (y - 22) ** 2 / 100 + (x - 16) ** 2 / 80
    labels = np.zeros(image.shape, dtype=np.int16)
    labels[distance < 1] = 1
    labels[distance < 0.25] = 2
    return SimpleNamespace(image=image[None], labels=labels)
