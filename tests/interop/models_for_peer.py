"""Trained models of autoseg, exported: label maps of nnU-Net against those autoseg predicts.

usage: python tests/interop/models_for_peer.py --peer PEER/bin/python
       [--sets plain tiles residual regions cascade] [--folder FOLDER]
       [--epochs 3] [--steps 30]
       python tests/interop/models_for_peer.py --peer PEER/bin/python --models MODEL --images IN

PEER is a virtual environment with nnunetv2. By default small models are trained on the toy data
of the tests: the plain network in 2D and 3D, in 3D with patches so small that 27 and more cover
an image, the residual one in 3D, overlapping regions in 2D with mirrored axes, and a cascade.
With --models, trained folds of one configuration are exported instead (bundle.json of each), and
the images of a folder, named CASE_0000.nii.gz, are predicted. Both sides compute in float32 on
the CPU.

Counted are the voxels whose labels differ, and why, as in models_from_peer.py:

- ties: what decides is closer than half-precision numbers can tell;
- stage: of a cascade, nnU-Net's label map of the previous stage explains it. nnU-Net reads that
  map from the grid of the image, autoseg from the logits of the previous stage;
- border: sums in half precision explain nnU-Net's label.

The exit code is 1 if a voxel differs for none of these reasons.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from beside_peer import HERE, PeerFolders, run
from models_from_peer import Outcome, explain

for _part in ("", "train"):
    sys.path.insert(0, str(HERE.parent / _part))

from cascades import add_cascade  # noqa: E402
from conftest import make_toy, toy_case, write_toy_dataset  # noqa: E402

from autoseg.cli.main import main as autoseg  # noqa: E402
from autoseg.exchange.nnunet_export import ForNnunet, export_to_nnunet  # noqa: E402
from autoseg.io.images import read_image, read_labels, write_image  # noqa: E402
from autoseg.io.predict_inputs import predict_inputs  # noqa: E402
from autoseg.io.workspace import TaskFolder, Workspace  # noqa: E402
from autoseg.pipeline.data import plan_folder  # noqa: E402
from autoseg.pipeline.training import train_and_validate  # noqa: E402
from autoseg.plan.planner import PlanRequest  # noqa: E402
from autoseg.predict.loading import PredictOptions, load_predictor  # noqa: E402
from autoseg.preprocess.stage import preprocess_task  # noqa: E402
from autoseg.train.inputs import TrainRequest  # noqa: E402

FOLDS = ("fold0", "fold1")
NEW = range(6, 9)
ON_CPU = ("--device", "cpu", "--precision", "float32")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """Folds of one configuration, and images none of them has seen.

    Attributes:
        name: in the table.
        bundles: ``bundle.json`` of each fold.
        images: folder of images named ``CASE_0000.nii.gz``.
    """

    name: str
    bundles: tuple[Path, ...]
    images: Path


def make_models(name: str, folder: Path, options: argparse.Namespace) -> Iterator[Trained]:
    """Train small models of a kind on toy data, unless that is done."""
    images = folder / "images"
    if not images.is_dir():
        for number in NEW:
            write_image(images / f"new_{number:02d}_0000.nii.gz", toy_case(number)[0])
    if name == "plain":
        task = make_toy_task(folder, PlanRequest(), options)
        wanted = {"2d": FOLDS[:1], "3d_fullres": FOLDS}
    elif name == "tiles":
        task = make_toy_task(folder, PlanRequest(patch_size=(8, 16, 12)), options)
        wanted = {"3d_fullres": FOLDS[:1]}
    elif name == "residual":
        task = make_toy_task(folder, PlanRequest(preset="resenc-m"), options)
        wanted = {"3d_fullres": FOLDS[:1]}
    elif name == "regions":
        task = make_toy_task(folder, PlanRequest(mirror_axes=(0, 1, 2)), options, regions=True)
        wanted = {"2d": FOLDS[:1]}
    else:
        task = make_toy_task(folder, PlanRequest(), options)
        add_small_cascade(task, options)
        wanted = {"3d_lowres": FOLDS, "3d_cascade_fullres": FOLDS[:1]}
    for configuration, folds in wanted.items():
        for fold in folds:
            train(task, configuration, fold)
        if configuration != "3d_lowres":
            bundles = tuple(
                task.fold_folder("default", configuration, "default", fold).bundle for fold in folds
            )
            yield Trained(name=f"{name} {configuration}", bundles=bundles, images=images)


def make_toy_task(
    folder: Path, request: PlanRequest, options: argparse.Namespace, *, regions: bool = False
) -> TaskFolder:
    """Write and plan the toy data; networks are small, and trainings short."""
    task = TaskFolder(folder / "autoseg_workspace" / "Task01_Ball")
    if task.exists:
        return task
    if request == PlanRequest() and not regions:
        make_toy(folder)
    else:
        raw = write_toy_dataset(folder / "Task01_Ball")
        if regions:
            describe_regions(raw / "dataset.json")
        plan_folder(Workspace(folder / "autoseg_workspace"), raw, request, workers=0)
        assert preprocess_task(task, workers=0) == []
    edit_plan(task, options)
    return task


def describe_regions(file: Path) -> None:
    """The ball, and the core in it, as structures that overlap."""
    described = json.loads(file.read_text())
    described |= {"labels": {"background": 0, "ball": [1, 2], "core": 2}}
    file.write_text(json.dumps(described | {"regions_class_order": [1, 2]}))


def edit_plan(task: TaskFolder, options: argparse.Namespace) -> None:
    """Make networks small, and trainings short."""
    plan = json.loads(task.plan_file("default").read_text())
    for planned in plan["configurations"].values():
        stages = len(planned["network"]["features_per_stage"])
        planned["network"]["features_per_stage"] = [min(8 * 2**i, 32) for i in range(stages)]
        planned["batch_size"] = 2
        planned["training"] |= {
            "epochs": options.epochs,
            "steps_per_epoch": options.steps,
            "validation_steps": 1,
            "learning_rate": 0.03,
        }
    task.plan_file("default").write_text(json.dumps(plan))


def add_small_cascade(task: TaskFolder, options: argparse.Namespace) -> None:
    """Plan a cascade, two folds of which hold out every case."""
    if "3d_lowres" in json.loads(task.plan_file("default").read_text())["configurations"]:
        return
    names = [f"ball_{number:02d}" for number in range(6)]
    add_cascade(task, names[:3], names[3:])
    edit_plan(task, options)


def train(task: TaskFolder, configuration: str, fold: str) -> None:
    """Train a fold, unless that is done."""
    if task.fold_folder("default", configuration, "default", fold).is_finished:
        return
    request = TrainRequest(
        configuration=configuration, fold=fold, device="cpu", precision="float32", workers=0
    )
    train_and_validate(task, request)
    print(f"trained {task.root.parent.parent.name} {configuration} {fold}", flush=True)


def predict_with_peer(
    written: ForNnunet, trained: Trained, folder: Path, peer: Path
) -> tuple[Path, Path | None]:
    """Let nnU-Net predict, the previous stage first.

    Returns:
        Folders of its label maps and of those of the previous stage.
    """
    previous: Path | None = None
    before: Path | None = None
    for number, model in enumerate(written.folders):
        before, output = previous, folder / f"theirs_{number}"
        words = ["-i", trained.images, "-o", output, "-m", model, "-f", *written.folds[number]]
        words += ["-device", "cpu", "-npp", "1", "-nps", "1"]
        if written.reads_previous[number]:
            words += ["-prev_stage_predictions", previous]
        command = peer.parent / "nnUNetv2_predict_from_modelfolder"
        run([str(word) for word in (command, *words)], PeerFolders(folder))
        previous = output
    assert previous is not None
    return previous, before


def predict_ours(trained: Trained, folder: Path) -> Path:
    """Predict with autoseg, each fold given by its file, or their mean from the workspace."""
    output = folder / "ours"
    first = trained.bundles[0]
    if len(trained.bundles) == 1:
        model = ["-m", str(first)]
    else:
        task, folds = first.parents[5], ",".join(path.parent.name for path in trained.bundles)
        model = ["-w", str(task.parent), "-t", task.name, "-c", first.parents[2].name, "-f", folds]
    words = ["predict", "-i", trained.images, "-o", output, "-q", *model, *ON_CPU]
    try:
        autoseg([str(word) for word in words])
    except SystemExit as left:
        if left.code:
            raise
    return output


def compare(trained: Trained, folder: Path, peer: Path) -> Outcome:
    """Export, predict with both, and count what differs."""
    shutil.rmtree(folder, ignore_errors=True)
    written = export_to_nnunet(trained.bundles, folder / "models")
    theirs, previous = predict_with_peer(written, trained, folder, peer)
    ours = predict_ours(trained, folder)
    options = PredictOptions(device="cpu", precision="float32")
    predictor = load_predictor(list(trained.bundles), options)
    total = Outcome()
    for case, paths in predict_inputs(trained.images, len(predictor.recipe.channels)):
        (mine,) = (file for file in ours.iterdir() if file.name.split(".")[0] == case)
        name = f"{case.removesuffix('_0000')}.nii.gz"
        other = read_labels(theirs / name).array
        read = read_labels(previous / name).array if predictor.previous and previous else None
        total += explain(predictor, read_image(paths), read_labels(mine).array, other, read)
    return total


def main() -> None:
    """Train, export, predict and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    sets = ("plain", "tiles", "residual", "regions", "cascade")
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=sets, default=sets)
    parser.add_argument("--models", nargs="+", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if (options.models is None) != (options.images is None):
        parser.error("--models and --images belong together")
    if not options.peer.is_file():
        raise SystemExit(f"skipped: no nnU-Net, {options.peer} does not exist")
    os.environ |= {"nnUNet_compile": "f", "nnUNet_def_n_proc": "1"}
    print("model | voxels | foreground | differ | ties | stage | border | rest", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        root = (options.folder or Path(scratch)).resolve()
        rest = sum(report(trained, root, options.peer) for trained in models(root, options))
    raise SystemExit(rest > 0)


def models(root: Path, options: argparse.Namespace) -> Iterator[Trained]:
    """Those to compare."""
    if options.models:
        bundles = tuple(path.resolve() for path in options.models)
        yield Trained(name="given", bundles=bundles, images=options.images.resolve())
        return
    for name in options.sets:
        (root / name).mkdir(parents=True, exist_ok=True)
        yield from make_models(name, root / name, options)


def report(trained: Trained, root: Path, peer: Path) -> int:
    """Compare, print a row, and return how many voxels nothing explains."""
    outcome = compare(trained, root / f"compared {trained.name}", peer)
    cells = (outcome.voxels, outcome.foreground, outcome.differing, outcome.ties)
    cells = (*cells, outcome.stage, outcome.border, outcome.unexplained)
    print(" | ".join(map(str, (trained.name, *cells))), flush=True)
    return outcome.unexplained


if __name__ == "__main__":
    main()
