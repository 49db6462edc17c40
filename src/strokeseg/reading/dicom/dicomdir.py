"""DICOMDIR: the index of a medium. It is used only to tell which images are missing."""

from __future__ import annotations

import io
from pathlib import PurePosixPath

from pydicom import dcmread

from strokeseg.reading import limits
from strokeseg.reading.input_file import InputFile
from strokeseg.result import Remark

_MAX_BYTES = 64 * 2**20


def check_missing_files(index: InputFile, files: list[InputFile]) -> Remark | None:
    """Report images that a DICOMDIR lists and that are missing; None if none is, or the DICOMDIR cannot be read.

    Parameters
    ----------
    index : InputFile
        The DICOMDIR.
    files : list of InputFile
        All files, including the DICOMDIR; names are compared case-insensitively, as on a CD.

    Returns
    -------
    Remark or None
        `missing-files`.
    """
    try:
        data = dcmread(io.BytesIO(index.read_start(_MAX_BYTES)), force=True)
        records = list(data.DirectoryRecordSequence)[: 4 * limits.MAX_FILES]
        listed = {_join_file_id(record.ReferencedFileID) for record in records if record.DirectoryRecordType == "IMAGE"}
    except Exception:  # a damaged DICOMDIR is ignored
        return None
    folder = PurePosixPath(index.name).parent
    paths = [PurePosixPath(file.name) for file in files if PurePosixPath(file.name).is_relative_to(folder)]
    missing_count = len(listed - {path.relative_to(folder).as_posix().lower() for path in paths})
    if not missing_count:
        return None
    message = f"The DICOMDIR lists {len(listed)} images, of which {missing_count} are missing."
    return Remark(code="missing-files", severity="warning", message=message)


def _join_file_id(parts: object) -> str:
    return "/".join([parts] if isinstance(parts, str) else [str(part) for part in parts]).lower()  # type: ignore[attr-defined]
