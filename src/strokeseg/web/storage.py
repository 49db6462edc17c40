"""The files of all studies: in a folder, or wherever fsspec reaches by URL."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import fsspec
from fsspec.implementations.local import LocalFileSystem

from strokeseg.errors import DiskFull, NotFound, UsageError

_CHUNK = 2**20


class Storage:
    """Files by key, as "studies/ID/versions/0/result.json"; a key is made by us and never holds what a user wrote.

    Every file is there whole or not at all.

    Parameters
    ----------
    place : str
        A folder, made if missing, or a URL as s3://bucket/prefix.
    scratch : Path, optional
        A folder on this machine for files on their way; kept apart, so that no container needs a second disk.

    Raises
    ------
    UsageError
        `usage`, if the place cannot be opened.
    """

    def __init__(self, place: str, scratch: Path | None = None) -> None:
        try:
            self._files, self._root = fsspec.core.url_to_fs(place)
        except (ValueError, ImportError) as error:
            said = f"--storage: cannot be opened ({type(error).__name__})"
            raise UsageError(said, "Give a folder or s3://BUCKET/PREFIX.") from None
        self.is_local = isinstance(self._files, LocalFileSystem)
        if self.is_local:
            self._root = str(Path(self._root).resolve())
            Path(self._root).mkdir(parents=True, exist_ok=True)
        self.scratch = _create_scratch(scratch or (Path(self._root) / "scratch" if self.is_local else None))

    def put(self, source: Path, key: str) -> None:
        """Store a file; ``source`` goes away where it lies on the same disk.

        Raises
        ------
        DiskFull
            `disk-full`.
        OSError
            As the place tells it.
        """
        try:
            if not self.is_local:
                self._files.put_file(str(source), self._resolve(key))
                return
            target = Path(self._resolve(key))
            target.parent.mkdir(parents=True, exist_ok=True)
            beside = target.with_name(f".{uuid4().hex}.partial")
            _move(source, beside)
            os.replace(beside, target)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull("no space is left for the files of studies", "Free some, or delete studies.") from error
            raise

    def put_folder(self, source: Path, prefix: str) -> None:
        """Store every file directly in a folder."""
        for path in sorted(source.iterdir()):
            self.put(path, f"{prefix}/{path.name}")

    def read(self, key: str) -> bytes:
        """Return a small file's content; raises NotFound, `not-found`."""
        try:
            content: bytes = self._files.cat_file(self._resolve(key))
        except FileNotFoundError:
            raise NotFound("there is no such file") from None
        return content

    def read_range(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """Return the bytes from ``start`` up to ``stop``, a piece at a time."""
        with self._files.open(self._resolve(key), "rb") as stream:
            stream.seek(start)
            left = stop - start
            while left > 0 and (piece := stream.read(min(_CHUNK, left))):
                left -= len(piece)
                yield piece

    def provide_local(self, prefix: str, names: Sequence[str], folder: Path) -> Path:
        """Return a folder on this machine in which to read files: their own, or one with copies inside ``folder``.

        Parameters
        ----------
        prefix : str
            The files' common key.
        names : sequence of str
            Of the files below it.
        folder : Path
            For copies.
        """
        if self.is_local:
            return Path(self._resolve(prefix))
        place = folder / prefix.replace("/", "_")
        place.mkdir(exist_ok=True)
        for name in names:
            self._files.get_file(self._resolve(f"{prefix}/{name}"), str(place / name))
        return place

    def exists(self, key: str) -> bool:
        """Return whether a file is there."""
        return bool(self._files.exists(self._resolve(key)))

    def remove(self, prefix: str) -> None:
        """Remove a file, or everything under a key; nothing there is fine."""
        place = self._resolve(prefix)
        if self.is_local:
            path = Path(place)
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        elif self._files.exists(place):
            self._files.rm(place, recursive=True)

    def list_names(self, prefix: str) -> list[str]:
        """List the names directly under a key; none where there is nothing."""
        place = self._resolve(prefix)
        if not self._files.exists(place):
            return []
        return [str(name).rstrip("/").rsplit("/", 1)[-1] for name in self._files.ls(place, detail=False)]

    def sum_bytes(self, prefix: str) -> int:
        """Sum the bytes of everything under a key."""
        place = self._resolve(prefix)
        return int(sum(self._files.du(place, total=False).values())) if self._files.exists(place) else 0

    def check_writable(self) -> None:
        """Find out whether the place can be written; raises OSError or what fsspec raises."""
        probe = Path(tempfile.mkstemp(dir=self.scratch)[1])
        key = f"probe/{uuid4().hex}"
        self.put(probe, key)
        probe.unlink(missing_ok=True)
        self.remove(key)

    def read_free_bytes(self) -> int | None:
        """Return the space left on the disk; None where that is not known."""
        return shutil.disk_usage(self._root).free if self.is_local else None

    def _resolve(self, key: str) -> str:
        assert ".." not in key.split("/"), "keys are ours"
        return f"{self._root.rstrip('/')}/{key}"


def _move(source: Path, target: Path) -> None:
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copyfile(source, target)
    with target.open("rb") as stream:
        os.fsync(stream.fileno())


def _create_scratch(base: Path | None) -> Path:
    """Make this process's folder for files on their way, and clear those of processes that are gone."""
    base = base or Path(tempfile.gettempdir()) / f"strokeseg-{os.getuid()}"
    base.mkdir(parents=True, exist_ok=True, mode=0o700)
    for left in base.glob("pid-*"):
        number = left.name.removeprefix("pid-")
        if number.isdigit() and not is_process_alive(int(number)):
            shutil.rmtree(left, ignore_errors=True)
    own = base / f"pid-{os.getpid()}"
    own.mkdir(exist_ok=True, mode=0o700)
    return own


def is_process_alive(pid: int) -> bool:
    """Return whether a process of this machine lives."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
