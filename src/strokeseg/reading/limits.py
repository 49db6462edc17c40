"""How much of a file that is no DICOM is read into memory."""

from __future__ import annotations

from strokeseg.errors import TooLarge, UnreadableFile
from strokeseg.reading.input_file import InputFile

MAX_VOLUME_BYTES = 2**31
"""Of a volume's file, and of its voxels in the file's own type: 2**30 of 16 bits, or 2**28 of 64."""
MAX_PICTURE_BYTES = 2**30


def read_within(member: InputFile, most: int) -> bytes:
    """Read a file of at most so many bytes; an archive's members are bounded by the archive.

    Raises
    ------
    TooLarge, UnreadableFile
        `too-large`, `unreadable`.
    """
    if member.path is not None:
        try:
            size = member.path.stat().st_size
        except OSError as error:
            raise UnreadableFile(f"{member.name}: {error.strerror or type(error).__name__}") from None
        check_size(size, most, member.name)
    return member.read()


def check_size(size: int, most: int, name: str) -> None:
    """Refuse more bytes than are read; raises `too-large`."""
    if size > most:
        raise TooLarge(f"{name}: {size:,} bytes; at most {most:,} are read")
