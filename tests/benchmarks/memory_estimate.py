"""The planner's estimate of a training step beside the bytes it really keeps.

usage: python tests/benchmarks/memory_estimate.py

Weights, gradients, momentum and what autograd saves for the backward pass, of tensors that have
sizes but no content. With a CUDA GPU, also the peak of a real step beside the whole estimate.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "plan"))

from test_memory import OPTIONS, SHAPES, kept_by_a_step

from autoseg.core.plan import Axes, NetworkSpec
from autoseg.networks.build import build_network
from autoseg.plan.memory import training_memory
from autoseg.train.objective.losses import LOSSES, LossOptions, deep_supervision_loss


def main() -> None:
    """Print a row for every combination."""
    has_gpu = torch.cuda.is_available()
    print("network, patch, batch | channels | classes | type | deep | estimate | kept | ratio")
    for spec, patch, batch in SHAPES:
        for channels, outputs, dtype, deep in OPTIONS:
            memory = training_memory(
                spec,
                patch,
                batch,
                num_channels=channels,
                num_outputs=outputs,
                bytes_per_activation=dtype.itemsize,
                deep_supervision=deep,
            )
            kept = kept_by_a_step(spec, patch, batch, channels, outputs, dtype, deep)
            name = f"{spec.architecture} {'x'.join(map(str, patch))}, {batch}"
            kind = str(dtype).removeprefix("torch.")
            print(
                f"{name} | {channels} | {outputs} | {kind} | {'on' if deep else 'off'} | "
                f"{memory.kept / 1e9:.3f} GB | {kept / 1e9:.3f} GB | {memory.kept / kept:.4f}"
            )
            if has_gpu:
                peak = _peak_of_a_step(spec, patch, batch, channels, outputs, dtype, deep)
                held = memory.total - memory.context
                print(f"    peak {peak / 1e9:.3f} GB, estimated {held / 1e9:.3f} GB")


def _peak_of_a_step(
    spec: NetworkSpec,
    patch: Axes,
    batch: int,
    channels: int,
    outputs: int,
    dtype: torch.dtype,
    deep_supervision: bool,
) -> int:
    """Largest number of bytes the GPU's allocator held during the second of two steps."""
    network = build_network(spec, channels, outputs, deep_supervision).cuda()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.99, nesterov=True)
    image = torch.randn(batch, channels, *patch, device="cuda")
    labels = torch.randint(0, outputs, (batch, *patch), device="cuda", dtype=torch.int16)
    loss = LOSSES.get("dice_ce")(LossOptions(batch_dice=False))
    for _ in range(2):
        torch.cuda.reset_peak_memory_stats()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=dtype, enabled=dtype is not torch.float32):
            found = network(image)
        maps = found if deep_supervision else [found]
        deep_supervision_loss(loss, maps, labels).backward()
        optimizer.step()
    return torch.cuda.max_memory_allocated()


if __name__ == "__main__":
    main()
