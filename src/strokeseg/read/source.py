"""What a path holds, and which reader takes it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from strokeseg.errors import SeveralSeries, UnreadableFile
from strokeseg.read import archive, dicom, gate, nifti, pictures, series
from strokeseg.read.archive import Member
from strokeseg.result import Remark
from strokeseg.scan import Scan

Window = tuple[float, float]
Spacing = tuple[float, float, float]

_NIFTI = (".nii", ".nii.gz")


def scans(path: Path, uid: str | None, window: Window | None, spacing_mm: Spacing | None) -> list[Scan]:
    """Read and gate every series; see :func:`strokeseg.read.read`."""
    members = _members(path)
    niftis = [member for member in members if member.name.lower().endswith(_NIFTI)]
    if len(members) == 1 and niftis:
        return [gate.check(nifti.scan(niftis[0]))]
    headers = [header for member in members if (header := dicom.header(member)) is not None]
    if headers:
        return _dicom_scans(headers, len(members) - len(headers), uid)
    stack = [member for member in members if PurePosixPath(member.name).suffix.lower() in pictures.ENDINGS]
    if stack:
        return [gate.check(pictures.scan(stack, window, spacing_mm))]
    if len(niftis) > 1:
        raise UnreadableFile(f"{path.name}: holds {len(niftis)} NIfTI files", "Give one of them.")
    dicom.explain(members)
    raise UnreadableFile(f"{path.name}: no DICOM, NIfTI or picture in it")


def one_scan(path: Path, uid: str | None, window: Window | None, spacing_mm: Spacing | None) -> Scan:
    """Read, gate and choose one series; see :func:`strokeseg.read.read_one`."""
    found = scans(path, uid, window, spacing_mm)
    if len(found) == 1:
        return found[0]
    best = series.stands_out(found)
    if best is None:
        listed = "; ".join(series.describe(scan) for scan in found)
        raise SeveralSeries(f"{path.name}: holds {len(found)} head CT series: {listed}")
    left = len(found) - 1
    message = f"Of {len(found)} head CT series the one with {best.shape[0]} slices was chosen; {left} left out."
    return best.with_remarks(Remark(code="chose-series", severity="info", message=message))


def _members(path: Path) -> list[Member]:
    if path.is_dir():
        return archive.from_folder(path)
    if not path.exists():
        raise UnreadableFile(f"{path}: no such file or folder", "Check the path.")
    if not path.is_file():
        raise UnreadableFile(f"{path.name}: is neither a file nor a folder")
    member = Member(path.name, path=path)
    start = member.head(8)
    if not start:
        raise UnreadableFile(f"{path.name}: the file is empty or cannot be opened")
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06") or path.suffix.lower() == ".zip":
        return archive.from_zip(path)
    return [member]


def _dicom_scans(headers: list[dicom.Header], others: int, uid: str | None) -> list[Scan]:
    """Read each series that can be; one that is refused stops only if it is the only one."""
    groups, remarks = series.group(headers, others, uid)
    found: list[Scan] = []
    refusals: list[Exception] = []
    for group in groups:
        try:
            found.append(gate.check(dicom.scan(group).with_remarks(*remarks)))
        except gate.REFUSED as error:
            refusals.append(error)
    if not found:
        raise refusals[0]
    return found
