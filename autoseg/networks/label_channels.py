"""A network that reads a label map beside the image, for which the map becomes channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LabelChannels(nn.Module):
    """Takes an image whose last channel holds label indices, each of which becomes a channel.

    A whole volume then needs one channel more, not one for every label.

    Args:
        network: takes ``(batch, channels + num_labels, *space)``.
        num_labels: number of foreground labels.
    """

    def __init__(self, network: nn.Module, num_labels: int) -> None:
        super().__init__()
        self.network = network
        self._num_labels = num_labels

    def forward(self, batch: Tensor) -> Tensor:
        """Apply the network.

        Args:
            batch: float32 ``(batch, channels + 1, *space)``; the last channel holds 0..n.

        Returns:
            What the network returns for the image's channels and a 0/1 channel for each of 1..n.
        """
        image, labels = batch[:, :-1], batch[:, -1:]
        indices = torch.arange(1, self._num_labels + 1, device=batch.device, dtype=batch.dtype)
        masks = labels == indices.reshape(-1, *(1,) * (batch.ndim - 2))
        return self.network(torch.cat([image, masks.to(batch.dtype)], dim=1))
