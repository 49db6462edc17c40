"""The output formats, their file names, and whether a scan can have them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from strokeseg.errors import UsageError
from strokeseg.outputs import dicom
from strokeseg.outputs.folder import OutputFolder
from strokeseg.outputs.meshes import solids
from strokeseg.scan import Scan

DEFAULT_FORMATS = ("json", "nifti", "mesh", "report", "keys")
"""Formats written by default; "json" is always written."""
ALL_FORMATS = (*DEFAULT_FORMATS, *dicom.FORMATS, "nrrd", *solids.FORMATS, "montage", "planes", "views", "turn", "pdf")
"""All formats that can be written."""
SOLID_FORMATS = frozenset(solids.FORMATS)
"""Closed surfaces in mm for printing and measuring; only for a scan of known scale."""
MESH_FORMATS = SOLID_FORMATS | {"mesh", "report", "views", "turn", "pdf", "pdf-dicom"}
"""Formats that need the meshes of the 3D scene."""

_FILE_NAMES = {
    "json": ("result.json", "result.schema.json"),
    "nifti": ("mask.nii.gz", "ct.nii.gz", "lesions.nii.gz", "lesions.ctbl", "lesions_itksnap.txt"),
    "nrrd": ("lesions.seg.nrrd",),
    "mesh": ("scene.glb",),
    "report": ("report.html",),
    "pdf": ("report.pdf",),
    "keys": ("key_1.png",),
    "stl": ("brain.stl", "lesion_1.stl"),
    "ply": ("brain.ply", "lesion_1.ply"),
    "obj": ("scene.obj", "scene.mtl"),
    "montage": ("montage.png",),
    "planes": ("planes_1.png",),
    "views": ("views.png",),
    "turn": ("turn.webp",),
    "seg": ("seg.dcm",),
    "seg-labelmap": ("seg_labelmap.dcm",),
    "seg-probability": ("seg_probability.dcm",),
    "sr": ("sr.dcm", "seg.dcm"),
    "capture": ("capture_1.dcm",),
    "pdf-dicom": ("report_pdf.dcm",),
}


def check(out: str | Path, formats: Sequence[str], scan: Scan | None = None) -> None:
    """Check, before any work is done, that the results can be written; this leaves no files behind.

    Parameters
    ----------
    out : str or Path
        Folder of the results, which need not exist yet.
    formats : sequence of str
        Some of :data:`ALL_FORMATS`.
    scan : Scan, optional
        The scan, if it has been read already.

    Raises
    ------
    UsageError
        `usage`, for an unknown format, or one that this scan cannot have.
    NotWritable, DiskFull
        `not-writable`, if ``out`` is a file, cannot be created or written, or holds a file of a needed name that is not
        a result of StrokeSeg; `disk-full`.
    """
    if unknown := [name for name in formats if name not in ALL_FORMATS]:
        raise UsageError(
            f"unknown format: {', '.join(repr(name) for name in unknown)}", f"Known formats: {', '.join(ALL_FORMATS)}."
        )
    if scan is not None:
        check_formats(scan, formats)
    with OutputFolder(Path(out)) as folder:
        folder.refuse_foreign_files([name for key in {"json", *formats} for name in _FILE_NAMES[key]])
        (folder.staging / "probe").write_bytes(b"\0" * 4096)


def check_formats(scan: Scan, formats: Sequence[str]) -> None:
    """Refuse formats that a scan cannot have.

    Parameters
    ----------
    scan : Scan
        The scan.
    formats : sequence of str
        Some of :data:`ALL_FORMATS`.

    Raises
    ------
    UsageError
        `usage`, for DICOM objects of a scan that was not read from a DICOM series, or solids of a scan without scale.
    """
    dicom.check_formats(scan, formats)
    solids.check(scan, formats)
