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
from strokeseg.reading import limits
from strokeseg.reading.input_file import MAX_VOXELS, InputFile
from strokeseg.reading.volumes import nifti, orientation
from strokeseg.scan import Floats, Scan

_NRRD_ENDINGS, _METAIMAGE_ENDINGS = (".nrrd", ".nhdr"), (".mha", ".mhd")
ENDINGS = (*nifti.ENDINGS, *_NRRD_ENDINGS, *_METAIMAGE_ENDINGS)
DETACHED_DATA_ENDINGS = (".raw", ".zraw", ".img", ".raw.gz")

_MAX_HEADER_BYTES = 2**16

_METAIMAGE_TYPES = {
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
_NRRD_SPACES = {
    "left-posterior-superior": (1, 1),
    "right-anterior-superior": (-1, -1),
    "left-anterior-superior": (1, -1),
}
_NRRD_SPACES |= {"lps": (1, 1), "ras": (-1, -1), "las": (1, -1)}


@dataclass(frozen=True)
class VolumeHeader:
    """What a header says.

    Parameters
    ----------
    sizes : tuple of int
        Of the axes, the fastest first.
    dtype : str
        Of a voxel, with its byte order.
    packing : object
        Raw | zlib | gzip | bzip2.
    beside : object
        Name of the file that holds the voxels; None where they follow the header.
    start : object
        Bytes to skip there; -1 where the voxels are the file's end.
    skipped : object
        Bytes to skip of what is unpacked.
    affine : Floats
        (4, 4), indices in the order of the axes to LPS mm.
    placed : object
        Whether the affine states sides.
    """

    sizes: tuple[int, ...]
    dtype: str
    encoding: str
    data_file: str | None
    data_offset: int
    affine: Floats
    oriented: bool
    decoded_offset: int = 0


def read_volume(member: InputFile, members: Sequence[InputFile]) -> Scan:
    """Read a volume.

    Parameters
    ----------
    member : InputFile
        The volume or its header.
    members : sequence of InputFile
        All that lie with it; voxels beside a header are looked for among them.

    Raises
    ------
    UnreadableFile, TooLarge, InconsistentGeometry, NoHounsfield
        `unreadable`, `too-large`, `geometry`, `no-hounsfield`.
    """
    ending = PurePosixPath(member.name.lower()).suffix
    if ending not in _NRRD_ENDINGS + _METAIMAGE_ENDINGS:
        return nifti.read_nifti(member)
    what = "NRRD" if ending in _NRRD_ENDINGS else "MetaImage"
    data = limits.read_within(member, _MAX_HEADER_BYTES + limits.MAX_VOLUME_BYTES)
    try:
        volume, rest = _parse_nrrd(data) if ending in _NRRD_ENDINGS else _parse_metaimage(data, member.name)
        count = int(np.prod([int(size) for size in volume.sizes], dtype=object))
        if count > MAX_VOXELS:
            raise TooLarge(f"{member.name}: {count:,} voxels; at most {MAX_VOXELS:,} are read")
        if min(volume.sizes) < 1 or volume.data_offset < -1 or volume.decoded_offset < 0:
            raise ValueError("a size or a place below what it can be")
        limits.check_size(
            count * np.dtype(volume.dtype).itemsize + volume.decoded_offset, limits.MAX_VOLUME_BYTES, member.name
        )
        whole = rest
        if volume.data_file is not None:
            whole = limits.read_within(_find_data_file(member, members, volume.data_file), 2 * limits.MAX_VOLUME_BYTES)
        values = _decode_voxels(whole, volume, count)
    except StrokesegError:
        raise
    except Exception as error:  # a header's words and numbers can be wrong in every way
        said = f"{member.name}: no readable {what} ({type(error).__name__})"
        raise UnreadableFile(said, "Copy or export it again.") from None
    return orientation.orient_volume(values, volume.affine, member.name, what.lower(), oriented=volume.oriented)


def _find_data_file(member: InputFile, members: Sequence[InputFile], name: str) -> InputFile:
    """Find the file that a header names, in the header's own folder and nowhere else."""
    found = None
    if re.fullmatch(r"[^/\\%:]+", name) and name not in (".", "..") and name.upper() != "LIST":
        path = PurePosixPath(member.name).with_name(name)
        found = next((other for other in members if other.name == str(path)), None)
        if found is None and member.path is not None:
            there = member.path.parent / name
            found = InputFile(name, path=there) if there.is_file() else None
    linked = found is not None and found.path is not None and found.path.is_symlink()  # it may lead out of the folder
    if found is None or linked or found.name == member.name:
        raise UnreadableFile(
            f"{member.name}: its voxels should lie in {name[:80]!r}, which is no file beside it",
            "Give the folder that holds both, or save the volume as one file.",
        )
    return found


def _decode_voxels(whole: bytes, volume: VolumeHeader, count: int) -> NDArray[Any]:
    size = count * np.dtype(volume.dtype).itemsize
    if volume.encoding == "raw":
        start = len(whole) - size if volume.data_offset < 0 else volume.data_offset
        plain = whole[max(start, 0) :]
    else:
        engine: Any = bz2.BZ2Decompressor() if volume.encoding == "bzip2" else zlib.decompressobj(wbits=47)
        plain = engine.decompress(whole[max(volume.data_offset, 0) :], volume.decoded_offset + size)[
            volume.decoded_offset :
        ]
    if len(plain) < size or (volume.encoding == "raw" and volume.data_offset < 0 and len(whole) < size):
        raise ValueError("fewer voxels than the header says")
    return np.frombuffer(plain[:size], volume.dtype).reshape(volume.sizes, order="F")


def _parse_fields(data: bytes, mark: str) -> dict[str, str]:
    text = data.decode("latin-1").replace("\r\n", "\n")
    parts = (line.partition(mark) for line in text.split("\n") if line and not line.startswith("#"))
    return {key.strip().lower(): value.strip() for key, found, value in parts if found}


def _parse_metaimage(data: bytes, name: str) -> tuple[VolumeHeader, bytes]:
    """Read a MetaImage header: "Key = Value" lines, the last of which says where the voxels lie. Places are LPS."""
    end = re.search(rb"^ElementDataFile\s*=[^\n]*\n?", data[:_MAX_HEADER_BYTES], re.MULTILINE)
    if end is None:
        raise ValueError("no ElementDataFile")
    fields = _parse_fields(data[: end.end()], "=")
    sizes = tuple(int(part) for part in fields["dimsize"].split())
    if not _parse_bool(fields.get("binarydata", "True")) or int(fields.get("elementnumberofchannels", "1")) != 1:
        raise ValueError("text, or several channels")
    slope, intercept = (
        float(fields.get(f"elementtointensityfunction{key}", plain)) for key, plain in (("slope", 1), ("offset", 0))
    )
    if (slope, intercept) != (1, 0):
        said = (
            f"{name}: its values are to be scaled (ElementToIntensityFunction: slope {slope:g}, offset {intercept:g})"
        )
        raise UnreadableFile(said, "Save the volume again with its values in Hounsfield units.")
    big = _parse_bool(fields.get("elementbyteordermsb", fields.get("binarydatabyteordermsb", "False")))
    turns = next((fields[key] for key in ("transformmatrix", "rotation", "orientation") if key in fields), None)
    origin = next((fields[key] for key in ("offset", "position", "origin") if key in fields), None)
    dimensions = len(sizes)
    matrix = np.eye(dimensions) if turns is None else _parse_numbers(turns).reshape(dimensions, dimensions).T
    steps = _parse_numbers(fields.get("elementspacing", fields.get("elementsize", "1 " * dimensions)))
    affine = _make_affine(matrix * steps, np.zeros(dimensions) if origin is None else _parse_numbers(origin))
    local = fields["elementdatafile"]
    volume = VolumeHeader(
        sizes=sizes,
        dtype=(">" if big else "<") + _METAIMAGE_TYPES[fields["elementtype"].upper()],
        encoding="zlib" if _parse_bool(fields.get("compresseddata", "False")) else "raw",
        data_file=None if local.upper() == "LOCAL" else local,
        data_offset=int(fields.get("headersize", "0")),
        affine=affine,
        oriented=turns is not None,
    )
    return volume, data[end.end() :]


def _parse_nrrd(data: bytes) -> tuple[VolumeHeader, bytes]:
    """Read an NRRD header: "field: value" lines up to an empty one."""
    if not data.startswith(b"NRRD0"):
        raise ValueError("no NRRD mark")
    end = re.search(rb"\r?\n\r?\n", data[:_MAX_HEADER_BYTES])
    if end is None and len(data) > _MAX_HEADER_BYTES:
        raise ValueError("no empty line after the header")
    head, rest = (data, b"") if end is None else (data[: end.start()], data[end.end() :])
    fields = _parse_fields(head, ":")
    sizes = tuple(int(part) for part in fields["sizes"].split())
    spacing = fields.get("spacings")
    signs = _NRRD_SPACES.get(fields.get("space", "").lower())
    given = re.findall(r"\(([^()]*)\)|\bnone\b", fields.get("space directions", ""))
    if given:
        vectors = np.array([_parse_numbers(vector.replace(",", " ")) for vector in given if vector]).T
        origin = _parse_numbers(re.sub(r"[(),]", " ", fields.get("space origin", "0 0 0")))
    else:
        vectors = np.diag(np.ones(len(sizes)) if spacing is None else _parse_numbers(spacing))
        origin = np.zeros(len(vectors))
    affine = _make_affine(vectors, origin)
    affine[:2] *= np.array(signs or (1, 1))[:, None]
    packing = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}[fields["encoding"].lower()]
    if fields.get("line skip", fields.get("lineskip", "0")) != "0":
        raise ValueError("lines to skip")
    skip = int(fields.get("byte skip", fields.get("byteskip", "0")))
    volume = VolumeHeader(
        sizes=sizes,
        dtype=(">" if fields.get("endian", "little").lower() == "big" else "<") + _NRRD_TYPES[fields["type"].lower()],
        encoding=packing,
        data_file=fields.get("data file", fields.get("datafile")),
        data_offset=skip if packing == "raw" else 0,
        affine=affine,
        oriented=bool(given) and signs is not None,
        decoded_offset=0 if packing == "raw" else skip,
    )
    return volume, rest


def _parse_bool(word: str) -> bool:
    return word.strip().lower() in ("true", "1")


def _parse_numbers(text: str) -> Floats:
    return np.array([float(part) for part in text.split()])


def _make_affine(matrix: Floats, origin: Floats) -> Floats:
    """Return a (4, 4) affine of three axes; a two-dimensional one gets a third of length 1."""
    affine = np.eye(4)
    count = min(3, *matrix.shape)
    affine[:count, :count] = matrix[:count, :count]
    affine[:count, 3] = origin[:count]
    return affine
