"""The files of all studies: in a folder, or in any storage that fsspec supports."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import fsspec
from fsspec.implementations.local import LocalFileSystem

from strokeseg import atomic_write
from strokeseg.errors import DiskFull, NotFound, UsageError
from strokeseg.web import private_files
from strokeseg.web.scratch import ScratchFolder

_BLOCK_BYTES = 2**20


class Storage:
    """Files by key, such as "studies/ID/versions/0/result.json"; keys never contain text from a user.

    A file is stored completely or not at all. In a folder, only the user of this process can read it.

    Parameters
    ----------
    url : str
        A folder, created if missing, or a URL such as s3://bucket/prefix.
    scratch : Path or None
        Folder on this machine for files in transit; by default in the storage's folder, so that a container needs no
        second disk.

    Raises
    ------
    UsageError
        `usage`, if the storage cannot be opened.
    """

    def __init__(self, url: str, scratch: Path | None = None) -> None:
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ValueError, ImportError) as error:
            message = f"--storage: cannot be opened ({type(error).__name__})"
            raise UsageError(message, "Use a folder or s3://BUCKET/PREFIX.") from None
        self.is_local = isinstance(self._files, LocalFileSystem)
        if self.is_local:
            self._root = str(Path(self._root).resolve())
            private_files.create_folder(Path(self._root))
            private_files.restrict(Path(self._root), "the folder of --storage")
        elsewhere = Path(tempfile.gettempdir()) / f"strokeseg-{os.getuid()}"
        self._scratch = ScratchFolder(scratch or (Path(self._root) / "scratch" if self.is_local else elsewhere))
        self.scratch = self._scratch.path

    def put(self, source: Path, key: str) -> None:
        """Store a file; on the same disk ``source`` is moved.

        Parameters
        ----------
        source : Path
            The file.
        key : str
            Its key.

        Raises
        ------
        DiskFull
            `disk-full`.
        OSError
            As the storage reports it.
        """
        try:
            if not self.is_local:
                self._files.put_file(str(source), self._resolve(key))
                return
            target = Path(self._resolve(key))
            private_files.create_folder(target.parent)
            partial = target.with_name(f".{uuid4().hex}.partial")
            _move(source, partial)
            os.replace(partial, target)
            atomic_write.sync_folder(target.parent)
        except OSError as error:
            if atomic_write.is_disk_full(error):
                raise DiskFull("no space left for the files of studies", "Free space, or delete studies.") from error
            raise

    def put_folder(self, source: Path, prefix: str) -> None:
        """Store all files directly in a folder."""
        for path in sorted(source.iterdir()):
            self.put(path, f"{prefix}/{path.name}")

    def read(self, key: str) -> bytes:
        """Return the content of a small file; raises NotFound, `not-found`."""
        try:
            content: bytes = self._files.cat_file(self._resolve(key))
        except FileNotFoundError:
            raise NotFound("the file does not exist") from None
        return content

    def read_range(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes from ``start`` up to ``stop`` in blocks."""
        with self._files.open(self._resolve(key), "rb") as stream:
            stream.seek(start)
            left = stop - start
            while left > 0 and (block := stream.read(min(_BLOCK_BYTES, left))):
                left -= len(block)
                yield block

    def provide_local(self, prefix: str, names: Sequence[str], folder: Path) -> Path:
        """Return a folder on this machine with some files: their own, or one with copies.

        Parameters
        ----------
        prefix : str
            The files' common key.
        names : sequence of str
            The files' names below it.
        folder : Path
            Where copies are made, if they are needed.

        Returns
        -------
        Path
            The folder; read-only.
        """
        if self.is_local:
            return Path(self._resolve(prefix))
        copies = folder / prefix.replace("/", "_")
        copies.mkdir(exist_ok=True)
        for name in names:
            self._files.get_file(self._resolve(f"{prefix}/{name}"), str(copies / name))
        return copies

    def exists(self, key: str) -> bool:
        """Return whether a file exists."""
        return bool(self._files.exists(self._resolve(key)))

    def remove(self, prefix: str) -> None:
        """Remove a file, or everything under a key; missing files are ignored."""
        location = self._resolve(prefix)
        if self.is_local:
            path = Path(location)
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        elif self._files.exists(location):
            self._files.rm(location, recursive=True)

    def list_names(self, prefix: str) -> list[str]:
        """List the names directly under a key; empty if there are none."""
        location = self._resolve(prefix)
        if not self._files.exists(location):
            return []
        return [str(name).rstrip("/").rsplit("/", 1)[-1] for name in self._files.ls(location, detail=False)]

    def read_age_s(self, prefix: str) -> float | None:
        """Return the seconds since the newest file under a key was stored; None if that is not known."""
        times = []
        for info in self._files.find(self._resolve(prefix), withdirs=self.is_local, detail=True).values():
            stored = info.get("mtime", info.get("LastModified"))
            times.append(stored.timestamp() if isinstance(stored, datetime) else stored)
        return None if not times or None in times else time.time() - max(times)

    def sum_bytes(self, prefix: str) -> int:
        """Return the size of everything under a key, bytes."""
        location = self._resolve(prefix)
        return int(sum(self._files.du(location, total=False).values())) if self._files.exists(location) else 0

    def check_writable(self) -> None:
        """Write and remove a file; raises OSError or what fsspec raises."""
        probe = Path(tempfile.mkstemp(dir=self.scratch)[1])
        key = f"probe/{uuid4().hex}"
        self.put(probe, key)
        probe.unlink(missing_ok=True)
        self.remove(key)

    def read_free_bytes(self) -> int | None:
        """Return the free space on the disk, bytes; None if it is not known."""
        return shutil.disk_usage(self._root).free if self.is_local else None

    def _resolve(self, key: str) -> str:
        assert ".." not in key.split("/"), "keys are created by us"
        return f"{self._root.rstrip('/')}/{key}"


def _move(source: Path, target: Path) -> None:
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copyfile(source, target)
    private_files.set_mode(target, private_files.FILE_MODE)
    with target.open("rb") as stream:
        os.fsync(stream.fileno())


def is_process_alive(pid: int) -> bool:
    """Return whether a process of this machine is running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
