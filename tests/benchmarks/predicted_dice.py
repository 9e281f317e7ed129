"""How well a trained fold predicts its own Dice: on held-out cases, and where images get worse.

usage: python tests/benchmarks/predicted_dice.py WORKSPACE TASK CONFIGURATION [FOLD] [--plan NAME]
           [--run NAME] [--noise 0.5,1,2] [--cases 20]

Run ``autoseg validate`` before. The first part only reads what that left: it learns from half of
the patients and is checked on the other half. With ``--noise`` cases of the other half are
predicted again, with noise of some standard deviations of the image on top; true and predicted
Dice of all of them are compared. Nothing in the workspace is changed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean

import numpy as np
from scipy.stats import pearsonr, spearmanr

from autoseg.core.dataset import Dataset
from autoseg.core.image import Image
from autoseg.core.metrics import Report
from autoseg.core.quality import QualityModel
from autoseg.evaluate.measure import Wanted, measure_case
from autoseg.io import artifacts, bundle
from autoseg.io.images import read_image, read_labels
from autoseg.io.task import load_dataset
from autoseg.io.workspace import TaskFolder
from autoseg.pipeline.quality import scored_cases
from autoseg.predict.loading import PredictOptions, load_segmenter
from autoseg.predict.quality import calibrate, described, halves
from autoseg.predict.record import load_record
from autoseg.predict.watching import Watched


def worse(image: Image, strength: float, seed: int) -> Image:
    """An image with Gaussian noise, in standard deviations of its own."""
    noise = np.random.default_rng(seed).normal(0, 1, image.array.shape)
    spread = image.array.std(axis=(1, 2, 3), keepdims=True)
    array = (image.array + strength * spread * noise).astype(np.float32)
    return Image(array=array, geometry=image.geometry)


def true_and_predicted(
    watched: Watched, image: Image, dataset: Dataset, name: str, quality: QualityModel
) -> tuple[float, float] | None:
    """Mean Dice over the structures of which both are known."""
    label_map = watched.segmenter.segment(image)
    reference = read_labels(dataset.label_path(dataset.case(name)), dataset.labels)
    to_indices = dataset.labels.to_indices
    scores = measure_case(
        to_indices(label_map.array),
        to_indices(reference.array),
        dataset.labels,
        reference.geometry,
        Wanted(metrics=("dice",)),
    ).structures
    pairs = [
        (true, predicted)
        for structure, signals in watched.signals[0].items()
        if (true := scores[structure].dice) is not None
        and (predicted := quality.dice(structure, signals)) is not None
    ]
    return (fmean(p[0] for p in pairs), fmean(p[1] for p in pairs)) if pairs else None


def main() -> None:
    """Print correlation and error."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("task")
    parser.add_argument("configuration")
    parser.add_argument("fold", nargs="?", default="fold0")
    parser.add_argument("--plan", default="default")
    parser.add_argument("--run", default="default")
    parser.add_argument("--noise", default="")
    parser.add_argument("--cases", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="auto")
    asked = parser.parse_args()
    task = TaskFolder(asked.workspace / asked.task)
    where = (asked.plan, asked.configuration, asked.run, asked.fold)
    report = artifacts.load(task.report_file(*where), Report, remedy="run: autoseg validate")
    cases = scored_cases(report, load_record(task.predictions(*where)))
    folder = task.fold_folder(*where)
    structures = bundle.load_model(folder.bundle).labels.names
    quality = calibrate(cases, structures)
    print("\n".join(described(quality, structures, len(cases))))
    strengths = [float(part) for part in asked.noise.split(",") if part]
    if quality is None or not strengths:
        return
    dataset = load_dataset(task)
    options = PredictOptions(device=asked.device, precision=asked.precision)
    segmenter = load_segmenter([[folder.bundle]], options)
    groups = {case.group for case in halves(cases)[1]}
    others = [case.name for case in report.cases if (case.group or case.name) in groups]
    pairs: list[tuple[float, float]] = []
    for strength in (0.0, *strengths):
        own: list[tuple[float, float]] = []
        for seed, name in enumerate(others[: asked.cases]):
            image = worse(read_image(dataset.image_paths(dataset.case(name))), strength, seed)
            found = true_and_predicted(Watched.over(segmenter), image, dataset, name, quality)
            own += [] if found is None else [found]
        true, predicted = (fmean(side) for side in zip(*own, strict=True))
        print(f"noise {strength:g}: Dice {true:.3f}, predicted {predicted:.3f} ({len(own)} cases)")
        pairs += own
    true, predicted = zip(*pairs, strict=True)
    error = fmean(abs(a - b) for a, b in pairs)
    print(
        f"all {len(pairs)}: correlation {pearsonr(true, predicted)[0]:.2f}, of ranks "
        f"{spearmanr(true, predicted)[0]:.2f}, mean error {error:.3f}"
    )


if __name__ == "__main__":
    main()
