"""What became of cases between two stages, in the words of a warning."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from autoseg.core.dataset import Case, Splits
from autoseg.core.words import counted


def changed_cases(planned: Collection[str], now: Collection[str]) -> str | None:
    """Cases that came and went since a data set was planned.

    Args:
        planned: names of the cases when it was.
        now: names of the cases there are now.

    Returns:
        Such as ``"3 cases are new and 1 is gone (the first is 'a')"``; None if there are none.
    """
    new, gone = sorted(set(now) - set(planned)), sorted(set(planned) - set(now))
    if not new and not gone:
        return None
    counts = [f"{_count(new)} {_are(new)} new"] if new else []
    if gone:
        counts.append(f"{len(gone) if new else _count(gone)} {_are(gone)} gone")
    return f"{' and '.join(counts)} (the first is '{[*new, *gone][0]}')"


def changed_annotation(planned: Iterable[Case], now: Iterable[Case]) -> str | None:
    """Cases that are annotated for other structures than when a data set was planned.

    Args:
        planned: the cases when it was.
        now: the cases there are now.

    Returns:
        Such as ``"3 cases are annotated for other structures (the first is 'a')"``; None if there
        are none.
    """
    before = {case.name: case.annotated for case in planned}
    changed = sorted(
        case.name for case in now if case.annotated != before.get(case.name, case.annotated)
    )
    if not changed:
        return None
    are = _are(changed)
    return f"{_count(changed)} {are} annotated for other structures (the first is '{changed[0]}')"


def cases_beside_folds(splits: Splits, names: Collection[str]) -> str | None:
    """Cases in no fold, and cases of the folds that are gone.

    Args:
        splits: the folds.
        names: the cases there are.

    Returns:
        Such as ``"2 cases are in no fold (the first is 'a')"``; None if folds and cases agree.
    """
    left_out = sorted(set(names) - splits.case_names)
    gone = sorted(splits.case_names - set(names))
    parts: list[str] = []
    if left_out:
        parts.append(
            f"{_count(left_out)} {_are(left_out)} in no fold (the first is '{left_out[0]}')"
        )
    if gone:
        parts.append(f"{_count(gone)} of the folds {_are(gone)} gone (the first is '{gone[0]}')")
    return " and ".join(parts) or None


def _count(names: Sequence[str]) -> str:
    return counted(len(names), "case")


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
