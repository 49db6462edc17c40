"""Stream of an archive that stops at the limits of an archive."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from strokeseg.errors import TooLarge
from strokeseg.reading.archives.checks import check_unpacked_bytes

# The list of members of a zip, or the record of one name in a tar, is read at once and may claim any size.
_MAX_LISTING_BYTES = 16 * 2**20


class BoundedStream(io.BufferedIOBase):
    """Stream of an archive, decompressed while it is read, that refuses more bytes than an archive may hold.

    Parameters
    ----------
    path : Path
        Path of the archive.
    stream : object
        Binary stream of its (decompressed) bytes.
    """

    def __init__(self, path: Path, stream: Any) -> None:
        self.path, self.stream = path, stream
        self.max_read_bytes: int | None = _MAX_LISTING_BYTES

    def readable(self) -> bool:  # noqa: D102
        return True

    def seekable(self) -> bool:  # noqa: D102
        return True

    def tell(self) -> int:  # noqa: D102
        return int(self.stream.tell())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:  # noqa: D102
        if whence == io.SEEK_SET and offset > 0 and not isinstance(self.stream, io.BufferedReader):
            check_unpacked_bytes(self.path, offset)
        return int(self.stream.seek(offset, whence))

    def read(self, size: int | None = -1) -> bytes:  # noqa: D102
        limit = self.max_read_bytes
        if limit is not None and size is not None and size > limit:
            raise TooLarge(f"{self.path.name}: its list of files is larger than {limit // 2**20} MiB")
        data: bytes = self.stream.read(size)
        return data

    def close(self) -> None:  # noqa: D102
        self.stream.close()
        super().close()
