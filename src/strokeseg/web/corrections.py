"""What people drew and accepted, as pairs that `strokeseg train` reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, func, select

from strokeseg import atomic_write
from strokeseg.errors import NotFound
from strokeseg.web.database import studies, versions
from strokeseg.web.storage import Storage

_REMEDY = "Name another folder with -o."


@dataclass(frozen=True)
class ExportSummary:
    """How many studies were written, and the ids of those that have no CT or mask as NIfTI."""

    studies: int
    missing: tuple[str, ...]


def export_corrections(engine: Engine, storage: Storage, out: Path) -> ExportSummary:
    """Write of each study the latest accepted correction: `ID.nii.gz`, the CT, and `ID_mask.nii.gz`.

    The study's own id stands for the patient: two studies of one patient count as two. Nothing else of it is written.

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
    same = (versions.c.study == latest.c.study) & (versions.c.version == latest.c.version)
    query = select(versions.c.study, versions.c.folder).join(latest, same)
    query = query.join(studies, studies.c.id == versions.c.study).where(~studies.c.deleted).order_by(versions.c.study)
    with engine.connect() as connection:
        found = connection.execute(query).all()
    without = []
    for study, folder in found:
        try:
            ct, mask = (storage.read(f"studies/{study}/{folder}/{name}.nii.gz") for name in ("ct", "mask"))
        except NotFound:
            without.append(study)
            continue
        atomic_write.write_file(out / f"{study}_mask.nii.gz", mask, _REMEDY)
        atomic_write.write_file(out / f"{study}.nii.gz", ct, _REMEDY)
    return ExportSummary(len(found) - len(without), tuple(without))
