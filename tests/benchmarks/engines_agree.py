"""Label maps of every engine and number format beside those of torch in float32.

Run with the project's python, on a task whose cases are prepared:

    python tests/benchmarks/engines_agree.py TASK_FOLDER WEIGHTS.safetensors [--cases 10]

TASK_FOLDER is a task of a workspace, such as Task04_Hippocampus. Without WEIGHTS they are drawn.
Prints, for each engine, how many voxels get another label, how many of these are no near-ties (in
float32 the two best classes' probabilities lie more than 0.05 apart), and how far they lie apart at
most.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import torch

from autoseg.core.plan import Configuration, Plan
from autoseg.io import artifacts, bundle
from autoseg.io.case_store import CaseStore
from autoseg.io.task import load_dataset
from autoseg.io.workspace import TaskFolder
from autoseg.networks.build import build_network
from autoseg.networks.compiled import is_installed
from autoseg.networks.inference import Inference, make_ready
from autoseg.networks.precision import Precision
from autoseg.networks.sliding_window import Window, predict_logits

CPU = torch.device("cpu")
NEAR_TIE = 0.05


def main() -> None:
    """Predict cases with every engine and count."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task", type=Path)
    parser.add_argument("weights", type=Path, nargs="?")
    parser.add_argument("--configuration", default="3d_fullres")
    parser.add_argument("--cases", type=int, default=10)
    options = parser.parse_args()
    task = TaskFolder(options.task)
    plan = artifacts.load(task.plan_file("default"), Plan)
    configuration = plan.configurations[options.configuration]
    outputs = load_dataset(task).labels.num_outputs
    torch.manual_seed(0)
    network = build_network(configuration.network, len(plan.channels), outputs, False).eval()
    if options.weights:
        network.load_state_dict(bundle.load_weights(options.weights))
    key = plan.recipe(options.configuration).key
    store = CaseStore(task.prepared(options.configuration, key))
    margins: dict[str, list[torch.Tensor]] = {name: [] for name, _ in _engines()}
    voxels = 0
    for name in store.names()[: options.cases]:
        image = torch.from_numpy(store.read(name, (0, 0, 0), store.shape(name))[0])
        expected = _logits(network, _torch("float32"), image, configuration, outputs)
        voxels += expected[0].numel()
        for engine, inference in _engines():
            found = _logits(network, inference, image, configuration, outputs)
            margins[engine].append(_margins(expected, found))
    print(f"{options.cases} cases, {voxels} voxels")
    for engine, parts in margins.items():
        found = torch.cat(parts)
        print(
            f"{engine}: {len(found)} voxels differ, {int((found > NEAR_TIE).sum())} of them no "
            f"near-ties; probabilities at most {max(found.tolist(), default=0.0):.3f} apart"
        )


def _torch(dtype: str) -> Inference:
    return Inference(precision=Precision.model_validate({"dtype": dtype}), reason="")


def _engines() -> Iterator[tuple[str, Inference]]:
    yield "torch bfloat16", _torch("bfloat16")
    if is_installed():
        for dtype in ("float32", "bfloat16"):
            yield f"openvino {dtype}", Inference(precision=Precision(), openvino=dtype, reason="")


_READY: dict[str, torch.nn.Module] = {}


def _logits(
    network: torch.nn.Module,
    inference: Inference,
    image: torch.Tensor,
    configuration: Configuration,
    outputs: int,
) -> torch.Tensor:
    key = f"{inference.openvino} {inference.precision.dtype}"
    if key not in _READY:
        _READY[key] = make_ready(deepcopy(network), inference, configuration.network, len(image))
    window = Window(
        patch_size=configuration.patch_size,
        num_outputs=outputs,
        mirror_axes=configuration.training.mirror_axes,
        precision=inference.precision,
        device=CPU,
    )
    return predict_logits(_READY[key], image, window)


def _margins(expected: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """Of voxels with another label: how far the two best probabilities lie apart in float32."""
    best = expected.softmax(0).topk(2, dim=0).values
    return (best[0] - best[1])[expected.argmax(0) != found.argmax(0)]


if __name__ == "__main__":
    main()
