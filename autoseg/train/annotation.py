"""What a training has to say of cases that are not annotated for all structures."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from autoseg.core.annotation import in_words, is_annotated
from autoseg.core.dataset import Case
from autoseg.core.labels import LabelSpace

logger = logging.getLogger(__name__)


def tell_partial_labels(labels: LabelSpace, cases: Sequence[Case]) -> None:
    """Log what a training learns each structure from, unless that is every case.

    Args:
        labels: the structures.
        cases: the training cases.
    """
    annotated = in_words(cases, labels, "training case")
    if annotated is None:
        return
    logger.info("partial labels: %s; elsewhere they count neither way", annotated)
    never = [n for n in labels.names if not any(is_annotated(case, n) for case in cases)]
    if never:
        logger.warning(
            "no training case is annotated for %s: nothing tells the network what that is, and "
            "what it says of it means nothing; deal other folds in splits.json, or annotate it in "
            "more cases",
            ", ".join(never),
        )
