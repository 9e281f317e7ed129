"""The reference's planning rules, step by step as its description states them.

Plain functions on plain data, slow and repetitive on purpose, and nothing of autoseg in them:
what the planner is held against. Sections are those of the description of the reference's planning.
"""

import math

import numpy as np

# Section 1: elements of a 3D and a 2D sample, the memory they stand for in GB, the largest part
# of the data set in a batch, blocks per encoder and decoder stage.
PRESETS = {
    "default": (560_000_000, 85_000_000, 8, 0.05, [2] * 30, 2),
    "resenc": (680_000_000, 135_000_000, 8, 0.05, [1, 3, 4] + [6] * 27, 1),
    "resenc-m": (680_000_000, 135_000_000, 8, 1.0, [1, 3, 4] + [6] * 27, 1),
    "resenc-l": (2_100_000_000, 380_000_000, 24, 1.0, [1, 3, 4] + [6] * 27, 1),
    "resenc-xl": (3_600_000_000, 560_000_000, 40, 1.0, [1, 3, 4] + [6] * 27, 1),
}
SCHEMES = {
    "ct": "CTNormalization",
    "nonorm": "NoNormalization",
    "zscore": "ZScoreNormalization",
    "rescale_to_0_1": "RescaleTo01Normalization",
    "rgb_to_0_1": "RGBTo01Normalization",
}


def naive_plan(
    spacings,
    shapes,
    channels,
    num_labels,
    relative_size,
    preset,
    memory_gb=None,
    wanted_spacing=None,
):
    """Plan a data set.

    Args:
        spacings: mm of every case, ``(z, y, x)``.
        shapes: voxels of every case after cropping, ``(z, y, x)``.
        channels: channel names.
        num_labels: entries of ``labels``: background, ignore label and regions count.
        relative_size: median part of a case that cropping leaves.
        preset: a key of ``PRESETS``.
        memory_gb: GPU memory, or None for the preset's.
        wanted_spacing: target spacing ``(z, y, x)`` in raw axis order, or None.

    Returns:
        ``transpose`` and ``configurations``: name to a dictionary of decisions.
    """
    target = list(wanted_spacing) if wanted_spacing else target_spacing(spacings, shapes)
    coarsest = target.index(max(target))
    transpose = [coarsest] + [axis for axis in range(3) if axis != coarsest]
    spacing = [target[axis] for axis in transpose]

    resampled = [
        [round(old / new * size) for old, new, size in zip(*case, strict=True)]
        for case in (
            (case_spacing, target, shape) for case_spacing, shape in pairs(spacings, shapes)
        )
    ]
    median_raw = [float(np.median([shape[axis] for shape in resampled])) for axis in range(3)]
    median = [median_raw[axis] for axis in transpose]
    num_cases = len(spacings)
    voxels = math.prod(median) * num_cases

    settings = (num_labels, preset, memory_gb)
    planned = {"2d": {**one_configuration(spacing[1:], median[1:], voxels, *settings)}}
    planned["2d"]["batch_dice"] = True
    if median[0] != 1:
        full = one_configuration(spacing, median, voxels, *settings)
        low = low_resolution(spacing, median, full, num_cases, settings)
        full["batch_dice"] = low is not None
        planned["3d_fullres"] = full
        if low is not None:
            low["batch_dice"] = False
            planned["3d_lowres"] = low
            planned["3d_cascade_fullres"] = {**full, "previous": "3d_lowres"}
    schemes, masks = normalization(channels, relative_size)
    for configuration in planned.values():
        configuration.setdefault("previous", None)
        configuration["normalization"] = schemes
        configuration["use_mask_for_norm"] = masks
    return {"transpose": transpose, "configurations": planned}


def pairs(first, second):
    return zip(first, second, strict=True)


def target_spacing(spacings, shapes):
    """Section 2."""
    spacings, shapes = np.array(spacings, float), np.array(shapes, float)
    target = [float(np.percentile(spacings[:, axis], 50)) for axis in range(3)]
    size = [float(np.median(shapes[:, axis])) for axis in range(3)]
    worst = target.index(max(target))
    others = [axis for axis in range(3) if axis != worst]
    finest_limit = max(target[axis] for axis in others)
    coarse_in_mm = target[worst] > 3 * finest_limit
    few_voxels = size[worst] * 3 < min(size[axis] for axis in others)
    if coarse_in_mm and few_voxels:
        tenth = float(np.percentile(spacings[:, worst], 10))
        if tenth < finest_limit:
            tenth = max(finest_limit, tenth) + 1e-5
        target[worst] = tenth
    return target


def one_configuration(spacing, median, voxels, num_labels, preset, memory_gb):
    """Section 5."""
    elements_3d, elements_2d, preset_gb, fraction, blocks, decoder_blocks = PRESETS[preset]
    flat = len(spacing) == 2
    reference_batch = 12 if flat else 2
    limit = elements_2d if flat else elements_3d
    if memory_gb is not None:
        limit = limit * (memory_gb / preset_gb)

    patch = first_patch(spacing, median)
    patch, strides, kernels, divisor = topology(spacing, patch)
    elements = count_elements(patch, strides, preset, num_labels)
    while too_large(elements, limit, preset, reference_batch):
        part = [size / whole for size, whole in pairs(patch, median)]
        axis = max(range(len(patch)), key=lambda axis: (part[axis], axis))
        tentative = list(patch)
        tentative[axis] -= divisor[axis]
        step = topology(spacing, tentative)[3]
        patch[axis] -= step[axis]
        patch, strides, kernels, divisor = topology(spacing, patch)
        elements = count_elements(patch, strides, preset, num_labels)

    batch = round(limit / elements * reference_batch)
    cap = round(voxels * fraction / math.prod(patch))
    stages = len(strides)
    return {
        "spacing": list(spacing),
        "median_shape": list(median),
        "patch_size": patch,
        "batch_size": max(min(batch, cap), 2),
        "strides": strides,
        "kernel_sizes": kernels,
        "features": features(stages, flat),
        "blocks": blocks[:stages],
        "decoder_blocks": [decoder_blocks] * (stages - 1),
    }


def too_large(elements, limit, preset, reference_batch):
    """Section 5.5: the plain planner asks for a batch of two, the others for a whole one."""
    if preset == "default":
        return elements / reference_batch * 2 > limit
    return elements > limit


def first_patch(spacing, median):
    """Section 5.1."""
    fineness = [1 / mm for mm in spacing]
    dimensions = len(spacing)
    whole = 2048**2 if dimensions == 2 else 256**3
    factor = (whole / math.prod(fineness)) ** (1 / dimensions)
    return [min(round(fine * factor), size) for fine, size in pairs(fineness, median)]


def topology(spacing, patch):
    """Section 5.2: patch, strides, kernels and what the patch is divisible by."""
    axes = range(len(spacing))
    now, size = list(spacing), list(patch)
    pools, kernel = [0 for _ in axes], [1 for _ in axes]
    strides, kernels = [[1 for _ in axes]], []
    while True:
        able = [axis for axis in axes if size[axis] >= 8]
        if not able:
            break
        finest = min(now[axis] for axis in able)
        able = [axis for axis in able if now[axis] / finest < 2]
        if len(able) == 1 and size[able[0]] < 12:
            break
        for axis in axes:
            if now[axis] / min(now) < 2:
                kernel[axis] = 3
        for axis in able:
            pools[axis] += 1
            now[axis] *= 2
            size[axis] = math.ceil(size[axis] / 2)
        strides.append([2 if axis in able else 1 for axis in axes])
        kernels.append(list(kernel))
    kernels.append([3 for _ in axes])
    divisor = [2**count for count in pools]
    rounded = [math.ceil(whole / by) * by for whole, by in pairs(patch, divisor)]
    return rounded, strides, kernels, divisor


def features(stages, flat):
    """Section 5.3."""
    return [min(512 if flat else 320, 32 * 2**stage) for stage in range(stages)]


def count_elements(patch, strides, preset, num_labels):
    """Section 5.4: output elements of every convolution, one layer after the other."""
    blocks, decoder_blocks = PRESETS[preset][4:]
    channels = features(len(strides), len(patch) == 2)
    sizes, size = [], list(patch)
    for row in strides:
        size = [length // by for length, by in pairs(size, row)]
        sizes.append(math.prod(size))
    layers = []
    for stage, row in enumerate(strides):
        output = channels[stage] * sizes[stage]
        if preset == "default":
            layers += [output] * blocks[stage]
            continue
        if stage == 0:
            layers.append(output)  # stem
        before = channels[max(stage - 1, 0)]
        if before != channels[stage] or max(row) > 1:
            layers.append(output)  # shortcut of the first block
        layers += [output, output] * blocks[stage]
    for stage in range(len(strides) - 1):
        output = channels[stage] * sizes[stage]
        layers += [output] * (decoder_blocks + 1)  # and the transposed convolution
    layers.append(num_labels * sizes[0])
    return sum(layers)


def low_resolution(full_spacing, full_median, full, num_cases, settings):
    """Section 6."""
    spacing, patch = list(full_spacing), full["patch_size"]
    voxels, low = math.prod(full_median), None
    while math.prod(patch) / voxels < 0.25:
        coarsest = max(spacing)
        fine = [axis for axis in range(3) if coarsest / spacing[axis] > 2]
        for axis in fine or range(3):
            spacing[axis] *= 1.03
        sizes = [
            before / now * length
            for before, now, length in zip(full_spacing, spacing, full_median, strict=True)
        ]
        voxels = math.prod(sizes)
        median = [round(length) for length in sizes]
        low = one_configuration(spacing, median, voxels * num_cases, *settings)
        patch = low["patch_size"]
    return low if math.prod(full_median) / voxels >= 2 else None


def normalization(channels, relative_size):
    """Section 7."""
    schemes = [SCHEMES.get(name.casefold(), "ZScoreNormalization") for name in channels]
    masks = [scheme == "ZScoreNormalization" and relative_size < 0.75 for scheme in schemes]
    return schemes, masks
