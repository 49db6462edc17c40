"""Read volumes: NIfTI, NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd), in one file or with detached voxels.

NRRD and MetaImage consist of a few lines of text and raw voxels. They are read here, not by pynrrd or SimpleITK: a
header may name another file, which is read only from the header's own folder or archive, and decompressed within
limits.
"""

from __future__ import annotations

import bz2
import re
import zlib
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import StrokesegError, TooLarge, UnreadableFile
from strokeseg.reading import limits
from strokeseg.reading.input_file import InputFile
from strokeseg.reading.volumes import metaimage, nifti, nrrd
from strokeseg.reading.volumes.orientation import orient_volume
from strokeseg.reading.volumes.volume_header import MAX_HEADER_BYTES, VolumeHeader
from strokeseg.scan import Scan

ENDINGS = (*nifti.ENDINGS, *nrrd.ENDINGS, *metaimage.ENDINGS)
DETACHED_DATA_ENDINGS = (".raw", ".zraw", ".img", ".raw.gz")


def read_volume(file: InputFile, files: Sequence[InputFile]) -> Scan:
    """Read a volume in Hounsfield units.

    Parameters
    ----------
    file : InputFile
        The volume or its header.
    files : sequence of InputFile
        All files of the input; detached voxels are read from one of them.

    Returns
    -------
    Scan
        The scan, not yet checked by the gate.

    Raises
    ------
    UnreadableFile, TooLarge, InconsistentGeometry, NoHounsfield
        `unreadable`, `too-large`, `geometry`, `no-hounsfield`.
    """
    ending = PurePosixPath(file.name.lower()).suffix
    if ending not in nrrd.ENDINGS + metaimage.ENDINGS:
        return nifti.read_nifti(file)
    format_name = "NRRD" if ending in nrrd.ENDINGS else "MetaImage"
    data = file.read_within(MAX_HEADER_BYTES + limits.MAX_VOLUME_BYTES)
    try:
        header, rest = nrrd.parse_nrrd(data) if ending in nrrd.ENDINGS else metaimage.parse_metaimage(data, file.name)
        values = _read_voxels(file, files, header, rest)
    except StrokesegError:
        raise
    except Exception as error:  # any word or number of a header may be wrong
        message = f"{file.name}: not a readable {format_name} file ({type(error).__name__})"
        raise UnreadableFile(message, "Copy or export it again.") from None
    return orient_volume(values, header.affine, file.name, format_name.lower(), oriented=header.oriented)


def _read_voxels(file: InputFile, files: Sequence[InputFile], header: VolumeHeader, rest: bytes) -> NDArray[Any]:
    """Check the header's numbers, then read the voxels that follow the header or lie in a file of their own."""
    count = int(np.prod([int(size) for size in header.sizes], dtype=object))
    if count > limits.MAX_VOXELS:
        raise TooLarge(f"{file.name}: {count:,} voxels; at most {limits.MAX_VOXELS:,} are read")
    if min(header.sizes) < 1 or header.data_offset < -1 or header.decoded_offset < 0:
        raise ValueError("a size or an offset is below its minimum")
    total_bytes = count * np.dtype(header.dtype).itemsize + header.decoded_offset
    limits.check_size(total_bytes, limits.MAX_VOLUME_BYTES, file.name)
    data = rest
    if header.data_file is not None:
        data = _find_data_file(file, files, header.data_file).read_within(2 * limits.MAX_VOLUME_BYTES)
    return _decode_voxels(data, header, count)


def _find_data_file(file: InputFile, files: Sequence[InputFile], name: str) -> InputFile:
    """Find the file that a header names; only the header's own folder is searched."""
    data_file = None
    if re.fullmatch(r"[^/\\%:]+", name) and name not in (".", "..") and name.upper() != "LIST":
        path = PurePosixPath(file.name).with_name(name)
        data_file = next((other for other in files if other.name == str(path)), None)
        if data_file is None and file.path is not None:
            disk_path = file.path.parent / name
            data_file = InputFile(name, path=disk_path) if disk_path.is_file() else None
    # A link may lead out of the folder.
    is_link = data_file is not None and data_file.path is not None and data_file.path.is_symlink()
    if data_file is None or is_link or data_file.name == file.name:
        raise UnreadableFile(
            f"{file.name}: its header names {name[:80]!r} as the file of the voxels, which is no file beside it",
            "Give the folder that holds both, or save the volume as one file.",
        )
    return data_file


def _decode_voxels(data: bytes, header: VolumeHeader, count: int) -> NDArray[Any]:
    size = count * np.dtype(header.dtype).itemsize
    if header.encoding == "raw":
        start = len(data) - size if header.data_offset < 0 else header.data_offset
        decoded = data[max(start, 0) :]
    else:
        decoder: Any = bz2.BZ2Decompressor() if header.encoding == "bzip2" else zlib.decompressobj(wbits=47)
        compressed = data[max(header.data_offset, 0) :]
        decoded = decoder.decompress(compressed, header.decoded_offset + size)[header.decoded_offset :]
    is_cut = header.encoding == "raw" and header.data_offset < 0 and len(data) < size
    if len(decoded) < size or is_cut:
        raise ValueError("fewer voxels than the header says")
    return np.frombuffer(decoded[:size], header.dtype).reshape(header.sizes, order="F")
