"""A CT of 512 x 512 x 800 voxels segmented from file to file: time, and memory at the peak.

Run with the project's python:

    python tests/benchmarks/large_ct.py                     # 3 classes
    python tests/benchmarks/large_ct.py --classes 24 --size 100,256,256

Everything is real (reading, preparing, the sliding window, restoring, writing) but the weights,
which are drawn, and the width of the network, whose patch is that of the plan for such data:
with ``--features 8`` it takes some minutes on two cores, with 32, as planned, as long as the
network takes (see tiles_against_peer.py). No mirrors. The memory that was estimated before the
start stands beside what was measured.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

from autoseg.core.fingerprint import IntensityStats
from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.model import Member, Model
from autoseg.core.plan import Configuration, NetworkSpec, Plan, TrainingSpec

PATCH = (112, 160, 128)
SPACING = (1.0, 0.78, 0.78)
STRIDES = ((1, 1, 1), *((2, 2, 2),) * 4, (1, 2, 2))
STAGES = len(STRIDES)
WEIGHTS = "weights.safetensors"


def main() -> None:
    """Make the image and the model, and segment it in a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="800,512,512", help="z, y, x of the image")
    parser.add_argument("--spacing", default="0.8,0.78,0.78", help="mm of the image, z, y, x")
    parser.add_argument("--classes", type=int, default=3)
    parser.add_argument("--features", type=int, default=8, help="of the finest stage")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--folder", type=Path, help="where files are kept; temporary without")
    parser.add_argument("--part", choices=("predict",), help="what the script calls itself with")
    options = parser.parse_args()
    if options.part:
        _predict(options)
        return
    with tempfile.TemporaryDirectory() as temporary:
        options.folder = options.folder or Path(temporary)
        options.folder.mkdir(parents=True, exist_ok=True)
        _make_image(options)
        _make_model(options)
        command = [sys.executable, "-W", "ignore", __file__, *sys.argv[1:], "--part", "predict"]
        subprocess.run([*command, "--folder", str(options.folder)], check=True)


def _triple(text: str) -> tuple[float, float, float]:
    z, y, x = map(float, text.split(","))
    return z, y, x


def _make_image(options: argparse.Namespace) -> None:
    """A body of soft tissue with bright blobs in air, noisy, as int16."""
    import nibabel

    path = options.folder / "ct.nii.gz"
    if path.exists():
        return
    shape = tuple(map(int, _triple(options.size)))
    rng = np.random.default_rng(0)
    voxels = np.empty(shape, dtype=np.int16)
    y, x = (np.linspace(-1, 1, size, dtype=np.float32) for size in shape[1:])
    body = (y[:, None] / 0.6) ** 2 + (x[None] / 0.85) ** 2 < 1
    bright = (y[:, None] - 0.1) ** 2 + (x[None] - 0.3) ** 2 < 0.02
    for row in voxels:
        noise = rng.integers(-20, 20, shape[1:], dtype=np.int16)
        row[...] = np.where(body, 40, -1000) + noise + 100 * bright
    affine = np.diag((*(-size for size in reversed(_triple(options.spacing)[1:])), 1.0, 1.0))
    affine[2, 2] = _triple(options.spacing)[0]
    image = nibabel.nifti1.Nifti1Image(voxels.T, affine)
    nibabel.loadsave.save(image, path)


def _make_model(options: argparse.Namespace) -> None:
    """The model file and drawn weights of a network with the plan's patch."""
    import torch

    from autoseg.io import bundle
    from autoseg.networks.build import build_network

    model = _model(options.classes, options.features)
    bundle.save_model(options.folder / "bundle.json", model)
    torch.manual_seed(0)
    network = build_network(
        model.configuration.network, 1, model.labels.num_outputs, deep_supervision=False
    )
    bundle.save_weights(options.folder / WEIGHTS, network.state_dict())


def _model(classes: int, features: int) -> Model:
    plan = Plan(
        name="default",
        preset="default",
        transpose=(0, 1, 2),
        budget_bytes=8 * 10**9,
        channels=("CT",),
        label_values=tuple(range(classes)),
        intensities=(
            IntensityStats(
                mean=60.0,
                median=55.0,
                std=80.0,
                min=-1000.0,
                max=1500.0,
                percentile_00_5=-150.0,
                percentile_99_5=300.0,
            ),
        ),
        configurations={"3d_fullres": _configuration(features)},
        decisions=(),
    )
    organs = [Structure(name=f"organ {value}", values=(value,)) for value in range(1, classes)]
    return Model(
        task="Task_LargeCT",
        run="default",
        channels=plan.channels,
        labels=LabelSpace(structures=tuple(organs)),
        plan=plan,
        training=plan.configurations["3d_fullres"].training,
        held_out=(),
        members=(Member(configuration="3d_fullres", fold="fold0", weights=WEIGHTS),),
        min_spacing=SPACING,
        max_spacing=SPACING,
        versions={},
    )


def _configuration(features: int) -> Configuration:
    return Configuration(
        spacing=SPACING,
        patch_size=PATCH,
        batch_size=2,
        median_shape=(500, 512, 512),
        batch_dice=False,
        normalization=("ct",),
        use_mask_for_norm=(False,),
        network=NetworkSpec(
            architecture="unet",
            features_per_stage=tuple(min(features * 2**n, 10 * features) for n in range(STAGES)),
            strides=STRIDES,
            kernel_sizes=((3, 3, 3),) * STAGES,
            blocks_per_stage=(2,) * STAGES,
            decoder_blocks_per_stage=(2,) * (STAGES - 1),
        ),
        training=TrainingSpec(),
    )


def _predict(options: argparse.Namespace) -> None:
    """Segment the image, and print what it took beside what was estimated."""
    import torch

    from autoseg.io.images import read_geometry, read_image, write_labels
    from autoseg.predict.loading import PredictOptions, load_segmenter
    from autoseg.predict.memory import prediction_memory

    torch.set_num_threads(options.threads)
    seconds = {"start": time.perf_counter()}
    bundles = [[options.folder / "bundle.json"]]
    segmenter = load_segmenter(bundles, PredictOptions(device="cpu", precision=options.precision))
    path = options.folder / "ct.nii.gz"
    memory = prediction_memory(segmenter.predictors, read_geometry(path)[0])
    print(f"network: {type(segmenter.predictors[0].networks[0]).__name__}")
    seconds["loaded"] = time.perf_counter()
    image = read_image([path])
    seconds["read"] = time.perf_counter()
    print(f"peak when read: {_peak_gb():.2f} GB", flush=True)
    labels = segmenter.segment(image)
    seconds["segmented"] = time.perf_counter()
    write_labels(options.folder / "labels.nii.gz", labels)
    seconds["written"] = time.perf_counter()
    for (before, start), (after, end) in pairwise(seconds.items()):
        print(f"{before} to {after}: {end - start:.1f} s")
    print(f"all: {seconds['written'] - seconds['start']:.1f} s")
    print(f"memory at the peak: {_peak_gb():.2f} GB, estimated {memory.total / 1e9:.2f} GB")
    print({name: round(getattr(memory, name) / 1e9, 2) for name in memory.__slots__})


def _peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


if __name__ == "__main__":
    main()
