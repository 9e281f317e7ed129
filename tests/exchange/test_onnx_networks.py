import json
from itertools import product

import numpy as np
import pytest
import torch
from small_models import LABELS, REGIONS, small_plan, write_cascade, write_fold

from autoseg.core.geometry import Geometry
from autoseg.core.image import Image
from autoseg.core.selection import CleanUp
from autoseg.errors import AutosegError
from autoseg.exchange import onnx_networks
from autoseg.exchange.onnx_networks import export_onnx
from autoseg.io.trained import from_bundle
from autoseg.networks import precision
from autoseg.predict.loading import PredictOptions, load_segmenter

pytest.importorskip("onnx", reason="onnx is not installed")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

ON_CPU = PredictOptions(device="cpu", precision="float32")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Every probe takes as long as any other, and no time."""
    monkeypatch.setattr(precision, "_seconds", lambda step: 1.0)


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


class OnOnnx(torch.nn.Module):
    """A network of ours whose numbers onnxruntime computes."""

    def __init__(self, path):
        super().__init__()
        self.session = session(path)

    def forward(self, image):
        return torch.from_numpy(self.session.run(["logits"], {"image": image.numpy()})[0])


def description(folder):
    return json.loads((folder / "model.json").read_text())


@pytest.mark.parametrize("architecture", ["unet", "residual_unet"])
@pytest.mark.parametrize("configuration", ["2d", "3d_lowres"])
def test_onnxruntime_segments_as_torch_does(tmp_path, configuration, architecture):
    plan = small_plan(architecture=architecture)
    bundles = [
        write_fold(tmp_path / fold, configuration, fold, plan=plan, seed=int(fold[-1]))
        for fold in ("fold0", "fold1")
    ]
    exported = export_onnx([[from_bundle(path) for path in bundles]], tmp_path / "onnx")
    assert exported.difference is not None
    assert exported.difference < 1e-5
    assert exported.files == (f"{configuration}_fold0.onnx", f"{configuration}_fold1.onnx")
    (predictor,) = load_segmenter([bundles], ON_CPU).predictors
    networks = [OnOnnx(tmp_path / "onnx" / file) for file in exported.files]
    geometry = Geometry(shape=(6, 17, 21), spacing=(1.5, 3.0, 1.25))
    array = np.random.default_rng(1).normal(40, 20, (2, *geometry.shape)).astype(np.float32)
    image = Image(array=array, geometry=geometry)
    values = {f: getattr(predictor, f) for f in type(predictor).__dataclass_fields__}
    other = type(predictor)(**values | {"networks": networks})
    expected = predictor.segment(image).array
    assert (other.segment(image).array != expected).mean() < 1e-3
    assert len(np.unique(expected)) > 1


def test_the_description_is_enough_to_segment_without_autoseg(tmp_path):
    """An image on the network's grid, smaller than a patch along no axis, channel by channel."""
    bundle = write_fold(tmp_path / "0", "3d_lowres")
    folder = tmp_path / "onnx"
    export_onnx([[from_bundle(bundle)]], folder)
    told = description(folder)
    (stage,) = told["stages"]
    assert told["members"] == [0]
    # A raw spacing that becomes the target: the transpose (1, 0, 2) swaps z and y.
    assert stage["transpose"] == [1, 0, 2]
    spacing = (stage["spacing"][1], stage["spacing"][0], stage["spacing"][2])
    raw = np.random.default_rng(2).normal(40, 20, (2, 13, 7, 16)).astype(np.float32)
    image = raw.transpose(0, 2, 1, 3)
    prepared = []
    for channel, how in zip(image, stage["channels"], strict=True):
        if how["scheme"] == "ct":
            prepared.append((np.clip(channel, *how["clip"]) - how["mean"]) / how["std"])
        else:
            assert how["scheme"] == "zscore"
            prepared.append((channel - channel.mean()) / channel.std())
    logits = windowed(np.stack(prepared), stage, session(folder / stage["files"][0]))
    values = np.array([output["value"] for output in told["outputs"]])
    found = values[logits.argmax(axis=0)].transpose(1, 0, 2)
    geometry = Geometry(shape=raw.shape[1:], spacing=spacing)
    segmenter = load_segmenter([[bundle]], ON_CPU)
    expected = segmenter.segment(Image(array=raw, geometry=geometry)).array
    assert (found != expected).mean() < 1e-3
    assert len(np.unique(expected)) > 1


def windowed(image, stage, run):
    window = stage["window"]
    patch = window["patch_size"]
    weights = np.ones(patch)
    for axis, size in enumerate(patch):
        distance = np.arange(size) - size // 2
        profile = np.exp(-0.5 * (distance / (window["sigma"] * size)) ** 2)
        weights *= profile.reshape([-1 if one == axis else 1 for one in range(3)])
    weights = np.maximum(weights, window["smallest_weight"])
    sums, counts = np.zeros((stage["num_outputs"], *image.shape[1:])), np.zeros(image.shape[1:])
    for corner in product(
        *(starts(n, p, window["step"]) for n, p in zip(image.shape[1:], patch, strict=True))
    ):
        part = tuple(slice(start, start + size) for start, size in zip(corner, patch, strict=True))
        tile = image[(slice(None), *part)][None].astype(np.float32)
        flips = [()]
        for axis in window["mirror_axes"]:
            flips += [(*flip, axis + 2) for flip in flips]
        outputs = [
            np.flip(run.run(None, {"image": np.ascontiguousarray(np.flip(tile, flip))})[0], flip)
            for flip in flips
        ]
        sums[(slice(None), *part)] += weights * np.mean(outputs, axis=0)[0]
        counts[part] += weights
    return sums / counts


def starts(size, patch, step):
    intervals = int(np.ceil((size - patch) / (patch * step)))
    return (
        [round(i * (size - patch) / intervals) for i in range(intervals + 1)] if intervals else [0]
    )


def test_a_cascade_and_its_previous_stage_are_told_apart(tmp_path):
    groups = [
        [from_bundle(write_cascade(tmp_path / "c"))],
        [from_bundle(write_fold(tmp_path / "f"))],
    ]
    rule = CleanUp(structure="rim", largest_only=True)
    done = []
    exported = export_onnx(
        groups,
        tmp_path / "onnx",
        clean_up=[rule],
        progress=lambda *told: done.append(told[:2]),
    )
    told = description(tmp_path / "onnx")
    lowres, cascade, flat = told["stages"]
    assert lowres["files"] == ["3d_lowres_fold0.onnx", "3d_lowres_fold1.onnx"]
    assert (lowres["previous"], cascade["previous"], flat["previous"]) == (None, 0, None)
    assert told["members"] == [1, 2]
    assert cascade["num_inputs"] == 2 + 2
    assert told["clean_up"] == [rule.model_dump()]
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert len(exported.files) == 4
    found = session(tmp_path / "onnx" / cascade["files"][0])
    assert found.get_inputs()[0].shape == ["batch", 4, *cascade["window"]["patch_size"]]
    assert found.get_outputs()[0].shape[1] == told["stages"][1]["num_outputs"] == 3


def test_outputs_are_named_by_their_values(tmp_path):
    export_onnx([[from_bundle(write_fold(tmp_path / "0", labels=LABELS))]], tmp_path / "a")
    told = description(tmp_path / "a")
    assert told["activation"] == "softmax"
    assert [(o["name"], o["value"]) for o in told["outputs"]] == [
        ("background", 0),
        ("core", 1),
        ("rim", 3),
    ]
    export_onnx([[from_bundle(write_fold(tmp_path / "1", labels=REGIONS))]], tmp_path / "b")
    told = description(tmp_path / "b")
    assert told["activation"] == "sigmoid"
    assert [(o["name"], o["value"]) for o in told["outputs"]] == [("whole", 1), ("core", 2)]


def test_folds_of_one_name_get_files_of_their_own(tmp_path):
    groups = [
        [from_bundle(write_fold(tmp_path / name, seed=seed))] for seed, name in enumerate("ab")
    ]
    exported = export_onnx(groups, tmp_path / "onnx")
    assert exported.files == ("2d_fold0.onnx", "2d_fold0.2.onnx")


def test_a_network_that_computes_otherwise_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_networks, "_run", lambda path, batch: np.zeros(1, np.float32))
    trained = from_bundle(write_fold(tmp_path / "0"))
    with pytest.raises(AutosegError, match=r"onnxruntime's logits differ by 100\.0% from torch's"):
        export_onnx([[trained]], tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "onnx").mkdir()
    with pytest.raises(AutosegError, match="onnx: exists already"):
        export_onnx([[from_bundle(write_fold(tmp_path / "0"))]], tmp_path / "onnx")
