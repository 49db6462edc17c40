"""What a path holds, and which reader takes it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from strokeseg.errors import InputError, SeveralSeries, UnreadableFile, UnsafeArchive
from strokeseg.read import archive, dicom, gate, header, nifti, pictures, series
from strokeseg.read.archive import Member
from strokeseg.read.header import Header
from strokeseg.read.quiet import quiet
from strokeseg.result import Remark
from strokeseg.scan import Scan

Window = tuple[float, float]
Spacing = tuple[float, float, float]

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")


def scans(path: Path, uid: str | None, window: Window | None, spacing_mm: Spacing | None) -> list[Scan]:
    """Read and gate every series; see :func:`strokeseg.read.read`."""
    with quiet():
        return _scans(path, _members(path), uid, window, spacing_mm)


def _scans(
    path: Path, members: list[Member], uid: str | None, window: Window | None, spacing_mm: Spacing | None
) -> list[Scan]:
    headers = [found for member in members if (found := header.read(member)) is not None]
    if headers:
        remarks = _unused(series=None, window=window, spacing_mm=spacing_mm)
        others = ["other file"] * (len(members) - len(headers))
        return [scan.with_remarks(*remarks) for scan in _dicom_scans(headers, others, uid)]
    niftis = [member for member in members if member.name.lower().endswith(nifti.ENDINGS)]
    stack = [member for member in members if PurePosixPath(member.name).suffix.lower() in pictures.ENDINGS]
    if niftis and (len(members) == 1 or not stack):
        if len(niftis) > 1:
            raise UnreadableFile(f"{path.name}: holds {len(niftis)} NIfTI files", "Give one of them.")
        remarks = _unused(series=uid, window=window, spacing_mm=spacing_mm) + _other_files(len(members) - 1)
        return [gate.check(nifti.scan(niftis[0]).with_remarks(*remarks))]
    if stack:
        remarks = _unused(series=uid, window=None, spacing_mm=None) + _other_files(len(members) - len(stack))
        return [gate.check(pictures.scan(stack, window, spacing_mm).with_remarks(*remarks))]
    if inner := next((member.name for member in members if archive.is_archive(member.name)), None):
        if path.is_file():
            raise UnsafeArchive(
                f"{path.name}: the member {inner!r} is an archive inside an archive, and nothing else can be read",
                "Unpack the inner archive and give it alone.",
            )
        raise UnreadableFile(f"{path.name}: no DICOM, NIfTI or picture in it, but {inner!r}", f"Give {inner} itself.")
    header.explain(members)
    raise UnreadableFile(f"{path.name}: no DICOM, NIfTI or picture in it")


def _other_files(count: int) -> list[Remark]:
    return [series.left_out(["other file"] * count)] if count else []


def _unused(**options: object) -> list[Remark]:
    """Say which options were given and do not fit the input."""
    names = ["--" + name.removesuffix("_mm") for name, value in options.items() if value is not None]
    if not names:
        return []
    message = f"{' and '.join(names)} given, but without meaning for this kind of input: not used."
    return [Remark(code="unused-option", severity="warning", message=message)]


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
    try:
        is_folder, is_file, exists = path.is_dir(), path.is_file(), path.exists()
    except OSError as error:  # a name too long, a folder on the way that may not be entered
        raise UnreadableFile(f"{path}: {error.strerror or error}", "Check the path and its permissions.") from None
    if is_folder:
        return archive.from_folder(path)
    if not exists:
        raise UnreadableFile(f"{path}: no such file or folder", "Check the path.")
    if not is_file:
        raise UnreadableFile(f"{path.name}: is neither a file nor a folder")
    member = Member(path.name, path=path)
    start = member.head(4)
    if not start:
        raise UnreadableFile(f"{path.name}: the file is empty", "Copy or export it again.")
    if start in _ZIP or path.suffix.lower() == ".zip":
        return archive.from_zip(path)
    return [member]


def _dicom_scans(headers: list[Header], others: list[str], uid: str | None) -> list[Scan]:
    """Read each series that can be read; the first refusal is raised if none can, and remarked otherwise."""
    groups, remarks = series.group(headers, others, uid)
    found: list[Scan] = []
    refusals: list[InputError] = []
    for group in groups:
        try:
            found.append(gate.check(dicom.scan(group).with_remarks(*remarks)))
        except InputError as error:
            refusals.append(error)
    if not found:
        raise refusals[0]
    if not refusals:
        return found
    reasons = ", ".join(sorted(error.code for error in refusals))
    message = f"{len(refusals)} other CT series cannot be used ({reasons}) and were left out."
    remark = Remark(code="left-out", severity="info", message=message)
    return [scan.with_remarks(remark) for scan in found]
