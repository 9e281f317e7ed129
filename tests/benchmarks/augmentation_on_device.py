"""Batches varied by processes or on a GPU: what each side takes, and what a training would choose.

usage: python tests/benchmarks/augmentation_on_device.py [--only 2d] [--augmentation strong]
           [--workers 1,4,12] [--device cpu]

Per setting: batches a second that some numbers of processes make and vary, and read only;
milliseconds and memory of the device for a batch that was read only; largest difference between
the two; and, per number of processes, the line that a training would log. It needs CUDA; with
``--device cpu`` all but the network's step is tried out, which says nothing about GPUs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from batches_against_peer import SETTINGS, STRUCTURES, Setting, our_spec, write_arrays

from autoseg.core.plan import NetworkSpec, TrainingSpec
from autoseg.networks.build import build_network
from autoseg.networks.precision import choose, place
from autoseg.train.augmentation.on_device import finish
from autoseg.train.augmenting import measure
from autoseg.train.batches import Batch, BatchSource, BatchSpec, make_batch
from autoseg.train.loop import Session
from autoseg.train.objective.losses import LOSSES, LossOptions
from autoseg.train.objective.optimizers import OPTIMIZERS

FEATURES = {
    "hippocampus": (32, 64, 128, 256),
    "128^3": (32, 64, 128, 256, 320, 320),
    "2d": (32, 64, 128, 256, 512, 512, 512, 512),
}
MEASURED_S = 4.0
CHECKED = 12


def main() -> None:
    """Measure every setting."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=SETTINGS)
    parser.add_argument("--augmentation", default="default")
    parser.add_argument("--workers", default="1,4,12")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("this needs CUDA; --device cpu tries the script out")
    device, workers = torch.device(options.device), list(map(int, options.workers.split(",")))
    print(torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU")
    for name in [options.only] if options.only else SETTINGS:
        with tempfile.TemporaryDirectory() as folder:
            write_arrays(Path(folder), SETTINGS[name])
            spec = our_spec(Path(folder), SETTINGS[name])
            _measure(name, replace(spec, augmentation=options.augmentation), workers, device)


def _measure(name: str, spec: BatchSpec, workers: Sequence[int], device: torch.device) -> None:
    print(f"{name}, {spec.augmentation}: batch {spec.batch_size} of {spec.patch_size}")
    later = replace(spec, finished_later=True)
    _print_device(later, device)
    _print_difference(spec, later, device)
    for number in workers:
        made, only_read = (_batches_per_s(one, number) for one in (spec, later))
        print(f"  {number} processes: {made:.1f} batches/s, read only {only_read:.1f}", flush=True)
        if device.type == "cuda":
            print(
                f"    {measure(_session(name, SETTINGS[name], device), spec, number, _shape(spec))}"
            )


def _print_device(later: BatchSpec, device: torch.device) -> None:
    batches = [make_batch(later, 0, step) for step in range(CHECKED)]
    bytes_read = sum(batch.images.nbytes + batch.labels.nbytes for batch in batches) / len(batches)
    finished = [_finished(batch, device) for batch in batches]  # the first calls prepare something
    if device.type == "cuda":
        del finished
        torch.cuda.reset_peak_memory_stats(device)
    _wait(device)
    start_s = time.perf_counter()
    for batch in batches:
        _finished(batch, device)
    _wait(device)
    took_s = (time.perf_counter() - start_s) / len(batches)
    peak = f", peak {torch.cuda.max_memory_allocated(device) / 1e9:.2f} GB" * (
        device.type == "cuda"
    )
    print(f"  on {device}: {took_s * 1e3:.1f} ms a batch of {bytes_read / 1e6:.0f} MB{peak}")


def _print_difference(spec: BatchSpec, later: BatchSpec, device: torch.device) -> None:
    largest, labels_differ = 0.0, 0
    for step in range(CHECKED):
        whole = make_batch(spec, 0, step)
        images, labels = _finished(make_batch(later, 0, step), device)
        difference = np.abs(images.cpu().numpy() - whole.images)
        differs = labels.cpu().numpy() != whole.labels
        largest = max(largest, float(difference.max() / whole.images.std()))
        labels_differ += int(differs.sum())
    voxels = CHECKED * spec.batch_size * int(np.prod(spec.patch_size))
    print(
        f"  beside the processes: {largest:.1e} of the deviation at most, {labels_differ} of "
        f"{voxels} labels differ"
    )


def _finished(batch: Batch, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    assert batch.unfinished is not None
    images, labels = torch.from_numpy(batch.images), torch.from_numpy(batch.labels)
    return finish(images.to(device), labels.to(device), batch.unfinished)


def _batches_per_s(spec: BatchSpec, num_workers: int) -> float:
    source = BatchSource(spec, num_workers)
    batches = source(0, range(10**6))
    for _ in range(1 + 2 * num_workers):
        next(batches)
    start_s, count = time.perf_counter(), 0
    while time.perf_counter() - start_s < MEASURED_S:
        next(batches)
        count += 1
    elapsed_s = time.perf_counter() - start_s
    source.close()
    return count / elapsed_s


def _session(name: str, setting: Setting, device: torch.device) -> Session:
    """A network as it would be planned, in the precision that suits the device."""
    features, axes = FEATURES[name], len(setting.patch)
    precision, _ = choose(device, dimensions=axes)
    stages = len(features)
    network = build_network(
        NetworkSpec(
            architecture="unet",
            features_per_stage=features,
            strides=((1,) * axes, *((2,) * axes,) * (stages - 1)),
            kernel_sizes=((3,) * axes,) * stages,
            blocks_per_stage=(2,) * stages,
            decoder_blocks_per_stage=(2,) * (stages - 1),
        ),
        *(1, STRUCTURES + 1),
        deep_supervision=True,
    )
    place(network, precision, device, axes)
    spec = TrainingSpec()
    return Session(
        network=network,
        optimizer=OPTIMIZERS.get("sgd")(network.parameters(), spec),
        loss=LOSSES.get("dice_ce")(LossOptions(batch_dice=False)),
        spec=spec,
        device=device,
        precision=precision,
        scaler=torch.amp.GradScaler(device.type, enabled=precision.dtype == "float16"),
    )


def _shape(spec: BatchSpec) -> tuple[int, ...]:
    return (spec.batch_size, 1, *spec.patch_size)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
