"""A DICOMDIR: what a medium says that it holds. Nothing is found through it: it tells what is missing."""

from __future__ import annotations

import io
from pathlib import PurePosixPath

from pydicom import dcmread

from strokeseg.reading.input_file import MAX_FILES, InputFile
from strokeseg.result import Remark

_MAX_BYTES = 64 * 2**20


def check_missing_files(index: InputFile, members: list[InputFile]) -> Remark | None:
    """Say which of the images that a DICOMDIR lists are not there; None where all are, or it cannot be read.

    Parameters
    ----------
    index : InputFile
        The DICOMDIR.
    members : list of InputFile
        All files, the DICOMDIR among them; names are compared without regard to case, as on a CD.
    """
    try:
        data = dcmread(io.BytesIO(index.read_start(_MAX_BYTES)), force=True)
        records = list(data.DirectoryRecordSequence)[: 4 * MAX_FILES]
        listed = {_join_file_id(record.ReferencedFileID) for record in records if record.DirectoryRecordType == "IMAGE"}
    except Exception:  # an index that is damaged is none
        return None
    folder = PurePosixPath(index.name).parent
    inside = [PurePosixPath(member.name) for member in members if PurePosixPath(member.name).is_relative_to(folder)]
    lost = len(listed - {path.relative_to(folder).as_posix().lower() for path in inside})
    if not lost:
        return None
    message = f"The DICOMDIR lists {len(listed)} images, of which {lost} are not there."
    return Remark(code="missing-files", severity="warning", message=message)


def _join_file_id(parts: object) -> str:
    return "/".join([parts] if isinstance(parts, str) else [str(part) for part in parts]).lower()  # type: ignore[attr-defined]
