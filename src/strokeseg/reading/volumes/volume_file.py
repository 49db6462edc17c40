"""Read volumes: NIfTI, NRRD (.nrrd, .nhdr) and MetaImage (.mha, .mhd), in one file or with detached voxels.

NRRD and MetaImage consist of a few lines of text and raw voxels. They are read here, not by pynrrd or SimpleITK: a
header may name another file, which is read only from the header's own folder or archive, and decompressed within
limits.
"""

from __future__ import annotations

import bz2
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import StrokesegError, UnreadableFile
from strokeseg.reading import limits
from strokeseg.reading.input_file import InputFile
from strokeseg.reading.volumes import metaimage, nifti, nrrd
from strokeseg.reading.volumes.orientation import orient_volume
from strokeseg.reading.volumes.volume_header import MAX_HEADER_BYTES, VolumeHeader
from strokeseg.scan import Scan

ENDINGS = (*nifti.ENDINGS, *nrrd.ENDINGS, *metaimage.ENDINGS)
DETACHED_DATA_ENDINGS = (".raw", ".zraw", ".img", ".raw.gz", ".img.gz")

_CHUNK_BYTES = 2**20


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
        return nifti.read_nifti(file, _find_pair_data(file, files) if ending == nifti.PAIR_ENDING else None)
    format_name = "NRRD" if ending in nrrd.ENDINGS else "MetaImage"
    start = file.read_start(MAX_HEADER_BYTES + 1)
    try:
        header, rest = nrrd.parse_nrrd(start) if ending in nrrd.ENDINGS else metaimage.parse_metaimage(start, file.name)
        values = _read_voxels(file, files, header, len(start) - len(rest))
    except (StrokesegError, MemoryError):
        raise
    except Exception as error:  # any word or number of a header may be wrong
        message = f"{file.name}: not a readable {format_name} file ({type(error).__name__})"
        raise UnreadableFile(message, "Copy or export it again.") from None
    return orient_volume(values, header.affine, file.name, format_name.lower(), oriented=header.oriented)


def _read_voxels(file: InputFile, files: Sequence[InputFile], header: VolumeHeader, header_bytes: int) -> NDArray[Any]:
    """Check the header's numbers, then read the voxels that follow the header or lie in a file of their own."""
    count = int(np.prod([int(size) for size in header.sizes], dtype=object))
    voxel_bytes = np.dtype(header.dtype).itemsize
    limits.check_voxels(count, voxel_bytes, file.name)
    if min(header.sizes) < 1 or header.data_offset < -1 or header.decoded_offset < 0:
        raise ValueError("a size or an offset is below its minimum")
    size = count * voxel_bytes
    limits.check_size(size + header.decoded_offset, limits.MAX_VOLUME_BYTES, file.name)
    source = file
    if header.data_file is not None:
        source, header_bytes = _find_data_file(file, files, header.data_file), 0
    start = header_bytes + max(header.data_offset, 0)
    if header.data_offset < 0 and header.encoding == "raw":
        start = source.measure_bytes() - size
        if start < header_bytes:
            raise ValueError("fewer voxels than the header says")
    data = np.empty(size, np.uint8)  # reserved, but not used before bytes arrive
    done, skip = 0, header.decoded_offset
    with source.open_guarded() as stream:
        _skip(stream, start)
        for chunk in _decode_chunks(stream, header.encoding):
            piece = chunk[skip:][: size - done]
            skip = max(0, skip - len(chunk))
            data[done : done + len(piece)] = np.frombuffer(piece, np.uint8)
            done += len(piece)
            if done == size:
                return data.view(header.dtype).reshape(header.sizes, order="F")
    raise ValueError("fewer voxels than the header says")


def _skip(stream: BinaryIO, count: int) -> None:
    while count > 0 and (skipped := stream.read(min(count, _CHUNK_BYTES))):
        count -= len(skipped)


def _decode_chunks(stream: BinaryIO, encoding: str) -> Iterator[bytes]:
    """Decompress a stream, at most 1 MiB at a time."""
    if encoding == "raw":
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk
        return
    decoder: Any = bz2.BZ2Decompressor() if encoding == "bzip2" else zlib.decompressobj(wbits=47)
    pending = b""
    while not decoder.eof:
        needs_input = decoder.needs_input if encoding == "bzip2" else not pending
        if needs_input:
            pending = stream.read(_CHUNK_BYTES)
        chunk = decoder.decompress(pending, _CHUNK_BYTES)
        pending = b"" if encoding == "bzip2" else decoder.unconsumed_tail
        if needs_input and not chunk and not decoder.eof and not stream.peek(1):  # type: ignore[attr-defined]
            return
        yield chunk


def _find_pair_data(file: InputFile, files: Sequence[InputFile]) -> InputFile:
    """Find the voxels of a NIfTI pair: a file of the same name that ends in .img or .img.gz."""
    stem = PurePosixPath(file.name).name[: -len(nifti.PAIR_ENDING)]
    for name in (f"{stem}.img", f"{stem}.IMG", f"{stem}.img.gz"):
        try:
            return _find_data_file(file, files, name)
        except UnreadableFile:
            continue
    message = f"{file.name}: a header without its voxels, {stem}.img"
    raise UnreadableFile(message, "Give the folder that holds both, or save the volume as one file.")


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
