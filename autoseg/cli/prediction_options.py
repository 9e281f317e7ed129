"""Options of ``predict`` that decide how much is computed, and what else is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autoseg.errors import AutosegError

if TYPE_CHECKING:
    from autoseg.predict.stage import Part

ProbabilitiesOption = Annotated[
    bool,
    typer.Option(
        "--save-probabilities",
        help="Write CASE.npz, too: numpy.load(FILE)[STRUCTURE] / 255 is a probability.",
    ),
]
AnyPlanOption = Annotated[
    str | None, typer.Option("--plan", metavar="NAME", help="Any plan by default.")
]
FastOption = Annotated[
    bool,
    typer.Option(
        "--fast", help="One fold, no mirroring, fewer patches; says what that is known to cost."
    ),
]
NumPartsOption = Annotated[
    int | None,
    typer.Option(
        "--num-parts", metavar="N", help="Share the cases among N commands, for clusters."
    ),
]
PartOption = Annotated[
    int | None,
    typer.Option("--part", metavar="I", help="Which of them this is, from 0 to N - 1."),
]


def parse_part(part: int | None, num_parts: int | None) -> Part | None:
    """Read ``--part`` and ``--num-parts``.

    Raises:
        AutosegError: if one is missing, or there is no such part.
    """
    from autoseg.predict.stage import Part

    if part is None and num_parts is None:
        return None
    if part is None or num_parts is None:
        raise AutosegError(
            "--part and --num-parts belong together",
            remedy="write for example --num-parts 4 --part 0",
        )
    return Part(number=part, count=num_parts)
