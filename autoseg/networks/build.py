"""How networks are named, made and initialised."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from autoseg.core.plan import NetworkSpec
from autoseg.registry import Registry

NEGATIVE_SLOPE = 0.01
"""Of the leaky ReLUs, which the initial weights make up for."""

_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class NetworkFactory(Protocol):
    """What an entry of ``NETWORKS`` is: a class or function that makes a network."""

    def __call__(
        self, spec: NetworkSpec, channels: int, classes: int, deep_supervision: bool
    ) -> nn.Module:
        """Make an initialised network; see ``build_network`` for what it must do."""
        ...


NETWORKS: Registry[NetworkFactory] = Registry("network")
NETWORKS.add("unet", "autoseg.networks.unet:UNet")
NETWORKS.add("residual_unet", "autoseg.networks.residual_unet:ResidualUNet")


def build_network(
    spec: NetworkSpec, channels: int, classes: int, deep_supervision: bool
) -> nn.Module:
    """Make the network a plan describes.

    The network takes float32 ``(batch, channels, *patch)`` and returns logits
    ``(batch, classes, *patch)``. While its attribute ``deep_supervision`` is true it returns a
    list instead: those logits first, then coarser ones. Weights are drawn from torch's global
    generator; seed it to repeat them.

    Args:
        spec: its shape; ``spec.architecture`` is a name in ``NETWORKS``.
        channels: number of input channels.
        classes: number of output channels.
        deep_supervision: whether coarser outputs are returned too.

    Returns:
        The network on the CPU, in training mode.

    Raises:
        UnknownNameError: if nobody registered the architecture.
    """
    factory = NETWORKS.get(spec.architecture)
    return factory(spec, channels, classes, deep_supervision)


def initialize(network: nn.Module) -> None:
    """Draw the weights of every convolution, plain and transposed, and clear its bias.

    Weights are normal with the standard deviation that keeps the variance through leaky ReLUs;
    norms are left at one and zero.

    Args:
        network: changed in place.

    References:
        He et al., Delving Deep into Rectifiers (2015), section 2.2.
    """
    for module in network.modules():
        if isinstance(module, _CONVOLUTIONS):
            nn.init.kaiming_normal_(module.weight, a=NEGATIVE_SLOPE)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
