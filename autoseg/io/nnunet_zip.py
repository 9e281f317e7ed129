"""Exported models of nnU-Net: what is needed of a zip, unpacked where nothing else lies."""

from __future__ import annotations

import errno
import re
import shutil
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO

from autoseg.errors import ArtifactError, AutosegError
from autoseg.io import artifacts, atomic
from autoseg.io.nnunet import FINGERPRINT
from autoseg.io.nnunet_model import CHECKPOINTS, DESCRIPTION, PLANS, SUMMARY
from autoseg.io.zip_damage import ZIP_DAMAGE, is_damage

_WANTED = re.compile(
    rf"(?:.*/)?(?:{PLANS}|{DESCRIPTION}|{FINGERPRINT}|fold_(?:\d+|all)/(?:"
    rf"{'|'.join(CHECKPOINTS)}|validation/{SUMMARY}))".replace(".json", r"\.json")
)
_MOST_ENTRIES = 100_000
_LARGEST_JSON = 64 * 2**20
_BEST_RATIO = 20
"""How far weights can be compressed; numbers of a training hardly can."""
_CHUNK = 2**20
_DEEPEST = 16
_LONGEST_SHOWN = 60
_ODD_NAME = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EILSEQ)
"""What a disk says of names: taken, by a file or a folder, or impossible."""
_REMEDY = "export the model again, from a source that you trust"


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The files of models in a zip, in a folder that is gone afterwards.

    Nothing else is unpacked, and nothing outside that folder is written.

    Args:
        path: as ``nnUNetv2_export_model_to_zip`` writes it.

    Raises:
        ArtifactError: if it is no zip, damaged, or one that means harm.
        AutosegError: if there is no room for its content.
    """
    with TemporaryDirectory(prefix="autoseg-import-") as scratch:
        folder = Path(scratch)
        with _reading(path):
            archive = zipfile.ZipFile(path)
        with archive:
            with _reading(path):
                wanted = _checked(archive, path, folder)
            for info in wanted:
                _unpack(archive, info, folder, path)
        yield folder


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Put into words what reading the zip may raise."""
    try:
        yield
    except (*ZIP_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and not is_damage(error):
            finding = f"cannot be read ({_reason(error)})"
            raise AutosegError(finding, place=artifacts.shown(path)) from error
        # Where the content ends too early there may be no words.
        words = _reason(error) if isinstance(error, OSError) else str(error)
        raise _error(path, f"damaged, or no zip ({words or 'cut off'})") from error


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _checked(archive: zipfile.ZipFile, path: Path, folder: Path) -> list[zipfile.ZipInfo]:
    """The entries that are wanted, after a look at all of them."""
    infos = archive.infolist()
    if len(infos) > _MOST_ENTRIES:
        raise _error(path, f"holds {len(infos)} entries")
    for info in infos:
        _refuse_tricks(info, path)
    wanted = [info for info in infos if _WANTED.fullmatch(info.filename)]
    if len({info.filename for info in wanted}) < len(wanted):
        raise _error(path, "holds two entries of one name")
    for info in wanted:
        depth = info.filename.count("/")
        if depth > _DEEPEST:
            raise _error(path, f"'{_shown(info.filename)}' lies {depth} folders deep")
        is_json = info.filename.endswith(".json")
        most = _LARGEST_JSON if is_json else _BEST_RATIO * info.compress_size + _CHUNK
        if info.file_size > most:
            raise _error(path, f"'{_shown(info.filename)}' would grow to {info.file_size} bytes")
    total = sum(info.file_size for info in wanted)
    free = shutil.disk_usage(folder).free
    if total > free:
        raise AutosegError(
            f"its content takes {total} bytes, where {free} are free",
            place=folder.parent,
            remedy="make room, or name another folder with TMPDIR",
        )
    return wanted


def _refuse_tricks(info: zipfile.ZipInfo, path: Path) -> None:
    name = info.filename
    parts = PurePosixPath(name).parts
    leaves = name.startswith("/") or ".." in parts or any(c in name for c in "\\:\0")
    is_link = stat.S_ISLNK(info.external_attr >> 16)
    if leaves or is_link or info.flag_bits & 1:
        what = "is a link" if is_link else "leaves its folder" if leaves else "is encrypted"
        raise _error(path, f"'{_shown(name)}' {what}")


def _unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo, folder: Path, path: Path) -> None:
    target = folder.joinpath(*PurePosixPath(info.filename).parts)
    written = 0
    with _reading(path):
        source = archive.open(info)
    with source, _placed(target, info, path) as file:
        while chunk := _next(source, path):
            written += len(chunk)
            if written > info.file_size:
                raise _error(path, f"'{_shown(info.filename)}' is larger than it says")
            file.write(chunk)


def _next(source: IO[bytes], path: Path) -> bytes:
    with _reading(path):
        return source.read(_CHUNK)


@contextmanager
def _placed(target: Path, info: zipfile.ZipInfo, path: Path) -> Iterator[IO[bytes]]:
    """A new file for an entry; whether the name or the disk is to blame is told apart."""
    with atomic.writing(target):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            file = target.open("xb")
        except OSError as error:
            if error.errno not in _ODD_NAME:
                raise
            finding = f"'{_shown(info.filename)}' cannot be unpacked ({_reason(error)})"
            raise _error(path, finding) from error
        with file:
            yield file


def _shown(name: str) -> str:
    """The name of an entry as messages show it: nothing a terminal acts on, and not too long."""
    text = name if name.isprintable() else ascii(name)[1:-1]
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."


def _error(path: Path, finding: str) -> ArtifactError:
    return ArtifactError(f"refused: {finding}", place=artifacts.shown(path), remedy=_REMEDY)
