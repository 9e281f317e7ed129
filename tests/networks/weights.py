"""Weights that tell every parameter and every position apart."""

import torch


def fill(network: torch.nn.Module) -> None:
    """Numbers that tell every parameter and every position apart."""
    with torch.no_grad():
        for index, (name, parameter) in enumerate(network.named_parameters()):
            flat = torch.arange(parameter.numel(), dtype=torch.float64)
            values = 0.1 * torch.sin(1 + 0.7 * index + 0.013 * flat)
            values += 1.0 if name.endswith("norm.weight") else 0.0
            parameter.copy_(values.view(parameter.shape))


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
