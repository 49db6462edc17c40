"""Parse MetaImage headers (.mha, .mhd)."""

from __future__ import annotations

import re

import numpy as np

from strokeseg.errors import UnreadableFile
from strokeseg.reading.volumes.volume_header import (
    MAX_HEADER_BYTES,
    VolumeHeader,
    make_affine,
    parse_fields,
    parse_numbers,
)

ENDINGS = (".mha", ".mhd")

_TYPES = {
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


def parse_metaimage(data: bytes, name: str) -> tuple[VolumeHeader, bytes]:
    """Parse a MetaImage header: lines "Key = Value", of which the last states where the voxels lie; points are LPS.

    Parameters
    ----------
    data : bytes
        The file.
    name : str
        Its name, for error messages.

    Returns
    -------
    header : VolumeHeader
        The header.
    rest : bytes
        The bytes after the header.

    Raises
    ------
    UnreadableFile
        `unreadable`, if the header states a scale for the values.
    ValueError, KeyError
        If the header cannot be read.
    """
    end = re.search(rb"^ElementDataFile\s*=[^\n]*\n?", data[:MAX_HEADER_BYTES], re.MULTILINE)
    if end is None:
        raise ValueError("no ElementDataFile")
    fields = parse_fields(data[: end.end()], "=")
    sizes = tuple(int(part) for part in fields["dimsize"].split())
    if not _parse_bool(fields.get("binarydata", "True")) or int(fields.get("elementnumberofchannels", "1")) != 1:
        raise ValueError("text, or several channels")
    _check_scale(fields, name)
    is_big_endian = _parse_bool(fields.get("elementbyteordermsb", fields.get("binarydatabyteordermsb", "False")))
    rotation = next((fields[key] for key in ("transformmatrix", "rotation", "orientation") if key in fields), None)
    origin = next((fields[key] for key in ("offset", "position", "origin") if key in fields), None)
    dimensions = len(sizes)
    matrix = np.eye(dimensions) if rotation is None else parse_numbers(rotation).reshape(dimensions, dimensions).T
    steps = parse_numbers(fields.get("elementspacing", fields.get("elementsize", "1 " * dimensions)))
    data_file = fields["elementdatafile"]
    header = VolumeHeader(
        sizes=sizes,
        dtype=(">" if is_big_endian else "<") + _TYPES[fields["elementtype"].upper()],
        encoding="zlib" if _parse_bool(fields.get("compresseddata", "False")) else "raw",
        data_file=None if data_file.upper() == "LOCAL" else data_file,
        data_offset=int(fields.get("headersize", "0")),
        affine=make_affine(matrix * steps, np.zeros(dimensions) if origin is None else parse_numbers(origin)),
        oriented=rotation is not None,
    )
    return header, data[end.end() :]


def _check_scale(fields: dict[str, str], name: str) -> None:
    slope, intercept = (
        float(fields.get(f"elementtointensityfunction{key}", default)) for key, default in (("slope", 1), ("offset", 0))
    )
    if (slope, intercept) != (1, 0):
        raise UnreadableFile(
            f"{name}: the header states a scale (ElementToIntensityFunction: slope {slope:g}, offset {intercept:g})",
            "Save the volume again with its values in Hounsfield units.",
        )


def _parse_bool(text: str) -> bool:
    return text.strip().lower() in ("true", "1")
