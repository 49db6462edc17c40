"""The files of a result: written beside their place, and put there only when all of them are whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import UsageError
from strokeseg.result import ResultDocument, Scene, Timing
from strokeseg.scan import Scan
from strokeseg.write.folder import Delivery

__all__ = ["FORMATS", "check", "save"]

FORMATS = ("json", "nifti", "mesh", "report", "keys")
"""What can be written: "json" is written always."""

_FIXED_NAMES = {
    "json": ("result.json", "result.schema.json"),
    "nifti": ("mask.nii.gz", "ct.nii.gz"),
    "mesh": ("scene.glb",),
    "report": ("report.html",),
    "keys": ("key_1.png",),
}


def check(out: str | Path, formats: Sequence[str]) -> None:
    """Find out, before any work is done, whether the results can be written; leaves nothing behind.

    Parameters
    ----------
    out : the folder to be, which need not be there yet
    formats : of :data:`FORMATS`

    Raises
    ------
    UsageError
        `usage`, for an unknown format
    NotWritable, DiskFull
        `not-writable`, if ``out`` is a file, cannot be made or written, or holds a file of a needed name that is no
        result of StrokeSeg; `disk-full`
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UsageError(
            f"format {', '.join(repr(name) for name in unknown)}: not known", f"Known formats: {', '.join(FORMATS)}."
        )
    with Delivery(Path(out)) as delivery:
        delivery.refuse_foreign([name for chosen in {"json", *formats} for name in _FIXED_NAMES[chosen]])
        (delivery.partial / "probe").write_bytes(b"\0" * 4096)


def save(
    out: str | Path,
    document: ResultDocument,
    scan: Scan,
    mask: NDArray[np.bool_],
    labels: NDArray[np.int32],
    scene: Scene | None,
    formats: Sequence[str],
    finish: Callable[[], Timing],
) -> ResultDocument:
    """Write a result's files into a folder, all of them or none.

    They are made in a hidden folder inside ``out`` and renamed when all are whole, `result.json` last: where it lies,
    everything that it lists lies too. Files that an earlier `result.json` lists go away with it; any other file stays.

    Parameters
    ----------
    out : folder, made if missing
    document : the result so far; its files and timing are filled in
    mask : bool, (slices, rows, columns), on the scan's grid
    labels : int32, the same shape; 0 is background, 1 the largest lesion
    scene : the meshes, or None where neither "mesh" nor "report" is asked for
    formats : of :data:`FORMATS`
    finish : gives the timing when everything but the report's text and `result.json` is written

    Returns
    -------
    The document as written

    Raises
    ------
    NotWritable, DiskFull
        `not-writable`, `disk-full`; nothing new is left and earlier results are as they were
    """
    from strokeseg.write import json, mesh, nifti, pictures, report

    with Delivery(Path(out)) as delivery:
        folder = delivery.partial
        files = {"result": json.NAME, "schema": json.SCHEMA_NAME}
        if "nifti" in formats:
            files |= nifti.save(folder, scan, mask)
        if "mesh" in formats and scene is not None:
            files |= mesh.save(folder, scene)
        if "keys" in formats:
            files |= pictures.save_keys(folder, scan, mask, labels)
        slices = pictures.for_report(scan, mask) if "report" in formats else None
        if slices is not None:
            files |= {"report": report.NAME}
        document = document.model_copy(update={"files": files, "timing_s": finish()})
        if slices is not None:
            report.save(folder, document, slices, scene)
        json.save(folder, document)
        delivery.put(list(files.values()), last=json.NAME)
    return document
