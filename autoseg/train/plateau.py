"""Ending a training early: the validation Dice has stopped rising, and the rate winds down.

The rule: the smoothed mean Dice of the validation patches has to rise by ``WORTHWHILE`` within
so many epochs. Once it has not, the tail begins: the learning rate, which follows its schedule
as before, is multiplied by a share that falls in a line from 1 to 0 over ``TAIL`` of the epochs
trained so far, and the training ends with it. A training whose planned end, in epochs or time,
comes first ends there: the schedule is at 0 by then.

References:
    Isensee et al. 2018, nnU-Net: self-adapting framework, training procedure: no improvement by
    more than 0.005 of a smoothed validation value within 60 epochs ends the training; theirs is
    of the loss, and only after the rate has gone down in steps. Hägele et al. 2024, Scaling laws
    and compute-optimal training beyond fixed training durations: a constant rate with a
    cool-down at its end does as well as a cosine that knew the end. The length and the line are
    ours.
"""

from __future__ import annotations

import math

from autoseg.core.artifact import Frozen
from autoseg.core.plan import TrainingSpec

PLATEAU_EPOCHS = 60
"""Epochs to wait for a better Dice if a user asks to train until the plateau."""

WORTHWHILE = 0.005
TAIL = 0.2


class Plateau(Frozen):
    """How long the Dice has not risen.

    Attributes:
        dice: smoothed validation Dice that the next has to be better than; None as long as
            nothing is found: who has not begun to learn has reached no plateau.
        waited: epochs since.
        found_after: epochs trained when the plateau was found; None if it was not.
    """

    dice: float | None = None
    waited: int = 0
    found_after: int | None = None

    def after(self, spec: TrainingSpec, epochs: int, dice: float | None) -> Plateau:
        """The value once an epoch has ended.

        Args:
            spec: says how long to wait, if at all.
            epochs: epochs trained so far, this one included.
            dice: smoothed validation Dice after it; an undefined one is no better.
        """
        if spec.plateau_epochs is None or spec.extensions or self.found_after is not None:
            return self
        if dice is not None and dice > (self.dice or 0.0) + WORTHWHILE:
            return Plateau(dice=dice)
        if self.dice is None:
            return self
        waited = self.waited + 1
        found = epochs if waited >= spec.plateau_epochs else None
        return Plateau(dice=self.dice, waited=waited, found_after=found)

    @property
    def last_epoch(self) -> int | None:
        """Number of epochs after which the tail ends; None while there is none."""
        if self.found_after is None:
            return None
        return self.found_after + math.ceil(TAIL * self.found_after)

    def remaining(self, epochs: float) -> float:
        """Share of the scheduled learning rate that is left.

        Args:
            epochs: epochs trained so far, with a fraction for the steps of the current one.

        Returns:
            1 before the plateau is found, 0 at the end of the tail.
        """
        if self.found_after is None or self.last_epoch is None:
            return 1.0
        return max(0.0, (self.last_epoch - epochs) / (self.last_epoch - self.found_after))
