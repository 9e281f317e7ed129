"""Words people use in names of files and folders: what is a label map, which channel it is."""

from __future__ import annotations

import re
from functools import lru_cache


def _set_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


LABEL_WORDS = _set_of(
    "label labels lbl lbls mask masks msk seg segs segm segmentation segmentations dseg gt ground "
    "truth groundtruth annotation annotations annot annots roi rois contour contours delineation "
    "delineations labelmap labelmaps manual"
)
IMAGE_WORDS = _set_of(
    "image images imaging img imgs im scan scans volume volumes vol vols raw orig original "
    "intensity intensities picture pictures photo photos nifti nii dicom dcm anat mr mri"
)
NEUTRAL_WORDS = _set_of("derivatives rawdata sourcedata space desc")
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "tr", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "ts", "tst"), "test"),
}
_SPELLINGS = {
    "CT": "ct hu cta ncct cect",
    "CBCT": "cbct",
    "T1": "t1 t1w t1n mprage",
    "T1ce": "t1ce t1c t1gd t1post t1cw t1wce",
    "T2": "t2 t2w",
    "FLAIR": "flair t2f t2flair",
    "PD": "pd pdw",
    "ADC": "adc",
    "DWI": "dwi hbv",
    "DCE": "dce",
    "SWI": "swi",
    "PET": "pet pt suv",
    "US": "us ultrasound",
    "MR": "mr mri",
}
CHANNEL_NAMES = {
    spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings.split()
}
"""What a channel is called, by how it is written; the sensible order of channels."""

_ORDER = list(_SPELLINGS)
_ONLY_BEHIND = frozenset(("pd", "pt", "us"))
_SEPARATOR = re.compile(r"([_\-. ,+()\[\]]+)")
_NUMBERED_WORD = re.compile(r"([a-z]+)(\d+)")
_CHANNEL_WORD = re.compile(r"(?:ch|channel|mod|modality)\d+|b\d{1,2}00|b[5-9]0|b0")
_SEGMENTATION_SUFFIXES = (".seg.nrrd", ".seg.nhdr", ".seg.nii.gz", ".seg.nii", ".seg.mha")


def split_words(text: str) -> list[str]:
    """Words and what separates them, in turn: joined, they are the text again.

    ``imagesTr`` and ``label0001`` are two words each, with nothing between them.
    """
    pieces: list[str] = []
    for number, piece in enumerate(_SEPARATOR.split(text)):
        if number % 2:
            pieces.append(piece)
        else:
            parts = _parts_of_word(piece)
            pieces += [x for part in parts for x in ("", part)][1:]
    return pieces


@lru_cache(maxsize=1 << 16)
def words_of(text: str) -> tuple[str, ...]:
    """The words of a name, case folded."""
    return tuple(word.casefold() for word in split_words(text)[::2] if word)


def _parts_of_word(word: str) -> list[str]:
    humps = re.split(r"(?<=[a-z])(?=[A-Z])", word)
    if len(humps) > 1 and all(_means_something(hump.casefold()) for hump in humps):
        return humps
    match = _NUMBERED_WORD.fullmatch(word.casefold())
    is_numbered = match is not None and match[1] in LABEL_WORDS | IMAGE_WORDS | {"ct"}
    return [word[: match.end(1)], word[match.end(1) :]] if match and is_numbered else [word]


def _means_something(word: str) -> bool:
    kinds = (LABEL_WORDS, IMAGE_WORDS, SPLIT_WORDS, CHANNEL_NAMES, {"map"})
    return any(word in kind for kind in kinds)


def is_channel(word: str, *, is_last: bool = True) -> bool:
    """Whether a word names a channel.

    Args:
        word: case folded.
        is_last: whether it ends its name; ``pt`` and the like mean a channel only there.
    """
    is_known = word in CHANNEL_NAMES or _CHANNEL_WORD.fullmatch(word) is not None
    return is_known and (is_last or word not in _ONLY_BEHIND)


def channel_name(word: str) -> str:
    """What a channel is called in a description."""
    if word.isdigit():
        return f"channel_{int(word)}"
    return CHANNEL_NAMES.get(word, word)


def channel_rank(word: str) -> tuple[int, int, str]:
    """Sort key of channels: by number, else in the usual order, else by the alphabet."""
    digits = re.search(r"(\d+)$", word)
    if digits is not None and word not in CHANNEL_NAMES:
        return (0, int(digits[1]), word)
    name = CHANNEL_NAMES.get(word)
    return (1, _ORDER.index(name), word) if name is not None else (2, 0, word)


def is_segmentation(name: str) -> bool:
    """Whether the ending of a file's name says it is a segmentation, as 3D Slicer's does."""
    return name.lower().endswith(_SEGMENTATION_SUFFIXES)
