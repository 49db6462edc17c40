"""All files of a result or none: a hidden folder beside their place, then renames."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from strokeseg.errors import DiskFull, NotWritable, StrokesegError

# A result.json could be edited by anyone: only plain names like ours are ever taken from it.
OUTPUT_NAMES = re.compile(
    r"result\.json|result\.schema\.json|mask\.nii\.gz|ct\.nii\.gz|scene\.glb|report\.html|report\.pdf|key_\d+\.png|midline\.png"
    r"|seg(_labelmap|_probability)?\.dcm|sr\.dcm|capture_\d+\.dcm|report_pdf\.dcm"
    r"|(mask|ct)_native\.nii\.gz|lesions\.nii\.gz|lesions\.ctbl|lesions_itksnap\.txt|lesions\.seg\.nrrd"
    r"|(brain|skull|lesion_\d+)\.(stl|ply)|scene\.(obj|mtl)|montage\.png|planes_\d+\.png|views\.png|turn\.webp"
)
_DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)


class OutputFolder:
    """A folder for results in which files are made (:attr:`partial`) and then put in place (:meth:`put`).

    Leaving the block by an error removes everything that was made, the folder itself and its new parents included. An
    OSError becomes `disk-full` or `not-writable`.

    Parameters
    ----------
    out : Path
        The folder of the results, made if missing.
    """

    staging: Path

    def __init__(self, out: Path) -> None:
        self.out = out
        self._created: list[Path] = []
        self._committed = False

    def __enter__(self) -> OutputFolder:
        try:
            if self.out.exists() and not self.out.is_dir():
                raise NotWritable(f"{self.out}: is a file, a folder is needed", "Give a folder with -o.")
            self._create(self.out)
            self.staging = Path(tempfile.mkdtemp(prefix=".strokeseg-", suffix=".partial", dir=self.out))
        except OSError as error:
            self._remove_created()
            raise _translate_error(error, self.out) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        shutil.rmtree(self.staging, ignore_errors=True)
        if not self._committed:
            self._remove_created()
        if isinstance(error, OSError):
            raise _translate_error(error, self.out) from error

    def refuse_foreign_files(self, names: list[str]) -> None:
        """Raise `not-writable` if one of the names is taken by a file that no earlier result of ours lists."""
        earlier = self._list_earlier_files()
        for name in names:
            if os.path.lexists(self.out / name) and name not in earlier:
                raise NotWritable(
                    f"{self.out / name}: is there already and no result.json of StrokeSeg lists it",
                    "Give another folder with -o, or move the file away.",
                )

    def commit(self, names: list[str], last: str) -> None:
        """Rename the files into place, ``last`` at the end; the earlier result's files go away.

        The earlier `result.json` goes first, so that no moment shows it beside files of another run. If a rename fails,
        the earlier files come back.
        """
        self.refuse_foreign_files(names)
        aside = self.staging / "earlier"
        aside.mkdir()
        moved: list[str] = []
        earlier = sorted(self._list_earlier_files(), key=lambda name: name != last)
        try:
            for name in earlier:
                os.replace(self.out / name, aside / name)
            for name in sorted(names, key=lambda name: name == last):
                os.replace(self.staging / name, self.out / name)
                moved.append(name)
        except BaseException:
            for name in moved:
                (self.out / name).unlink(missing_ok=True)
            for name in reversed(earlier):
                if (aside / name).exists():
                    os.replace(aside / name, self.out / name)
            raise
        self._committed = True

    def _list_earlier_files(self) -> set[str]:
        """Return the files of an earlier result: what its `result.json` lists and is still there."""
        try:
            document = json.loads((self.out / "result.json").read_text("utf-8"))
            if not document["schema"].startswith("strokeseg.result/"):
                return set()
            listed = {"result.json", *document["files"].values()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return set()
        return {name for name in listed if OUTPUT_NAMES.fullmatch(str(name)) and (self.out / name).is_file()}

    def _create(self, folder: Path) -> None:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        for path in reversed(missing):
            path.mkdir()
            self._created.append(path)

    def _remove_created(self) -> None:
        for path in reversed(self._created):
            try:
                path.rmdir()
            except OSError:  # somebody else has put something there
                return


def _translate_error(error: OSError, out: Path) -> StrokesegError:
    if error.errno in _DISK_FULL_ERRNOS:
        return DiskFull(f"{out}: no space is left for the results")
    reason = error.strerror or type(error).__name__
    return NotWritable(f"{out}: cannot be written ({reason})")
