"""Journal of a batch: one line per finished study, in order of completion; it survives a kill."""

from __future__ import annotations

import os
from io import BufferedRandom
from pathlib import Path
from types import TracebackType

from pydantic import ValidationError

from strokeseg import atomic_write
from strokeseg.batch.records import StudyRecord
from strokeseg.errors import Conflict, DiskFull, NotWritable

NAME = "journal.jsonl"
_HEADER = b'{"schema":"strokeseg.batch/1"}\n'
_REMEDY = "Name a folder with write permission with -o."


class Journal:
    """The journal of one results folder, locked by one batch at a time.

    A line is added when a study is finished and its files are in its folder. An incomplete last line, as a kill leaves
    it, is dropped.

    Parameters
    ----------
    out : Path
        Folder of the results; created if missing.

    Raises
    ------
    Conflict
        `conflict`, on entering, if another batch uses this folder.
    NotWritable, DiskFull
        `not-writable`, `disk-full`.
    """

    _stream: BufferedRandom

    def __init__(self, out: Path) -> None:
        self.path = out / NAME
        self.records: dict[str, StudyRecord] = {}

    def __enter__(self) -> Journal:
        try:
            atomic_write.create_folders(self.path.parent)
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
        self._stream.close()  # this also releases the lock

    def add(self, record: StudyRecord) -> None:
        """Append a record; it is on the disk when this returns.

        Parameters
        ----------
        record : StudyRecord
            The outcome of a study.

        Raises
        ------
        DiskFull, NotWritable
            `disk-full`, `not-writable`; the journal is then unchanged.
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
        """Remove an incomplete line from the file; the part in Python's buffer is discarded with the stream."""
        os.ftruncate(self._stream.fileno(), end)

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # Windows: a second batch is not prevented there
            return
        try:
            # The system releases the lock when this process ends, even by a kill.
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"{self.path.parent}: another batch is writing into this folder",
                "Wait until it ends, or name another folder with -o.",
            ) from None
        except OSError:  # a network folder without locks
            return

    def _read(self) -> None:
        self._stream.seek(0)
        content = self._stream.read()
        end = content.rfind(b"\n") + 1
        if end and not content.startswith(_HEADER):
            raise NotWritable(f"{self.path}: exists and is not the journal of a batch", _REMEDY)
        try:
            if end < len(content):
                self._truncate(end)
            if not end:
                self._write(_HEADER)
                atomic_write.sync_folder(self.path.parent)
        except OSError as error:
            raise self._to_output_error(error) from None
        for line in content[len(_HEADER) : end].splitlines():
            try:
                record = StudyRecord.model_validate_json(line)
            except ValidationError:  # of another version, or damaged: the study is segmented again
                continue
            self.records[record.id] = record

    def _to_output_error(self, error: OSError) -> DiskFull | NotWritable:
        if atomic_write.is_disk_full(error):
            return DiskFull(
                f"{self.path}: no space is left",
                "Free disk space and run the same command again: it continues where it stopped.",
            )
        return NotWritable(f"{self.path}: cannot be written ({error.strerror})", _REMEDY)
