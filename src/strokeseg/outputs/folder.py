"""A folder of results that receives all files or none: files are written to a hidden folder and then renamed."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from strokeseg import atomic_write
from strokeseg.errors import DiskFull, NotWritable, StrokesegError

# Anyone could edit a result.json: only the names of StrokeSeg's own output files are accepted from it.
OUTPUT_NAMES = re.compile(
    r"result\.json|result\.schema\.json|mask\.nii\.gz|ct\.nii\.gz|scene\.glb|report\.html|report\.pdf|key_\d+\.png|midline\.png"
    r"|seg(_labelmap|_probability)?\.dcm|sr\.dcm|capture_\d+\.dcm|report_pdf\.dcm"
    r"|(mask|ct)_native\.nii\.gz|lesions\.nii\.gz|lesions\.ctbl|lesions_itksnap\.txt|lesions\.seg\.nrrd"
    r"|(brain|skull|lesion_\d+)\.(stl|ply)|scene\.(obj|mtl)|montage\.png|planes_\d+\.png|views\.png|turn\.webp"
)


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

    def __init__(self, out: Path) -> None:
        self.out = out
        self._created: list[Path] = []
        self._committed = False

    def __enter__(self) -> OutputFolder:
        try:
            if self.out.exists() and not self.out.is_dir():
                raise NotWritable(f"{self.out} is a file, not a folder", "Pass a folder with -o.")
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
        fails, the earlier files are restored.

        Parameters
        ----------
        names : list of str
            File names in :attr:`staging`.
        last : str
            The one to rename last.
        """
        self.refuse_foreign_files(names)
        backup = self.staging / "earlier"
        backup.mkdir()
        moved: list[str] = []
        earlier = sorted(self._list_earlier_files(), key=lambda name: name != last)
        try:
            for name in earlier:
                os.replace(self.out / name, backup / name)
            for name in sorted(names, key=lambda name: name == last):
                os.replace(self.staging / name, self.out / name)
                moved.append(name)
        except BaseException:
            for name in moved:
                (self.out / name).unlink(missing_ok=True)
            for name in reversed(earlier):
                if (backup / name).exists():
                    os.replace(backup / name, self.out / name)
            raise
        self._committed = True

    def _list_earlier_files(self) -> set[str]:
        """Return the files of an earlier result: those that its `result.json` lists and that still exist."""
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
            except OSError:  # another program has put a file there
                return


def _translate_error(error: OSError, out: Path) -> StrokesegError:
    if atomic_write.is_disk_full(error):
        return DiskFull(f"{out}: no space left on the disk for the results")
    reason = error.strerror or type(error).__name__
    return NotWritable(f"{out}: cannot be written ({reason})")
