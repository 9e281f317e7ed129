"""Samples of a seed stay what they were: recorded before draws and changes were set apart."""

import hashlib

import numpy as np
import pytest

from autoseg.train.augmentation.augment import AUGMENTATIONS, apply, box_to_read, draw_warp

SAMPLES = 60

# Hash of what the generators give after the samples, sums over the samples of the mean absolute
# intensity, of one voxel, and of the labels.
RECORDED = [
    ("default", (12, 20, 16), "b0b6d470095ac69e", 34.94939, -2.39974, 114839),
    ("default", (4, 20, 16), "98005ed231c718e3", 37.21006, 8.48793, 38177),
    ("default", (24, 18), "78c1103b7d462a9d", 38.24045, -3.71185, 12930),
    ("no-mirror", (12, 20, 16), "bb43ad9025d53414", 34.94939, -7.98403, 114839),
    ("no-mirror", (4, 20, 16), "5743b42145fc0a65", 37.21006, 12.47845, 38177),
    ("no-mirror", (24, 18), "2c91a8f02983e122", 38.24045, 5.85120, 12930),
    ("light", (12, 20, 16), "b4d9a61a89ba73e8", 25.65242, -1.20266, 115718),
    ("light", (4, 20, 16), "53723448b2cab74c", 32.02447, 2.78069, 38572),
    ("light", (24, 18), "53723448b2cab74c", 31.77513, 2.65408, 12950),
    ("strong", (12, 20, 16), "93594b3cf7922240", 56.43734, -13.25605, 115068),
    ("strong", (4, 20, 16), "c953e75bb8d8546d", 52.48060, 7.56745, 38262),
    ("strong", (24, 18), "4d3fe1f49421912a", 48.72661, 18.95297, 12852),
    ("none", (12, 20, 16), "04b9514040e2a01f", 47.96099, -2.25082, 115333),
    ("none", (4, 20, 16), "04b9514040e2a01f", 48.00131, 8.83068, 38393),
    ("none", (24, 18), "04b9514040e2a01f", 47.70034, -4.84585, 12861),
]


@pytest.mark.parametrize(
    ("name", "patch", "draws", "size", "voxel", "label_sum"),
    RECORDED,
    ids=[f"{name}-{len(patch)}d-{patch[0]}" for name, patch, *_ in RECORDED],
)
def test_samples_are_drawn_and_made_as_they_were(name, patch, draws, size, voxel, label_sum):
    augmentation = AUGMENTATIONS.get(name)(patch, tuple(range(len(patch))))
    after, sizes, voxels, sums = hashlib.sha256(), 0.0, 0.0, 0
    for number in range(SAMPLES):
        rng, source = (np.random.default_rng((stream, number)) for stream in (11, 12))
        warp = draw_warp(augmentation, rng)
        box = box_to_read(augmentation, warp)
        labels = source.integers(-1, 3, box.size).astype(np.int16)
        image = source.normal(size=(2, *box.size)).astype(np.float32)
        image, labels = apply(image, labels, warp, augmentation, rng)
        after.update(rng.integers(2**63, size=2).tobytes())
        sizes += float(np.abs(image).mean(dtype=np.float64))
        voxels += float(image.reshape(2, -1)[1, 7])
        sums += int(labels.sum())
    assert after.hexdigest()[:16] == draws
    assert sizes == pytest.approx(size, abs=2e-4)
    assert voxels == pytest.approx(voxel, abs=2e-3)
    assert sums == pytest.approx(label_sum, abs=2)
