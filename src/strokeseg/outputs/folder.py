"""A folder of results that receives all files or none, also if the process is killed or the power is cut.

Files are written to a hidden folder, a staging folder, and renamed when all are complete. Before the first rename the
staging folder gets a plan: a later call that finds a staging folder whose process has ended can tell which files of the
folder came from it, takes them back, and restores the earlier result. Each step is on the disk before the next begins.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from io import BufferedIOBase
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self

from strokeseg import atomic_write
from strokeseg.errors import DiskFull, NotWritable, StrokesegError

# Anyone could edit a result.json: only the names of StrokeSeg's own output files are accepted from it.
OUTPUT_NAMES = re.compile(
    r"result\.json|result\.schema\.json|mask\.nii\.gz|ct\.nii\.gz|scene\.glb|report\.html|report\.pdf|key_\d+\.png|midline\.png"
    r"|seg(_labelmap|_probability)?\.dcm|sr\.dcm|capture_\d+\.dcm|report_pdf\.dcm"
    r"|(mask|ct)_native\.nii\.gz|lesions\.nii\.gz|lesions\.ctbl|lesions_itksnap\.txt|lesions\.seg\.nrrd"
    r"|(brain|skull|lesion_\d+)\.(stl|ply)|scene\.(obj|mtl)|montage\.png|planes_\d+\.png|views\.png|turn\.webp"
)

_PREFIX, _SUFFIX = ".strokeseg-", ".partial"  # of staging folders
_BACKUP, _PLAN, _LOCK = "earlier", "plan.json", "lock"


class OutputFolder:
    """A context manager for a folder of results: write files to :attr:`staging`, then call :meth:`commit`.

    If the block ends with an error, everything that was created is removed, including the folder itself and its new
    parents. An OSError becomes `disk-full` or `not-writable`.

    Parameters
    ----------
    out : Path
        Folder of the results; created if missing.
    """

    staging: Path
    output_names = OUTPUT_NAMES

    def __init__(self, out: Path) -> None:
        self.out = out
        self._created: list[Path] = []
        self._committed = False

    def __enter__(self) -> Self:
        try:
            if self.out.exists() and not self.out.is_dir():
                raise NotWritable(f"{self.out} is a file, not a folder", "Pass a folder with -o.")
            self._created = atomic_write.create_folders(self.out)
            restore_interrupted(self.out, self.output_names)
            self.staging, self._lock = _create_staging(self.out)
        except OSError as error:
            self._remove_created()
            raise _translate_error(error, self.out) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.close()
        _remove_staging(self.staging)
        if not self._committed:
            self._remove_created()
        if isinstance(error, OSError):
            raise _translate_error(error, self.out) from error

    def refuse_foreign_files(self, names: list[str]) -> None:
        """Raise `not-writable` if a name is taken by a file that no earlier StrokeSeg result lists."""
        earlier = self._list_earlier_files()
        for name in names:
            if os.path.lexists(self.out / name) and name not in earlier:
                raise NotWritable(
                    f"{self.out / name} already exists and is not listed in a result.json of StrokeSeg",
                    "Pass another folder with -o, or move the file.",
                )

    def commit(self, names: list[str], last: str) -> None:
        """Rename the files into the folder and remove those of the earlier result.

        The earlier `result.json` is removed first, so that it never exists beside files of another run. If a rename
        fails, the earlier files are restored. If the process is killed, :func:`restore_interrupted` restores them.

        Parameters
        ----------
        names : list of str
            File names in :attr:`staging`.
        last : str
            The one to rename last.
        """
        self.refuse_foreign_files(names)
        earlier = sorted(self._list_earlier_files(), key=lambda name: name != last)
        backup = self.staging / _BACKUP
        backup.mkdir()
        for name in names:
            atomic_write.sync_file(self.staging / name)
        plan = _Plan(tuple(names), tuple(earlier), last)
        atomic_write.replace_file(self.staging / _PLAN, json.dumps(plan._asdict()).encode())
        atomic_write.sync_folder(self.out)
        try:
            for name in earlier:
                os.replace(self.out / name, backup / name)
            self._sync(backup)
            for name in names:
                if name != last:
                    os.replace(self.staging / name, self.out / name)
            self._sync(self.staging)
            os.replace(self.staging / last, self.out / last)
            self._sync(self.staging)
        except BaseException:
            _take_back(self.out, self.staging, plan)
            raise
        self._committed = True

    def _sync(self, other: Path) -> None:
        """Return when renames between the folder and another one are on the disk."""
        atomic_write.sync_folder(self.out)
        atomic_write.sync_folder(other)

    def _list_earlier_files(self) -> set[str]:
        """Return the files of an earlier result: those that its `result.json` lists and that still exist."""
        try:
            document = json.loads((self.out / "result.json").read_text("utf-8"))
            if not document["schema"].startswith("strokeseg.result/"):
                return set()
            listed = {"result.json", *document["files"].values()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return set()
        return {name for name in listed if self.output_names.fullmatch(str(name)) and (self.out / name).is_file()}

    def _remove_created(self) -> None:
        for path in reversed(self._created):
            try:
                path.rmdir()
            except OSError:  # another program has put a file there
                return


class _Plan(NamedTuple):
    """The renames of one commit.

    Attributes
    ----------
    names, earlier : tuple of str
        New files, and files of the earlier result.
    last : str
        The new file that is renamed last.
    """

    names: tuple[str, ...]
    earlier: tuple[str, ...]
    last: str


def restore_interrupted(out: Path, output_names: re.Pattern[str] = OUTPUT_NAMES, *, ended: bool = False) -> None:
    """Remove what killed processes have left in a folder of results, and restore the earlier result.

    Only staging folders are touched, the files that the plan of one of them names, and only if its process has ended:
    while it runs, it holds a lock, which the system releases also after a kill.

    Parameters
    ----------
    out : Path
        Folder of the results; may be missing.
    output_names : re.Pattern, optional
        Names that a plan may contain; anyone could edit a plan.
    ended : bool, default: False
        Whether the caller knows that no process is writing into the folder.

    Raises
    ------
    OSError
        If a file cannot be renamed; a later call continues.
    """
    for staging in sorted(out.glob(f"{_PREFIX}*{_SUFFIX}")):
        with contextlib.suppress(OSError):
            staging.rmdir()  # of an empty one
            continue
        lock = _lock_abandoned(staging)
        if lock is None and not ended:
            continue
        with lock or contextlib.nullcontext():
            plan = _read_plan(staging, output_names)
            if plan is not None and (staging / plan.last).exists():
                _take_back(out, staging, plan)
            elif plan is None and ((staging / _PLAN).exists() or any((staging / _BACKUP).glob("*"))):
                continue  # may hold files of a result, and it is not known where they belong
        _remove_staging(staging)


def _take_back(out: Path, staging: Path, plan: _Plan) -> None:
    """Undo the renames of a commit in reverse order; can be repeated after a kill at any moment."""
    backup = staging / _BACKUP
    for name in sorted(plan.names, key=lambda name: name != plan.last):
        # In `out` is the new file if it is no longer here, and the earlier one if that is not in the backup.
        is_new = name not in plan.earlier or (backup / name).exists()
        if is_new and not (staging / name).exists() and (out / name).exists():
            os.replace(out / name, staging / name)
    atomic_write.sync_folder(out)
    atomic_write.sync_folder(staging)
    for name in sorted(plan.earlier, key=lambda name: name == plan.last):
        if (backup / name).exists():
            os.replace(backup / name, out / name)
    atomic_write.sync_folder(out)
    atomic_write.sync_folder(backup)


def _remove_staging(staging: Path) -> None:
    """Remove a staging folder: the plan after the backup and the lock last, so that a kill leaves none without them."""
    shutil.rmtree(staging / _BACKUP, ignore_errors=True)
    with contextlib.suppress(OSError):
        for path in sorted(staging.iterdir(), key=lambda path: path.name == _LOCK):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        staging.rmdir()


def _read_plan(staging: Path, output_names: re.Pattern[str]) -> _Plan | None:
    """Return the plan of a staging folder; None before its commit, or if it names files that cannot be ours."""
    try:
        content = json.loads((staging / _PLAN).read_bytes())
        plan = _Plan(tuple(content["names"]), tuple(content["earlier"]), content["last"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_ours = all(output_names.fullmatch(str(name)) for name in (*plan.names, *plan.earlier))
    return plan if is_ours and plan.last in plan.names else None


def _create_staging(out: Path) -> tuple[Path, BufferedIOBase]:
    """Create a staging folder and lock it."""
    while True:
        staging = Path(tempfile.mkdtemp(prefix=_PREFIX, suffix=_SUFFIX, dir=out))
        try:
            lock = (staging / _LOCK).open("xb")
        except FileNotFoundError:  # another process took the empty folder for an abandoned one
            continue
        if _lock(lock) != "busy":
            return staging, lock
        lock.close()


def _lock_abandoned(staging: Path) -> BufferedIOBase | None:
    """Lock a staging folder whose process has ended; None if it has not, or that cannot be known."""
    try:
        lock = (staging / _LOCK).open("r+b")
    except OSError:  # of a version that had no locks, or not yet locked
        return None
    if _lock(lock) == "locked":
        return lock
    lock.close()
    return None


def _lock(stream: BufferedIOBase) -> Literal["locked", "busy", "unavailable"]:
    """Try to lock a file; the system releases the lock when the process ends, also by a kill."""
    try:
        import fcntl

        fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "busy"
    except (ImportError, OSError):  # Windows, or a network folder without locks
        return "unavailable"
    return "locked"


def _translate_error(error: OSError, out: Path) -> StrokesegError:
    if atomic_write.is_disk_full(error):
        return DiskFull(f"{out}: no space left on the disk for the results")
    reason = error.strerror or type(error).__name__
    return NotWritable(f"{out}: cannot be written ({reason})")
