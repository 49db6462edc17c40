"""Export of accepted corrections as image-mask pairs for `strokeseg train`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, func, select

from strokeseg import atomic_write
from strokeseg.errors import NotFound
from strokeseg.web.database import studies, versions
from strokeseg.web.storage import Storage

_REMEDY = "Choose another folder with -o."


@dataclass(frozen=True)
class ExportSummary:
    """The result of an export.

    Attributes
    ----------
    studies : int
        Number of exported studies.
    missing : tuple of str
        IDs of studies that were skipped because they have no CT or mask as NIfTI.
    """

    studies: int
    missing: tuple[str, ...]


def export_corrections(engine: Engine, storage: Storage, out: Path) -> ExportSummary:
    """Write the latest accepted correction of each study: `ID.nii.gz`, the CT, and `ID_mask.nii.gz`.

    The study's ID stands for the patient: two studies of one patient count as two. Nothing else of a study is written.

    Parameters
    ----------
    engine : Engine
        The database.
    storage : Storage
        The files.
    out : Path
        The folder for the pairs.

    Returns
    -------
    ExportSummary
        What was exported.

    Raises
    ------
    NotWritable, DiskFull
        `not-writable`, `disk-full`.
    """
    latest = (
        select(versions.c.study, func.max(versions.c.version).label("version"))
        .where(versions.c.accepted, versions.c.version > 0, versions.c.folder.is_not(None))
        .group_by(versions.c.study)
        .subquery()
    )
    is_latest = (versions.c.study == latest.c.study) & (versions.c.version == latest.c.version)
    query = select(versions.c.study, versions.c.folder).join(latest, is_latest)
    query = query.join(studies, studies.c.id == versions.c.study).where(~studies.c.deleted).order_by(versions.c.study)
    with engine.connect() as connection:
        rows = connection.execute(query).all()
    missing = []
    for study, folder in rows:
        try:
            ct, mask = (storage.read(f"studies/{study}/{folder}/{name}.nii.gz") for name in ("ct", "mask"))
        except NotFound:
            missing.append(study)
            continue
        atomic_write.write_file(out / f"{study}_mask.nii.gz", mask, _REMEDY)
        atomic_write.write_file(out / f"{study}.nii.gz", ct, _REMEDY)
    return ExportSummary(len(rows) - len(missing), tuple(missing))
