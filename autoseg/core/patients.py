"""Which patient a case is of, as far as its name tells.

A patient with several cases is worth knowing: scans of one person in training and in the
held-out cases make a model look better than it is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

MOST_NUMBERED_SCANS = 20
"""Where more cases share what stands before a bare number, the number counts the cases."""

_SEPARATOR = r"[_\-. ]"
_BIDS = re.compile(rf"(sub-[a-z0-9]+)(?:{_SEPARATOR}.*)?", re.IGNORECASE)
_TCGA = re.compile(rf"(TCGA-\w\w-\w{{4}})(?:{_SEPARATOR}.*)?", re.IGNORECASE)
_PATIENT = re.compile(
    rf"((?:patient|pat|pt|pid|subject|subj|sub){_SEPARATOR}?[a-z]{{0,3}}\d+)(?:{_SEPARATOR}.*)?",
    re.IGNORECASE,
)
_WORDS = (
    *("baseline", "bl", "followup", "follow-up", "fu", "pre", "post", "preop", "postop"),
    *("ed", "es", "sa", "la", "systole", "diastole", "inspiration", "expiration"),
    *("arterial", "venous", "portal", "delayed", "native", "left", "right", "l", "r", "lt", "rt"),
)
_NUMBERED = (
    *("visit", "session", "ses", "timepoint", "tp", "time", "date", "followup", "fu", "month"),
    *("week", "day", "year", "slice", "slc", "frame", "phase", "echo", "acq", "rep", "m", "d"),
    *("w", "y", "t", "v", "z", "s"),
)
_COUNTED = ("scan", "image", "img", "volume", "vol", "series", "study", "exam", "run", "part")
_DATE = r"(?:19|20)\d\d[_\-.]?[01]\d[_\-.]?[0-3]\d"
_VISIT = re.compile(
    rf"(.+?){_SEPARATOR}(?:{'|'.join(_WORDS)}|(?:{'|'.join(_NUMBERED)})[_\-]?\d+|{_DATE})",
    re.IGNORECASE,
)
_COUNT = re.compile(rf"(.+?)(?:{_SEPARATOR}(?:{'|'.join(_COUNTED)})[_\-]?\d{{1,4}})", re.IGNORECASE)
_BARE = re.compile(r"((?:.*[_\- ])?[a-z]*\d+)[_\-]\d{1,4}", re.IGNORECASE)
_NO_IDENTITY = re.compile(r"(?:.*[_\- ])?(?:t[12]|[23]d|v\d|(?:19|20)\d\d)", re.IGNORECASE)


def patient_of(name: str) -> str | None:
    """The patient in the name of a case that says it is one of several of a patient.

    ``patient01_scan1``, ``sub-01_ses-02``, ``P012_20190304``, ``BraTS-GLI-00003-000``: what
    stands before the visit, scan, slice, side or date. A bare running number is a case, not a
    scan of somebody: ``liver_12`` has no patient. One name alone may deceive (``LUNG1-001``);
    ``patients_of`` looks at all.

    Args:
        name: of the case.

    Returns:
        The patient, or None if the name does not tell.
    """
    return _by_word(name) or _by_visit(name) or _by_number(name)


def patients_of(names: Iterable[str]) -> dict[str, str]:
    """The patients of those cases that share one, by their names.

    A bare number behind another one is taken for a scan only if there are several patients
    then, and none has more than ``MOST_NUMBERED_SCANS``.

    Args:
        names: of all cases of a data set.

    Returns:
        The patient of each case whose patient has at least one more.
    """
    listed = list(names)
    sure = {name: patient for name in listed if (patient := _by_word(name))}
    visits = {name: patient for name in listed if name not in sure and (patient := _by_visit(name))}
    known = {**sure, **(visits if len({*sure.values(), *visits.values()}) > 1 else {})}
    numbered = {n: patient for n in listed if n not in known and (patient := _by_number(n))}
    if _are_scans(Counter(numbered.values())):
        known |= numbered
    shared = Counter(known.values())
    return {name: known[name] for name in listed if name in known and shared[known[name]] > 1}


def _are_scans(cases_of: Counter[str]) -> bool:
    return len(cases_of) > 1 and max(cases_of.values()) <= MOST_NUMBERED_SCANS


def _by_word(name: str) -> str | None:
    """By a word that means a patient, or a naming scheme that has one."""
    for pattern in (_BIDS, _TCGA, _PATIENT):
        match = pattern.fullmatch(name)
        if match is not None:
            return match[1]
    return None


def _by_visit(name: str) -> str | None:
    """By what stands before visits, sides, phases, slices and dates, if it holds a number."""
    before = name
    while (match := _VISIT.fullmatch(before)) is not None:
        before = match[1]
    return before if before != name and any(map(str.isdigit, before)) else None


def _by_number(name: str) -> str | None:
    """By what stands before a scan's number, if it ends with a number of its own."""
    counted = _COUNT.fullmatch(name)
    if counted is not None:
        return counted[1] if any(map(str.isdigit, counted[1])) else None
    bare = _BARE.fullmatch(name)
    return None if bare is None or _NO_IDENTITY.fullmatch(bare[1]) else bare[1]
