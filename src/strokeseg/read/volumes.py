"""Whole volumes in one file, or a header beside its voxels: NIfTI, NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd).

NRRD and MetaImage are a few lines of text before raw voxels. They are read here, not by pynrrd or SimpleITK: a header
may name another file, and that one is taken only from the header's own folder or archive, and unpacked within bounds.
"""

from __future__ import annotations

import bz2
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import StrokesegError, TooLarge, UnreadableFile
from strokeseg.read import bounds, grid, nifti
from strokeseg.read.archive import MOST_VOXELS, Member
from strokeseg.scan import Floats, Scan

_NRRD, _META = (".nrrd", ".nhdr"), (".mha", ".mhd")
ENDINGS = (*nifti.ENDINGS, *_NRRD, *_META)
VOXELS_BESIDE = (".raw", ".zraw", ".img", ".raw.gz")

_MOST_HEADER = 2**16

_META_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_NRRD_TYPES = {
    **dict.fromkeys(["signed char", "int8", "int8_t"], "i1"),
    **dict.fromkeys(["uchar", "unsigned char", "uint8", "uint8_t"], "u1"),
    **dict.fromkeys(["short", "short int", "signed short", "signed short int", "int16", "int16_t"], "i2"),
    **dict.fromkeys(["ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"], "u2"),
    **dict.fromkeys(["int", "signed int", "int32", "int32_t"], "i4"),
    **dict.fromkeys(["uint", "unsigned int", "uint32", "uint32_t"], "u4"),
    **dict.fromkeys(["longlong", "long long", "long long int", "signed long long", "int64", "int64_t"], "i8"),
    "float": "f4",
    "double": "f8",
}
# What each space's axes are against LPS.
_SPACES = {"left-posterior-superior": (1, 1), "right-anterior-superior": (-1, -1), "left-anterior-superior": (1, -1)}
_SPACES |= {"lps": (1, 1), "ras": (-1, -1), "las": (1, -1)}


@dataclass(frozen=True)
class Volume:
    """What a header says.

    Parameters
    ----------
    sizes : of the axes, the fastest first
    dtype : of a voxel, with its byte order
    packing : raw | zlib | gzip | bzip2
    beside : name of the file that holds the voxels; None where they follow the header
    start : bytes to skip there; -1 where the voxels are the file's end
    skipped : bytes to skip of what is unpacked
    affine : (4, 4), indices in the order of the axes to LPS mm
    placed : whether the affine states sides
    """

    sizes: tuple[int, ...]
    dtype: str
    packing: str
    beside: str | None
    start: int
    affine: Floats
    placed: bool
    skipped: int = 0


def scan(member: Member, members: Sequence[Member]) -> Scan:
    """Read a volume.

    Parameters
    ----------
    member : the volume or its header
    members : all that lie with it; voxels beside a header are looked for among them

    Raises
    ------
    UnreadableFile, TooLarge, InconsistentGeometry, NoHounsfield
        `unreadable`, `too-large`, `geometry`, `no-hounsfield`
    """
    ending = PurePosixPath(member.name.lower()).suffix
    if ending not in _NRRD + _META:
        return nifti.scan(member)
    what = "NRRD" if ending in _NRRD else "MetaImage"
    data = bounds.whole(member, _MOST_HEADER + bounds.MOST_VOLUME_BYTES)
    try:
        volume, rest = _nrrd(data) if ending in _NRRD else _meta(data, member.name)
        count = int(np.prod([int(size) for size in volume.sizes], dtype=object))
        if count > MOST_VOXELS:
            raise TooLarge(f"{member.name}: {count:,} voxels; at most {MOST_VOXELS:,} are read")
        if min(volume.sizes) < 1 or volume.start < -1 or volume.skipped < 0:
            raise ValueError("a size or a place below what it can be")
        bounds.check(count * np.dtype(volume.dtype).itemsize + volume.skipped, bounds.MOST_VOLUME_BYTES, member.name)
        whole = rest
        if volume.beside is not None:
            whole = bounds.whole(_beside(member, members, volume.beside), 2 * bounds.MOST_VOLUME_BYTES)
        values = _voxels(whole, volume, count)
    except StrokesegError:
        raise
    except Exception as error:  # a header's words and numbers can be wrong in every way
        said = f"{member.name}: no readable {what} ({type(error).__name__})"
        raise UnreadableFile(said, "Copy or export it again.") from None
    return grid.scan(values, volume.affine, member.name, what.lower(), placed=volume.placed)


def _beside(member: Member, members: Sequence[Member], name: str) -> Member:
    """Find the file that a header names, in the header's own folder and nowhere else."""
    found = None
    if re.fullmatch(r"[^/\\%:]+", name) and name not in (".", "..") and name.upper() != "LIST":
        path = PurePosixPath(member.name).with_name(name)
        found = next((other for other in members if other.name == str(path)), None)
        if found is None and member.path is not None:
            there = member.path.parent / name
            found = Member(name, path=there) if there.is_file() else None
    linked = found is not None and found.path is not None and found.path.is_symlink()  # it may lead out of the folder
    if found is None or linked or found.name == member.name:
        raise UnreadableFile(
            f"{member.name}: its voxels should lie in {name[:80]!r}, which is no file beside it",
            "Give the folder that holds both, or save the volume as one file.",
        )
    return found


def _voxels(whole: bytes, volume: Volume, count: int) -> NDArray[Any]:
    size = count * np.dtype(volume.dtype).itemsize
    if volume.packing == "raw":
        start = len(whole) - size if volume.start < 0 else volume.start
        plain = whole[max(start, 0) :]
    else:
        engine: Any = bz2.BZ2Decompressor() if volume.packing == "bzip2" else zlib.decompressobj(wbits=47)
        plain = engine.decompress(whole[max(volume.start, 0) :], volume.skipped + size)[volume.skipped :]
    if len(plain) < size or (volume.packing == "raw" and volume.start < 0 and len(whole) < size):
        raise ValueError("fewer voxels than the header says")
    return np.frombuffer(plain[:size], volume.dtype).reshape(volume.sizes, order="F")


def _fields(data: bytes, mark: str) -> dict[str, str]:
    text = data.decode("latin-1").replace("\r\n", "\n")
    parts = (line.partition(mark) for line in text.split("\n") if line and not line.startswith("#"))
    return {key.strip().lower(): value.strip() for key, found, value in parts if found}


def _meta(data: bytes, name: str) -> tuple[Volume, bytes]:
    """Read a MetaImage header: "Key = Value" lines, the last of which says where the voxels lie. Places are LPS."""
    end = re.search(rb"^ElementDataFile\s*=[^\n]*\n?", data[:_MOST_HEADER], re.MULTILINE)
    if end is None:
        raise ValueError("no ElementDataFile")
    fields = _fields(data[: end.end()], "=")
    sizes = tuple(int(part) for part in fields["dimsize"].split())
    if not _yes(fields.get("binarydata", "True")) or int(fields.get("elementnumberofchannels", "1")) != 1:
        raise ValueError("text, or several channels")
    slope, intercept = (
        float(fields.get(f"elementtointensityfunction{key}", plain)) for key, plain in (("slope", 1), ("offset", 0))
    )
    if (slope, intercept) != (1, 0):
        said = (
            f"{name}: its values are to be scaled (ElementToIntensityFunction: slope {slope:g}, offset {intercept:g})"
        )
        raise UnreadableFile(said, "Save the volume again with its values in Hounsfield units.")
    big = _yes(fields.get("elementbyteordermsb", fields.get("binarydatabyteordermsb", "False")))
    turns = next((fields[key] for key in ("transformmatrix", "rotation", "orientation") if key in fields), None)
    origin = next((fields[key] for key in ("offset", "position", "origin") if key in fields), None)
    dimensions = len(sizes)
    matrix = np.eye(dimensions) if turns is None else _numbers(turns).reshape(dimensions, dimensions).T
    steps = _numbers(fields.get("elementspacing", fields.get("elementsize", "1 " * dimensions)))
    affine = _square(matrix * steps, np.zeros(dimensions) if origin is None else _numbers(origin))
    local = fields["elementdatafile"]
    volume = Volume(
        sizes=sizes,
        dtype=(">" if big else "<") + _META_TYPES[fields["elementtype"].upper()],
        packing="zlib" if _yes(fields.get("compresseddata", "False")) else "raw",
        beside=None if local.upper() == "LOCAL" else local,
        start=int(fields.get("headersize", "0")),
        affine=affine,
        placed=turns is not None,
    )
    return volume, data[end.end() :]


def _nrrd(data: bytes) -> tuple[Volume, bytes]:
    """Read an NRRD header: "field: value" lines up to an empty one."""
    if not data.startswith(b"NRRD0"):
        raise ValueError("no NRRD mark")
    end = re.search(rb"\r?\n\r?\n", data[:_MOST_HEADER])
    if end is None and len(data) > _MOST_HEADER:
        raise ValueError("no empty line after the header")
    head, rest = (data, b"") if end is None else (data[: end.start()], data[end.end() :])
    fields = _fields(head, ":")
    sizes = tuple(int(part) for part in fields["sizes"].split())
    spacing = fields.get("spacings")
    signs = _SPACES.get(fields.get("space", "").lower())
    given = re.findall(r"\(([^()]*)\)|\bnone\b", fields.get("space directions", ""))
    if given:
        vectors = np.array([_numbers(vector.replace(",", " ")) for vector in given if vector]).T
        origin = _numbers(re.sub(r"[(),]", " ", fields.get("space origin", "0 0 0")))
    else:
        vectors = np.diag(np.ones(len(sizes)) if spacing is None else _numbers(spacing))
        origin = np.zeros(len(vectors))
    affine = _square(vectors, origin)
    affine[:2] *= np.array(signs or (1, 1))[:, None]
    packing = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}[fields["encoding"].lower()]
    if fields.get("line skip", fields.get("lineskip", "0")) != "0":
        raise ValueError("lines to skip")
    skip = int(fields.get("byte skip", fields.get("byteskip", "0")))
    volume = Volume(
        sizes=sizes,
        dtype=(">" if fields.get("endian", "little").lower() == "big" else "<") + _NRRD_TYPES[fields["type"].lower()],
        packing=packing,
        beside=fields.get("data file", fields.get("datafile")),
        start=skip if packing == "raw" else 0,
        affine=affine,
        placed=bool(given) and signs is not None,
        skipped=0 if packing == "raw" else skip,
    )
    return volume, rest


def _yes(word: str) -> bool:
    return word.strip().lower() in ("true", "1")


def _numbers(text: str) -> Floats:
    return np.array([float(part) for part in text.split()])


def _square(matrix: Floats, origin: Floats) -> Floats:
    """Give a (4, 4) affine of three axes; a two-dimensional one gets a third of length 1."""
    affine = np.eye(4)
    count = min(3, *matrix.shape)
    affine[:count, :count] = matrix[:count, :count]
    affine[:count, 3] = origin[:count]
    return affine
