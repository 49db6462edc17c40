"""Open a zip or tar archive and list its members.

An archive with a member that leaves the archive, a link or a device is refused: none belongs in an export of images.
Nothing is unpacked to disk: a member of a zip is inflated when it is read, a member of a tar is a part of one stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from strokeseg.errors import EmptyInput, StrokesegError, UnreadableFile
from strokeseg.reading.archives.tar_members import has_tar_name, is_compressed_tar, list_tar
from strokeseg.reading.archives.zip_members import list_zip
from strokeseg.reading.input_file import InputFile, describe_archive_error

_ZIP_SIGNATURES = (b"PK\x03\x04", b"PK\x05\x06")
_TAR_SIGNATURE = b"ustar"  # at byte 257


def is_readable_archive(path: Path) -> bool:
    """Whether a file is named like a zip or tar."""
    return path.suffix.lower() == ".zip" or has_tar_name(path)


@contextmanager
def open_archive(path: Path) -> Iterator[list[InputFile] | None]:
    """Open a zip or tar and list its members; None if the file is neither.

    Raises
    ------
    UnsafeArchive
        `unsafe-archive`, if a member's name points out of the archive; if a member is a link, a device, encrypted, or
        compressed by a method other than deflate; or if the archive unpacks to more than 200 times its size.
    TooLarge
        `too-large`, above 20,000 files or 4 GiB.
    UnreadableFile, EmptyInput
        `unreadable`, if the archive is damaged; `empty`.
    """
    start = InputFile(path.name, path=path).read_start(262)
    with ExitStack() as stack:
        if start[:4] in _ZIP_SIGNATURES or path.suffix.lower() == ".zip":
            yield _list_members(path, "zip", list_zip, stack)
        elif start[257:262] == _TAR_SIGNATURE or has_tar_name(path) or is_compressed_tar(path, start):
            yield _list_members(path, "tar", list_tar, stack)
        else:
            yield None


def _list_members(
    path: Path, kind: str, list_archive: Callable[[Path, ExitStack], list[InputFile]], stack: ExitStack
) -> list[InputFile]:
    try:
        members = list_archive(path, stack)
    except (StrokesegError, MemoryError):
        raise
    except Exception as error:  # a damaged archive raises a dozen errors: BadZipFile, zlib, lzma, struct, EOF ...
        message = f"{path.name}: the {kind} is damaged: {describe_archive_error(error)}"
        raise UnreadableFile(message, f"Create the {kind} again.") from None
    if not members:
        raise EmptyInput(f"{path.name}: the {kind} holds no files")
    return sorted(members, key=lambda member: member.name)
