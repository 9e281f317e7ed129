import pytest
from commands import call

from autoseg.train.augmentation.augment import AUGMENTATIONS
from autoseg.train.objective.losses import LOSSES
from autoseg.train.objective.optimizers import OPTIMIZERS
from autoseg.train.objective.schedules import SCHEDULES

REGISTRIES = [LOSSES, OPTIMIZERS, SCHEDULES, AUGMENTATIONS]


@pytest.mark.parametrize("command", ["train", "run"])
@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda r: r.kind)
def test_the_help_names_every_choice(command, registry):
    text = call(command, "--help").out
    assert [name for name in registry if name not in text] == []
