"""Plans as plain data, in the reference's words: ours, its own, and where two differ."""

from autoseg.core.fingerprint import CaseFingerprint, Fingerprint, IntensityStats
from autoseg.core.labels import LabelSpace, Structure
from autoseg.plan.planner import PlanRequest, make_plan

SCHEMES = {
    "ct": "CTNormalization",
    "zscore": "ZScoreNormalization",
    "none": "NoNormalization",
    "rescale_to_0_1": "RescaleTo01Normalization",
    "rgb_to_0_1": "RGBTo01Normalization",
}
STATS = IntensityStats(
    mean=101, median=100, std=50, min=-10, max=300, percentile_00_5=-58, percentile_99_5=302
)


def our_plan(data_set, **wishes):
    """What autoseg plans for a drawn data set when it is to decide as the reference does.

    Args:
        data_set: as ``draw_data_set`` makes it.
        wishes: further fields of ``PlanRequest``.
    """
    measured = Fingerprint.model_construct(
        label_values=(0, 1),
        cases=tuple(
            CaseFingerprint.model_construct(
                name=f"case_{index:04d}",
                shape=tuple(shape),
                spacing=tuple(spacing),
                relative_size=data_set["relative_size"],
                label_voxels=(),
                original_shape=tuple(shape),
                orientation="SPL",
                channels=(),
                structures=(),
                files=(),
            )
            for index, (spacing, shape) in enumerate(
                zip(data_set["spacings"], data_set["shapes"], strict=True)
            )
        ),
        intensities=(STATS,) * len(data_set["channels"]),
    )
    request = PlanRequest(preset=data_set["preset"], compatible=True, **wishes)
    return as_plain(make_plan(measured, data_set["channels"], _labels(data_set), request))


def _labels(data_set):
    last = data_set["num_structures"]
    return LabelSpace(
        structures=tuple(Structure(name=f"s{i}", values=(i,)) for i in range(1, last + 1)),
        ignore=last + 1 if data_set["has_ignore"] else None,
    )


def num_label_entries(data_set):
    """Background, structures and ignore label."""
    return 1 + data_set["num_structures"] + data_set["has_ignore"]


def as_plain(plan):
    """A plan of autoseg."""
    configurations = {
        name: {
            "spacing": list(planned.spacing),
            "median_shape": list(planned.median_shape),
            "patch_size": list(planned.patch_size),
            "batch_size": planned.batch_size,
            "batch_dice": planned.batch_dice,
            "previous": planned.previous,
            "normalization": [SCHEMES[scheme] for scheme in planned.normalization],
            "use_mask_for_norm": list(planned.use_mask_for_norm),
            "strides": [list(row) for row in planned.network.strides],
            "kernel_sizes": [list(row) for row in planned.network.kernel_sizes],
            "features": list(planned.network.features_per_stage),
            "blocks": list(planned.network.blocks_per_stage),
            "decoder_blocks": list(planned.network.decoder_blocks_per_stage),
        }
        for name, planned in plan.configurations.items()
    }
    return {"transpose": list(plan.transpose), "configurations": configurations}


def reference_as_plain(plans):
    """Plans the reference wrote, whole or condensed to the fields its users compare."""
    written = plans["configurations"]
    configurations = {
        name: _reference_configuration({**written.get(entry.get("inherits_from"), {}), **entry})
        for name, entry in written.items()
    }
    return {"transpose": plans["transpose_forward"], "configurations": configurations}


def _reference_configuration(entry):
    network = entry.get("architecture", {}).get("arch_kwargs", entry)
    blocks = ("n_blocks_per_stage", "n_conv_per_stage", "n_conv_or_blocks")
    plain = {
        "spacing": entry["spacing"],
        "median_shape": entry["median_image_size_in_voxels"],
        "patch_size": entry["patch_size"],
        "batch_size": entry["batch_size"],
        "batch_dice": entry["batch_dice"],
        "previous": entry.get("previous_stage"),
        "normalization": entry["normalization_schemes"],
        "use_mask_for_norm": entry["use_mask_for_norm"],
        "strides": network["strides"],
        "kernel_sizes": network["kernel_sizes"],
        "features": network["features_per_stage"],
        "blocks": next(network[key] for key in blocks if key in network),
    }
    if "n_conv_per_stage_decoder" in network:
        plain["decoder_blocks"] = network["n_conv_per_stage_decoder"]
    return plain


def differences(ours, theirs):
    """Where two plain plans differ, one line per field; empty if they are equal.

    Fields that ``theirs`` does not state are not compared.
    """
    names = sorted(ours["configurations"]), sorted(theirs["configurations"])
    found = [] if names[0] == names[1] else [f"configurations: {names[0]}, not {names[1]}"]
    if ours["transpose"] != theirs["transpose"]:
        found.append(f"transpose: {ours['transpose']}, not {theirs['transpose']}")
    for name in set(names[0]) & set(names[1]):
        planned, wanted = ours["configurations"][name], theirs["configurations"][name]
        found += [
            f"{name}.{field}: {planned[field]}, not {value}"
            for field, value in wanted.items()
            if planned[field] != value
        ]
    return found
