import torch
from torch import nn

from autoseg.networks.label_channels import LabelChannels


def test_each_label_becomes_a_channel_after_those_of_the_image():
    image = torch.arange(2 * 2 * 3 * 2, dtype=torch.float32).reshape(2, 2, 3, 2)
    labels = torch.tensor([[[0, 1], [2, 3], [3, 0]], [[3, 3], [0, 0], [1, 2]]]).float()
    seen = LabelChannels(nn.Identity(), 3)(torch.cat([image, labels[:, None]], dim=1))
    masks = torch.stack([labels == value for value in (1, 2, 3)], dim=1)
    assert seen.dtype == torch.float32
    torch.testing.assert_close(seen, torch.cat([image, masks.float()], dim=1), rtol=0, atol=0)


def test_volumes_work_like_slices():
    batch = torch.randint(0, 3, (2, 3, 4, 5, 6)).float()
    assert LabelChannels(nn.Identity(), 2)(batch).shape == (2, 4, 4, 5, 6)
