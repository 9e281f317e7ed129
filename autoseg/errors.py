"""Errors a user can mend.

::

    AutosegError            place, finding, remedy, in one line; the command exits with 2
      DataError             raw images, labels or their description
      ArtifactError         a file of the workspace or a model: broken, edited into nonsense, newer
        OutdatedError       one of an earlier version that has to be made anew
      WorkspaceError        a stage that has not run yet, or whose results are out of date
      UnknownNameError      a name nobody registered or planned; lists the right ones
      InterruptedRunError   the user stopped a run; all is saved

A caller's mistake is a ``ValueError``; what cannot happen is an ``assert``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class AutosegError(Exception):
    """What went wrong in words a user can act on.

    Args:
        finding: what was found, without a full stop.
        place: file, case or JSON path it concerns.
        remedy: what to do about it, as an imperative.
    """

    def __init__(
        self, finding: str, *, place: str | Path | None = None, remedy: str | None = None
    ) -> None:
        super().__init__(finding)
        self.finding = finding
        self.place = None if place is None else str(place)
        self.remedy = remedy

    def __str__(self) -> str:
        """The whole message on one line: ``place: finding; remedy``."""
        line = self.finding if self.place is None else f"{self.place}: {self.finding}"
        line = line if self.remedy is None else f"{line}; {self.remedy}"
        return " ".join(line.split())

    def __reduce__(self) -> tuple[object, ...]:
        """Keep place and remedy when the error crosses a process border."""
        return _rebuild, (type(self), self.finding, self.place, self.remedy)


class DataError(AutosegError):
    """Raw images, labels or their description are not usable."""


class ArtifactError(AutosegError):
    """A file autoseg wrote, or a user edited, cannot be used."""


class OutdatedError(ArtifactError):
    """A file of an earlier version of autoseg that lacks what this version needs."""


class WorkspaceError(AutosegError):
    """Something an earlier command makes is missing or out of date."""


class UnknownNameError(AutosegError):
    """A name that does not exist; the message lists those that do."""


class InterruptedRunError(AutosegError):
    """The user stopped a run; all is saved and the command can be repeated."""


def _rebuild(
    kind: type[AutosegError], finding: str, place: str | None, remedy: str | None
) -> AutosegError:
    return kind(finding, place=place, remedy=remedy)


def unknown_name(
    kind: str, name: str, known: Iterable[str], *, place: str | Path | None = None
) -> UnknownNameError:
    """Build the error for a name that is not one of the known.

    Args:
        kind: what the name stands for, such as ``"network"``.
        name: what the user wrote.
        known: the names that exist.
        place: file or JSON path the name was read from.

    Returns:
        An error that suggests the nearest name and lists all.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    listing = ", ".join(names) if names else "none"
    return UnknownNameError(f"no {kind} named '{name}'{hint} (available: {listing})", place=place)
