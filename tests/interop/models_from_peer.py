"""Trained models of nnU-Net, imported: label maps of autoseg against those nnU-Net predicts.

usage: python tests/interop/models_from_peer.py --peer PEER/bin/python [--hippocampus TASK]
       [--sets colours anisotropic hippocampus] [--folder FOLDER]
       [--configurations NAME ...] [--epochs 3] [--steps 20] [--images 3]

PEER is a virtual environment with nnunetv2. Three small data sets: colour pictures (2D), images
that are coarse along their last axis, with two channels and regions (residual encoder, 2D and
3D), and some cases of Hippocampus (2D, 3D, and a cascade of configurations added by hand).
nnU-Net plans, prepares, trains for a few steps and predicts; autoseg imports what was trained
and predicts the same images, both in float32 on the CPU. With --folder, what nnU-Net made is
kept there for a further run. With --epochs 0 nothing is trained: the weights are as drawn, which
label maps full of noise show as well. --configurations are some of those above, a previous stage
with its cascade.

Counted are the voxels whose labels differ, and why:

- ties: with exact sums, what decides (the two largest logits, or a region's logit and 0) is
  closer than half-precision numbers of that size can tell after as many roundings as there are
  tiles over a voxel;
- stage: of a cascade, the label is nnU-Net's once our network reads nnU-Net's label map of the
  previous stage;
- border: the label is nnU-Net's once our window sums in half precision, as nnU-Net's does, in
  which the small weights at the border of a volume lose their digits.

The exit code is 1 if a voxel differs for none of these reasons.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
import torch
from beside_peer import HERE, Json, PeerFolders, our_command, peer_command, run, write_raw
from half_precision import decide, margins, mean_logits, num_roundings, on_raw_grid
from PIL import Image as Picture

from autoseg.core.image import Image
from autoseg.imaging.prepare import prepare
from autoseg.io.images import read_image, read_labels
from autoseg.io.predict_inputs import predict_inputs
from autoseg.io.workspace import TaskFolder
from autoseg.predict.loading import PredictOptions, load_predictor
from autoseg.predict.predictor import Predictor

TRAINER = "nnUNetTrainer"
NUM_TRAINING = 10
NUM_NEW = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """A data set and what is trained on it.

    Attributes:
        name: its folder's.
        planner: name of nnU-Net's planner.
        plans: name of the plans it writes.
        models: configuration and fold of each model, a previous stage before its cascade.
    """

    name: str
    planner: str
    plans: str
    models: tuple[tuple[str, str], ...]

    def only(self, configurations: Sequence[str]) -> DataSet:
        """Some of the models; all if none is named."""
        wanted = tuple(model for model in self.models if model[0] in configurations)
        return replace(self, models=wanted or self.models)


SETS = {
    "colours": DataSet(
        name="colours",
        planner="ExperimentPlanner",
        plans="nnUNetPlans",
        models=(("2d", "0"), ("2d_tiles", "0")),
    ),
    "anisotropic": DataSet(
        name="anisotropic",
        planner="nnUNetPlannerResEncM",
        plans="nnUNetResEncUNetMPlans",
        models=(("2d_few", "0"), ("3d_few", "0")),
    ),
    "hippocampus": DataSet(
        name="hippocampus",
        planner="ExperimentPlanner",
        plans="nnUNetPlans",
        models=(
            ("2d_few", "0"),
            ("3d_few", "0"),
            ("3d_few", "1"),
            ("3d_coarse", "all"),
            ("3d_cascade", "all"),
        ),
    ),
}


def write_colours(raw: Path) -> None:
    """Colour pictures of discs and rings."""
    rng = np.random.default_rng(0)
    y, x = np.indices((88, 104))
    for number in range(NUM_TRAINING + NUM_NEW):
        distance = np.hypot(y - rng.uniform(30, 58), x - rng.uniform(30, 74))
        labels = (distance < 22).astype(np.uint8) + (distance < 11).astype(np.uint8)
        colours = np.stack([80 + 60 * labels, 160 - 50 * labels, 40 + 90 * (labels == 1)], -1)
        picture = (colours + rng.normal(0, 25, colours.shape)).clip(0, 255).astype(np.uint8)
        images, truth = _folders(raw, number)
        Picture.fromarray(picture).save(images / f"p_{number:02d}_0000.png")
        Picture.fromarray(labels).save(truth / f"p_{number:02d}.png")
    _describe(raw, ["R", "G", "B"], {"background": 0, "ring": 1, "disc": 2}, ".png")


def write_anisotropic(raw: Path) -> None:
    """Balls with a core in boxes of noise, coarse along the last axis; regions."""
    rng = np.random.default_rng(1)
    shape, spacing = (66, 58, 14), (0.9, 0.8, 4.0)
    for number in range(NUM_TRAINING + NUM_NEW):
        centre = np.array(shape) / 2 + rng.uniform(-4, 4, 3) * (1, 1, 0.3)
        axes = (np.indices(shape).T - centre).T * np.reshape(spacing, (3, 1, 1, 1))
        distance = np.sqrt((axes**2).sum(0))
        labels = (distance < 16).astype(np.uint8) + (distance < 8).astype(np.uint8)
        inside = (np.abs(axes).max(0) < 25).astype(np.float32)
        images, truth = _folders(raw, number)
        for channel, contrast in enumerate((60.0, -35.0)):
            array = (200 + contrast * labels + rng.normal(0, 20, shape)) * inside
            _write(images / f"b_{number:02d}_{channel:04d}.nii.gz", array.astype("f4"), spacing)
        _write(truth / f"b_{number:02d}.nii.gz", labels, spacing)
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    _describe(raw, ["T1", "T2"], labels, ".nii.gz", regions_class_order=[1, 2])


def _folders(raw: Path, number: int) -> tuple[Path, Path]:
    part = "Tr" if number < NUM_TRAINING else "Ts"
    folders = raw / f"images{part}", raw / f"labels{part}"
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    return folders


def _write(path: Path, array: np.ndarray, spacing: Sequence[float]) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([float(size) for size in reversed(spacing)])
    image.SetDirection((1, 0, 0, 0, 0.98, -0.199, 0, 0.199, 0.98))
    image.SetOrigin((-30.0, 12.5, 4.0))
    sitk.WriteImage(image, str(path))


def _describe(raw: Path, channels: Sequence[str], labels: Json, ending: str, **more: Json) -> None:
    content = {
        "channel_names": {str(number): name for number, name in enumerate(channels)},
        "labels": labels,
        "numTraining": NUM_TRAINING,
        "file_ending": ending,
        **more,
    }
    (raw / "dataset.json").write_text(json.dumps(content))


def write_hippocampus(raw: Path, task: Path) -> None:
    """Some cases of the Decathlon's task."""
    rows = json.loads((task / "dataset.json").read_text())["training"]
    names = [Path(row["label"]).name.removesuffix(".nii.gz") for row in rows]
    chosen = names[: NUM_TRAINING + NUM_NEW]
    write_raw(task, raw, chosen[:NUM_TRAINING])
    (raw / "imagesTs").mkdir()
    for name in chosen[NUM_TRAINING:]:
        source = (task / "imagesTr" / f"{name}.nii.gz").resolve()
        (raw / "imagesTs" / f"{name}_0000.nii.gz").symlink_to(source)


def add_configurations(plans: Path) -> None:
    """Add what users add: smaller batches, and a cascade."""
    content = json.loads(plans.read_text())
    planned = content["configurations"]
    name = content["plans_name"]
    planned["2d_few"] = {"inherits_from": "2d", "batch_size": 4}
    halves = [size // 2 for size in planned["2d"]["patch_size"]]
    planned["2d_tiles"] = {"inherits_from": "2d_few", "patch_size": _even(halves)}
    if "3d_fullres" in planned:
        full = planned["3d_fullres"]
        planned["3d_few"] = {"inherits_from": "3d_fullres", "batch_size": 2}
        halves = [size // 2 for size in full["patch_size"]]
        planned["3d_tiles"] = {"inherits_from": "3d_few", "patch_size": _even(halves)}
        planned["3d_coarse"] = {
            "inherits_from": "3d_few",
            "data_identifier": f"{name}_3d_coarse",
            "spacing": [1.4 * size for size in full["spacing"]],
            "next_stage": "3d_cascade",
        }
        planned["3d_cascade"] = {"inherits_from": "3d_few", "previous_stage": "3d_coarse"}
    plans.write_text(json.dumps(content, indent=1))


def _even(patch: Sequence[int]) -> list[int]:
    """The next larger patch that the networks of these small images divide."""
    return [-(-size // 16) * 16 for size in patch]


def train(data_set: DataSet, folders: PeerFolders, options: argparse.Namespace) -> None:
    """Let nnU-Net plan, prepare and train, unless that is done."""
    peer, plans = options.peer, ("-p", data_set.plans)
    for name in ("preprocessed", "results"):
        (folders.root / name).mkdir(parents=True, exist_ok=True)
    file = folders.preprocessed / f"{data_set.plans}.json"
    if not file.is_file():
        run(peer_command(peer, "nnUNetv2_extract_fingerprint", "-np", "1"), folders)
        run(peer_command(peer, "nnUNetv2_plan_experiment", "-pl", data_set.planner), folders)
    add_configurations(file)
    for name, fold in data_set.models:
        done = model_folder(data_set, folders, name) / f"fold_{fold}"
        if (done / "checkpoint_final.pth").is_file():
            continue
        prepared = json.loads(file.read_text())["configurations"]
        is_there = (folders.preprocessed / identifier(prepared, name)).is_dir()
        if not is_there or "previous_stage" not in prepared[name]:
            words = ("-c", name, "-np", "1", *plans)
            run(peer_command(peer, "nnUNetv2_preprocess", *words), folders)
        words = [str(HERE / "peer_trainer.py"), str(file), name, fold]
        run([str(peer), *words, options.epochs, options.steps], folders)
        print(f"trained {data_set.name} {name} {fold}", flush=True)


def identifier(planned: Json, name: str) -> str:
    """Name of the folder of prepared data that a configuration shares with its ancestors."""
    while "data_identifier" not in planned[name]:
        name = planned[name]["inherits_from"]
    return planned[name]["data_identifier"]


def model_folder(data_set: DataSet, folders: PeerFolders, configuration: str) -> Path:
    """Where nnU-Net leaves a model."""
    name = f"{TRAINER}__{data_set.plans}__{configuration}"
    return folders.root / "results" / folders.raw.name / name


def lay_out(data_set: DataSet, folders: PeerFolders, options: argparse.Namespace) -> None:
    """Write the raw data, unless they are there."""
    if (folders.raw / "dataset.json").is_file():
        return
    shutil.rmtree(folders.raw, ignore_errors=True)
    folders.raw.mkdir(parents=True)
    if data_set.name == "hippocampus":
        write_hippocampus(folders.raw, options.hippocampus)
    else:
        {"colours": write_colours, "anisotropic": write_anisotropic}[data_set.name](folders.raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Voxels of some label maps.

    Attributes:
        voxels: all.
        foreground: those that nnU-Net gives a label.
        differing: those whose label is another.
        ties: of these, those rounding may decide.
        stage: of the rest, those that the previous stage's label map explains.
        border: of the rest, those that sums in half precision explain.
    """

    voxels: int = 0
    foreground: int = 0
    differing: int = 0
    ties: int = 0
    stage: int = 0
    border: int = 0

    @property
    def unexplained(self) -> int:
        """Voxels that differ for no known reason."""
        return self.differing - self.ties - self.stage - self.border

    def __add__(self, other: Outcome) -> Outcome:
        fields = self.__dataclass_fields__
        return Outcome(**{name: getattr(self, name) + getattr(other, name) for name in fields})


def predict_with_both(
    data_set: DataSet, folders: PeerFolders, name: str, options: argparse.Namespace
) -> tuple[Path, Path]:
    """Predict the new images with nnU-Net and with the imported model.

    Returns:
        Folders of nnU-Net's and of our label maps.
    """
    folds = [fold for known, fold in data_set.models if known == name]
    model = model_folder(data_set, folders, name)
    planned = json.loads((model / "plans.json").read_text())["configurations"][name]
    images, theirs = chosen_images(folders, options), folders.root / "theirs" / name
    if not (theirs / "plans.json").is_file():
        words = ["-i", str(images), "-o", str(theirs), "-m", str(model), "-f", *folds]
        words += ["-device", "cpu", "-npp", "1", "-nps", "1"]
        if "previous_stage" in planned:
            previous = folders.root / "theirs" / planned["previous_stage"]
            words += ["-prev_stage_predictions", str(previous)]
        run([str(options.peer.parent / "nnUNetv2_predict_from_modelfolder"), *words], folders)
    ours = folders.root / "ours" / name
    shutil.rmtree(ours, ignore_errors=True)
    words = ["-i", str(images), "-o", str(ours), "-c", name, "-q", *workspace_of(folders)]
    run(our_command("predict", *words, "--device", "cpu", "--precision", "float32"), folders)
    return theirs, ours


def chosen_images(folders: PeerFolders, options: argparse.Namespace) -> Path:
    """A folder with the first of the new images."""
    source, target = folders.raw / "imagesTs", folders.root / f"images_{options.images}"
    cases = sorted({path.name[: path.name.index("_0000")] for path in source.glob("*_0000.*")})
    target.mkdir(exist_ok=True)
    for path in source.iterdir():
        link = target / path.name
        if path.name.rpartition("_")[0] in cases[: options.images] and not link.exists():
            link.symlink_to(path.resolve())
    return target


def workspace_of(folders: PeerFolders) -> tuple[str, str]:
    """The words that name our workspace."""
    return "-w", str(folders.root / "workspace")


def compare(folders: PeerFolders, name: str, images: Path, theirs: Path, ours: Path) -> Outcome:
    """Compare the label maps of one configuration."""
    task = TaskFolder(folders.root / "workspace" / folders.raw.name)
    known = [fold for fold in task.fold_folders() if fold.configuration == name]
    options = PredictOptions(device="cpu", precision="float32")
    predictor = load_predictor([fold.bundle for fold in known], options)
    inputs = predict_inputs(images, len(predictor.recipe.channels))
    total = Outcome()
    for case, paths in inputs:
        (mine,) = (f for f in ours.iterdir() if f.name.split(".")[0] == case)
        stem = case.removesuffix("_0000")
        (other,) = (f for f in theirs.iterdir() if f.name.split(".")[0] == stem)
        previous = None
        if predictor.previous is not None:
            stage = theirs.parent / str(predictor.configuration.previous) / other.name
            previous = read_labels(stage).array
        labels = read_labels(mine).array, read_labels(other).array
        total += explain(predictor, read_image(paths), *labels, previous)
    return total


def explain(
    predictor: Predictor,
    image: Image,
    ours: np.ndarray,
    theirs: np.ndarray,
    previous: np.ndarray | None,
) -> Outcome:
    """Count the voxels that differ, and why.

    Args:
        predictor: the imported model.
        image: a new image.
        ours: our labels.
        theirs: nnU-Net's.
        previous: of a cascade, nnU-Net's labels of the previous stage.
    """
    differ = ours != theirs
    counts = {"voxels": ours.size, "foreground": int((theirs > 0).sum())}
    if not differ.any():
        return Outcome(**counts)
    recipe, labels = predictor.recipe, predictor.labels
    read = None if previous is None else previous.astype(np.int16)
    prepared = prepare(image.array, image.geometry.spacing, recipe, read)
    tensor, trace = torch.from_numpy(prepared.image), prepared.trace
    if prepared.labels is not None:
        tensor = torch.cat([tensor, torch.from_numpy(prepared.labels)[None].float()])
    exact = on_raw_grid(mean_logits(predictor, tensor, torch.float32), trace)
    half = on_raw_grid(mean_logits(predictor, tensor, torch.float16), trace).astype(np.float16)
    roundings = num_roundings(trace.prepared_shape, predictor.configuration.patch_size)
    ties = differ & (margins(exact, labels, trace, roundings) <= 1)
    stage = differ & ~ties & (decide(exact, labels, trace) == theirs)
    border = differ & ~ties & ~stage & (decide(half, labels, trace) == theirs)
    found = {"differing": differ, "ties": ties, "stage": stage, "border": border}
    return Outcome(**counts, **{what: int(where.sum()) for what, where in found.items()})


def main() -> None:
    """Train, import, predict and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    shared = Path(__file__).resolve().parents[3] / "shared"
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--hippocampus", type=Path, default=shared / "data/Task04_Hippocampus")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--configurations", nargs="+", default=[])
    parser.add_argument("--images", type=int, default=NUM_NEW)
    parser.add_argument("--epochs", default="3")
    parser.add_argument("--steps", default="20")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    os.environ |= {
        "nnUNet_compile": "f",
        "nnUNet_n_proc_DA": "1",
        "nnUNet_def_n_proc": "1",
    }
    if not options.peer.is_file():
        raise SystemExit(f"skipped: no nnU-Net, {options.peer} does not exist")
    print("data set | configuration | voxels | foreground | differ | ties | stage | border | rest")
    rest = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.sets:
            folders = PeerFolders((options.folder or Path(scratch)).resolve() / name)
            lay_out(SETS[name], folders, options)
            data_set = SETS[name].only(options.configurations)
            train(data_set, folders, options)
            rest += compare_all(data_set, folders, options)
    raise SystemExit(rest > 0)


def compare_all(data_set: DataSet, folders: PeerFolders, options: argparse.Namespace) -> int:
    """Import all models of a data set, and print a row for each configuration.

    Returns:
        Voxels that nothing explains.
    """
    shutil.rmtree(folders.root / "workspace", ignore_errors=True)
    results = str(folders.root / "results" / folders.raw.name)
    run(our_command("import", results, "-q", *workspace_of(folders)), folders)
    rest = 0
    for name in dict.fromkeys(name for name, _ in data_set.models):
        made = predict_with_both(data_set, folders, name, options)
        outcome = compare(folders, name, chosen_images(folders, options), *made)
        cells = (outcome.voxels, outcome.foreground, outcome.differing, outcome.ties)
        cells = (*cells, outcome.stage, outcome.border, outcome.unexplained)
        print(" | ".join(map(str, (data_set.name, name, *cells))), flush=True)
        rest += outcome.unexplained
    return rest


if __name__ == "__main__":
    main()
