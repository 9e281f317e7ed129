"""Data sets of every kind, as spacings and shapes only, drawn at random.

Plain data, so that another program can be given the same ones as JSON.
"""

import numpy as np

PRESETS = ("default", "resenc", "resenc-m", "resenc-l", "resenc-xl")
CHANNELS = (
    *(("CT",), ("ct",), ("MRI",), ("T1", "T1c", "T2", "FLAIR"), ("T2", "ADC"), ("CT", "PET")),
    *(("R", "G", "B"), ("rgb_to_0_1",) * 3, ("rescale_to_0_1",), ("noNorm", "zscore")),
)
NUM_CASES = ((1, 1), (2, 4), (5, 20), (20, 80), (100, 400))


def draw_data_set(seed):
    """Draw a data set and the preset it is planned with.

    Args:
        seed: decides everything.

    Returns:
        A JSON object: ``kind``, ``spacings`` and ``shapes`` per case, ``channels``,
        ``num_structures``, ``has_ignore``, ``relative_size``, ``preset``.
    """
    rng = np.random.default_rng(seed)
    kind = str(rng.choice(list(KINDS), p=WEIGHTS))
    spacing, shape = KINDS[kind](rng)
    order = rng.permutation(3) if shape[0] > 1 and rng.random() < 0.25 else np.arange(3)
    low, high = NUM_CASES[rng.choice(len(NUM_CASES), p=[0.1, 0.15, 0.35, 0.3, 0.1])]
    num_cases = int(rng.integers(low, high + 1))
    spacings = _spacings(rng, np.asarray(spacing, float), num_cases)
    shapes = _shapes(rng, np.asarray(shape, float), num_cases)
    return {
        "kind": kind,
        "spacings": [[float(mm) for mm in row[order]] for row in spacings],
        "shapes": [[int(size) for size in row[order]] for row in shapes],
        "channels": list(CHANNELS[rng.integers(len(CHANNELS))]),
        "num_structures": int(rng.choice([1, 2, 3, int(rng.integers(4, 60))])),
        "has_ignore": bool(rng.random() < 0.2),
        "relative_size": float(rng.choice([1.0, 0.75, round(rng.uniform(0.1, 1), 4)])),
        "preset": str(rng.choice(PRESETS)),
    }


def _log(rng, low, high, size=None):
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def _isotropic(rng):
    edge = _log(rng, 16, 500)
    return [_log(rng, 0.2, 4)] * 3, edge * rng.uniform(0.7, 1.4, 3)


def _cube(rng):
    return [rng.choice([0.5, 1, 1.5])] * 3, [rng.choice([64, 128, 181, 240, 256, 320, 512])] * 3


def _ct(rng):
    in_plane = rng.uniform(0.5, 1.2)
    slices = _log(rng, 30, 800)
    return [rng.choice([0.5, 1, 1.25, 2, 2.5, 3, 5]), in_plane, in_plane], [slices, 512, 512]


def _thick_slices(rng):
    in_plane, edges = rng.uniform(0.3, 2), _log(rng, 64, 640) * rng.uniform(0.7, 1.4, 2)
    return [in_plane * rng.uniform(2, 12), in_plane, in_plane], [rng.integers(2, 40), *edges]


def _picture(rng):
    return [999, 1, 1], [1, *_log(rng, 12, 3000, 2)]


def _small_picture(rng):
    return [999, 1, 1], [1, *_log(rng, 12, 100, 2)]


def _slide(rng):
    return [999, 1, 1], [1, *_log(rng, 3000, 60000, 2)]


def _microscopy(rng):
    return np.array([rng.uniform(1, 10), 1, 1]) * _log(rng, 1e-4, 1e-2), _log(rng, 20, 1500, 3)


def _beyond(rng):
    spacing, extent_mm = _log(rng, 0.1, 8, 3), _log(rng, 20, 400) * _log(rng, 0.4, 2.5, 3)
    return spacing, np.clip(extent_mm / spacing, 16, 1500)


KINDS = {
    "isotropic": _isotropic,
    "cube": _cube,
    "ct": _ct,
    "thick slices": _thick_slices,
    "picture": _picture,
    "small picture": _small_picture,
    "slide": _slide,
    "microscopy": _microscopy,
    "beyond": _beyond,
}
WEIGHTS = (0.15, 0.05, 0.2, 0.2, 0.1, 0.05, 0.05, 0.1, 0.1)


def _spacings(rng, spacing, num_cases):
    """One for all, those of a few scanners, or one per case; as exact as files store them."""
    if spacing[0] == 999:
        return np.tile(spacing, (num_cases, 1))
    num_scanners = [1, int(rng.integers(2, 5)), num_cases][rng.integers(3)]
    spread = rng.choice([0.05, 0.4, 1])
    # In-plane spacings stay equal where they are, coarse and fine axes differ on their own.
    coarse, fine = np.exp(spread * rng.uniform(-1, 1, (2, num_scanners, 1)))
    scanners = spacing * np.hstack([coarse, fine, fine])
    if spacing[0] == spacing[1] and rng.random() < 0.7:
        scanners = np.tile(scanners[:, :1], 3)
    storage = rng.choice(["float64", "float32", "digits"])
    if storage == "float32":
        scanners = scanners.astype(np.float32).astype(float)
    elif storage == "digits" and scanners.min() > 0.1:
        scanners = scanners.round(3)
    return scanners[np.arange(num_cases) % num_scanners]


def _shapes(rng, shape, num_cases):
    if shape[0] == shape[1] == shape[2] or rng.random() < 0.3:
        return np.tile(np.maximum(1, shape.round()), (num_cases, 1))
    spread = 0 if shape[0] == 1 else rng.choice([0.1, 0.4])
    factors = np.exp(rng.uniform(-1, 1, (num_cases, 3)) * [spread, 0.3, 0.3])
    sizes = (shape * factors).round()
    return np.maximum(sizes, [1 if shape[0] == 1 else 2, 12, 12])
