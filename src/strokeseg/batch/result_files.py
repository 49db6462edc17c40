"""Size and digest of the files of each result, so that a later call knows whether a result is still whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from strokeseg.batch.records import FileDigest, StudyRecord
from strokeseg.outputs.folder import OUTPUT_NAMES

_BLOCK_BYTES = 2**20


def compute_digests(folder: Path, names: Iterable[str]) -> dict[str, FileDigest]:
    """Compute size and SHA-256 of some files of a folder."""
    return {
        name: FileDigest(bytes=(folder / name).stat().st_size, sha256=_compute_sha256(folder / name)) for name in names
    }


def find_damaged_files(folder: Path, record: StudyRecord) -> list[str]:
    """Find the files of a result that are missing or differ from the journal, as after a power cut.

    The journals of version 0.1.0 have no digests: there, a file is damaged if it is missing or empty.

    Parameters
    ----------
    folder : Path
        Folder of the result.
    record : StudyRecord
        Its record in the journal.

    Returns
    -------
    list of str
        Their names.
    """
    if record.files:
        return [name for name, digest in record.files.items() if not _is_intact(folder / name, digest)]
    try:
        names = ["result.json", *json.loads((folder / "result.json").read_bytes())["files"].values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ["result.json"]
    return [name for name in names if not (folder / name).is_file() or not (folder / name).stat().st_size]


def clear_damaged_result(folder: Path, record: StudyRecord) -> None:
    """Make room for a new result in the folder of a damaged one; nothing is done if the result is whole.

    Files that differ from the journal and are not empty are renamed to ``NAME.changed``: someone may have edited them.

    Parameters
    ----------
    folder : Path
        Folder of the result.
    record : StudyRecord
        Its record in the journal.

    Raises
    ------
    OSError
        If a file cannot be removed or renamed.
    """
    damaged = find_damaged_files(folder, record)
    if not damaged or not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if not (path.name in record.files or OUTPUT_NAMES.fullmatch(path.name)) or not path.is_file():
            continue
        if path.stat().st_size == 0 or (path.name in record.files and path.name not in damaged):
            path.unlink()
        else:
            path.replace(_choose_free_name(path))


def _choose_free_name(path: Path) -> Path:
    numbers = ("", *(f"-{number}" for number in range(2, 1000)))
    names = (path.with_name(f"{path.name}.changed{number}") for number in numbers)
    return next(name for name in names if not name.exists())


def _is_intact(path: Path, digest: FileDigest) -> bool:
    try:
        return path.stat().st_size == digest.bytes and _compute_sha256(path) == digest.sha256
    except OSError:
        return False


def _compute_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
