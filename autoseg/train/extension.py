"""Training on after the end: a finished run gets more epochs.

The schedule goes on as though the run had been planned so long from the start: where N epochs
follow E, the rate is that of an E + N epochs' schedule after E, and falls to 0 over the N. As
the optimiser's momentum stems from a rate near 0, the rate climbs there in a line over the first
``REWARM`` of the extension.

References:
    Ibrahim et al. 2024, Simple and scalable strategies to continually pre-train large language
    models: warming up again and decaying again, with earlier data among the new, reaches what
    training anew on all data reaches. The length of the warm-up is ours.
"""

from __future__ import annotations

from autoseg.core.plan import Extension, TrainingSpec
from autoseg.errors import AutosegError

REWARM = 0.05
_REWARM_START = 0.01


def rewarmed(spec: TrainingSpec, epochs: float) -> float:
    """Share of the scheduled learning rate to use, for the beginning of an extension.

    Args:
        spec: the recipe.
        epochs: epochs trained so far, with a fraction for the steps of the current one.

    Returns:
        1 but for the first ``REWARM`` of an extension, where it rises from a hundredth to 1.
    """
    if not spec.extensions:
        return 1.0
    latest = spec.extensions[-1]
    risen = (epochs - latest.after) / (REWARM * latest.epochs)
    return min(1.0, _REWARM_START + (1 - _REWARM_START) * risen)


def extend(
    finished: TrainingSpec, under_way: TrainingSpec, trained: int, epochs: int, place: str
) -> TrainingSpec | None:
    """The recipe of a finished run with more epochs.

    Args:
        finished: the recipe its final weights were found with.
        under_way: the recipe its state was saved with: with one extension more, if that was
            begun and stopped.
        trained: epochs its state has.
        epochs: how many more are wanted.
        place: what messages call the run.

    Returns:
        The recipe to go on with; None if the run was extended by just so many already.

    Raises:
        AutosegError: if an extension by another number of epochs was begun and stopped.
    """
    if len(under_way.extensions) > len(finished.extensions):
        begun = under_way.extensions[-1].epochs
        if begun != epochs:
            raise AutosegError(
                f"an extension by {begun} epochs was begun and is not finished",
                place=place,
                remedy=f"go on with it (--extend {begun}), then extend further",
            )
        return under_way
    if finished.extensions and finished.extensions[-1].epochs == epochs:
        return None
    extension = Extension(after=trained, epochs=epochs)
    return finished.model_copy(update={"extensions": (*finished.extensions, extension)})
