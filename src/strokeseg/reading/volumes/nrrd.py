"""Parse NRRD headers (.nrrd, .nhdr)."""

from __future__ import annotations

import re

import numpy as np

from strokeseg.reading.volumes.volume_header import (
    MAX_HEADER_BYTES,
    VolumeHeader,
    make_affine,
    parse_fields,
    parse_numbers,
)

ENDINGS = (".nrrd", ".nhdr")

_TYPES = {
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
_ENCODINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"}
# Signs that turn the first two axes of each space into those of LPS.
_SPACES = {
    "left-posterior-superior": (1, 1),
    "right-anterior-superior": (-1, -1),
    "left-anterior-superior": (1, -1),
}
_SPACES |= {"lps": (1, 1), "ras": (-1, -1), "las": (1, -1)}


def parse_nrrd(data: bytes) -> tuple[VolumeHeader, bytes]:
    """Parse a NRRD header: lines "field: value" up to an empty line.

    Parameters
    ----------
    data : bytes
        The file.

    Returns
    -------
    header : VolumeHeader
        The header.
    rest : bytes
        The bytes after the header.

    Raises
    ------
    ValueError, KeyError
        If the header cannot be read.
    """
    if not data.startswith(b"NRRD0"):
        raise ValueError("no NRRD signature")
    end = re.search(rb"\r?\n\r?\n", data[:MAX_HEADER_BYTES])
    if end is None and len(data) > MAX_HEADER_BYTES:
        raise ValueError("no empty line after the header")
    header, rest = (data, b"") if end is None else (data[: end.start()], data[end.end() :])
    fields = parse_fields(header, ":")
    sizes = tuple(int(part) for part in fields["sizes"].split())
    spacing = fields.get("spacings")
    signs = _SPACES.get(fields.get("space", "").lower())
    directions = re.findall(r"\(([^()]*)\)|\bnone\b", fields.get("space directions", ""))
    if directions:
        vectors = np.array([parse_numbers(vector.replace(",", " ")) for vector in directions if vector]).T
        origin = parse_numbers(re.sub(r"[(),]", " ", fields.get("space origin", "0 0 0")))
    else:
        vectors = np.diag(np.ones(len(sizes)) if spacing is None else parse_numbers(spacing))
        origin = np.zeros(len(vectors))
    affine = make_affine(vectors, origin)
    affine[:2] *= np.array(signs or (1, 1))[:, None]
    encoding = _ENCODINGS[fields["encoding"].lower()]
    if fields.get("line skip", fields.get("lineskip", "0")) != "0":
        raise ValueError("lines to skip")
    skip = int(fields.get("byte skip", fields.get("byteskip", "0")))
    is_big_endian = fields.get("endian", "little").lower() == "big"
    volume_header = VolumeHeader(
        sizes=sizes,
        dtype=(">" if is_big_endian else "<") + _TYPES[fields["type"].lower()],
        encoding=encoding,
        data_file=fields.get("data file", fields.get("datafile")),
        data_offset=skip if encoding == "raw" else 0,
        affine=affine,
        oriented=bool(directions) and signs is not None,
        decoded_offset=0 if encoding == "raw" else skip,
    )
    return volume_header, rest
