import pytest
from commands import call

from autoseg.train.losses import LOSSES
from autoseg.train.optimizers import OPTIMIZERS
from autoseg.train.schedules import SCHEDULES


@pytest.mark.parametrize("registry", [LOSSES, OPTIMIZERS, SCHEDULES], ids=lambda r: r.kind)
def test_the_help_of_train_names_every_choice(registry):
    text = call("train", "--help").out
    assert [name for name in registry if name not in text] == []
