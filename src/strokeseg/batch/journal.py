"""What became of every study, a line each in the order in which they ended: the memory that outlives a kill."""

from __future__ import annotations

import os
from io import BufferedRandom
from pathlib import Path
from types import TracebackType

from pydantic import ValidationError

from strokeseg.batch.records import StudyRecord
from strokeseg.errors import Conflict, DiskFull, NotWritable

NAME = "journal.jsonl"
_HEADER = b'{"schema":"strokeseg.batch/1"}\n'
_REMEDY = "Give a folder that you may write with -o."


class Journal:
    """The journal of one folder of results, held by one batch at a time.

    A line is added when a study has ended and its files lie in their place. A last line that a kill cut off is dropped.

    Parameters
    ----------
    out : Path
        The folder, made if missing.

    Raises
    ------
    Conflict
        `conflict`, on entering, if another batch works in this folder.
    NotWritable, DiskFull
        `not-writable`, `disk-full`.
    """

    _stream: BufferedRandom

    def __init__(self, out: Path) -> None:
        self.path = out / NAME
        self.records: dict[str, StudyRecord] = {}

    def __enter__(self) -> Journal:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self.path.open("a+b")
        except OSError as error:
            raise self._to_output_error(error) from None
        try:
            self._lock()
            self._read()
        except BaseException:
            self._stream.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.close()  # and the lock with it

    def add(self, record: StudyRecord) -> None:
        """Store what became of a study; on the disk when this returns.

        Raises
        ------
        DiskFull, NotWritable
            `disk-full`, `not-writable`; the journal then ends where it ended before.
        """
        end = self._stream.seek(0, os.SEEK_END)
        try:
            self._write(record.model_dump_json(exclude_defaults=True).encode() + b"\n")
        except OSError as error:
            self._truncate(end)
            raise self._to_output_error(error) from None
        self.records[record.id] = record

    def _write(self, line: bytes) -> None:
        self._stream.write(line)
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def _truncate(self, end: int) -> None:
        """Take away a half-written line; what Python still holds back of it goes with the stream."""
        os.ftruncate(self._stream.fileno(), end)

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # Windows: there nothing hinders a second batch
            return
        try:
            # The system lets go when this process ends, however it does.
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"{self.path.parent}: another batch is writing into this folder",
                "Wait for its end, or name another -o.",
            ) from None
        except OSError:  # a network folder without locks
            return

    def _read(self) -> None:
        self._stream.seek(0)
        whole = self._stream.read()
        end = whole.rfind(b"\n") + 1
        if end and not whole.startswith(_HEADER):
            raise NotWritable(f"{self.path}: is there already and no journal of a batch", _REMEDY)
        try:
            if end < len(whole):
                self._truncate(end)
            if not end:
                self._write(_HEADER)
        except OSError as error:
            raise self._to_output_error(error) from None
        for line in whole[len(_HEADER) : end].splitlines():
            try:
                record = StudyRecord.model_validate_json(line)
            except ValidationError:  # of another version, or damaged: the study is answered again
                continue
            self.records[record.id] = record

    def _to_output_error(self, error: OSError) -> DiskFull | NotWritable:
        import errno

        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return DiskFull(
                f"{self.path}: no space is left",
                "Free some and give the same command again: it goes on where it stopped.",
            )
        return NotWritable(f"{self.path}: cannot be written ({error.strerror})", _REMEDY)
