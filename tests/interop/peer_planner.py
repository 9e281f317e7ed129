"""Plan with nnU-Net: a data set per line of standard input, its plans per line of output.

Runs in nnU-Net's own environment, started by ``plans_against_peer.py``.
"""

import contextlib
import json
import os
import sys
import tempfile
from pathlib import Path

NAME = "Dataset001_Drawn"
STATS = ("mean", "median", "std", "min", "max", "percentile_00_5", "percentile_99_5")


def write_data_set(folder, data_set):
    """What the planner reads: a description and a fingerprint, no image."""
    values = range(1, data_set["num_structures"] + 1)
    labels = {"background": 0, **{f"s{value}": value for value in values}}
    if data_set["has_ignore"]:
        labels["ignore"] = len(labels)
    channels = dict(enumerate(data_set["channels"]))
    description = {
        "channel_names": channels,
        "labels": labels,
        "numTraining": len(data_set["shapes"]),
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "SimpleITKIO",
        "dataset": {"case": {"images": ["case_0000.nii.gz"], "label": "case.nii.gz"}},
    }
    fingerprint = {
        "spacings": data_set["spacings"],
        "shapes_after_crop": data_set["shapes"],
        "median_relative_size_after_cropping": data_set["relative_size"],
        "foreground_intensity_properties_per_channel": {
            str(channel): dict.fromkeys(STATS, 1.0) for channel in channels
        },
    }
    (folder / "raw" / NAME / "dataset.json").write_text(json.dumps(description))
    (folder / "preprocessed" / NAME / "dataset_fingerprint.json").write_text(
        json.dumps(fingerprint)
    )


def plan(folder, planner, data_set):
    """The plans that are written for a data set."""
    import torch

    write_data_set(folder, data_set)
    maker = planner(NAME)
    written = folder / "preprocessed" / NAME / f"{maker.plans_identifier}.json"
    written.unlink(missing_ok=True)
    # The networks that are built to count their features need no memory for their weights.
    with torch.device("meta"):
        maker.plan_experiment()
    return json.loads(written.read_text())


def planners():
    """The class that makes the plans of each preset."""
    from nnunetv2.experiment_planning.experiment_planners import default_experiment_planner
    from nnunetv2.experiment_planning.experiment_planners.residual_unets import (
        residual_encoder_unet_planners as residual,
    )

    return {
        "default": default_experiment_planner.ExperimentPlanner,
        "resenc": residual.ResEncUNetPlanner,
        "resenc-m": residual.nnUNetPlannerResEncM,
        "resenc-l": residual.nnUNetPlannerResEncL,
        "resenc-xl": residual.nnUNetPlannerResEncXL,
    }


def main():
    """Answer every line; what the planner prints itself is dropped."""
    answers = sys.stdout
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(sys.stderr):
        folder = Path(name)
        for kind in ("raw", "preprocessed", "results"):
            (folder / kind / NAME).mkdir(parents=True)
            os.environ[f"nnUNet_{kind}"] = str(folder / kind)
        of_preset = planners()
        for line in sys.stdin:
            data_set = json.loads(line)
            try:
                answer = {"plans": plan(folder, of_preset[data_set["preset"]], data_set)}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
