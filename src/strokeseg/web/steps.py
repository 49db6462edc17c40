"""The steps of a study in the worker: fetch the files, have a child do the work, store what it made.

Each step can be done twice: what it stores is the same, and :meth:`Steps.deliver` counts once.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from strokeseg.errors import InputError, ModelError, NotFound, StrokesegError, UsageError
from strokeseg.web import intermediates
from strokeseg.web.comparison_store import ComparisonStore
from strokeseg.web.settings import ServerSettings
from strokeseg.web.storage import Storage
from strokeseg.web.study_store import StudyStore
from strokeseg.web.worker_pool import StepCancelled, WorkerPool

_PROGRESS_S = 0.25


class StudySteps:
    """What a worker does; each method is one step of a workflow in :mod:`strokeseg.web.jobs`.

    Parameters
    ----------
    settings : ServerSettings
        Of the application.
    studies, comparisons : StudyStore
        Their rows.
    storage : Storage
        Their files.
    crew : WorkerPool
        The child processes.
    """

    def __init__(
        self,
        settings: ServerSettings,
        studies: StudyStore,
        comparisons: ComparisonStore,
        storage: Storage,
        crew: WorkerPool,
    ) -> None:
        self._settings, self._studies, self._comparisons = settings, studies, comparisons
        self._storage, self._crew = storage, crew

    def read(self, study: str) -> None:
        """Read the upload; from then on the slices can be looked at."""
        row = self._begin(study, 0, "reading")
        with self._step("read") as place:
            upload = self._storage.provide_local(f"studies/{study}/upload", [row.upload], place) / row.upload
            try:
                slices = self._run(study, 0, "read", upload, place / "out", json.loads(row.options))
            except StrokesegError as error:
                # A sentence about a file names it as the user did, not where it lies here.
                message = error.message.replace(str(upload), row.name).replace(upload.name, row.name)
                raise type(error)(message, error.remedy) from None
            self._storage.put_folder(place / "out", f"studies/{study}/scan")
        self._studies.set_status(study, 0, "reading", slices=slices)

    def segment(self, study: str) -> None:
        """Ask the network."""
        row = self._begin(study, 0, "segmenting", done=0, total=self._studies.get_row(study).slices)
        with self._step("segment") as place:
            scan = self._scan(study, place)
            self._run(study, 0, "segment", scan, place / "out", row.model, self._threads())
            self._storage.put_folder(place / "out", f"studies/{study}/answer")

    def measure(self, study: str, version: int) -> dict[str, Any]:
        """Measure the machine's answer, or what a person drew; gives what the list of studies shows."""
        self._begin(study, version, "measuring", done=None, total=None)
        with self._step("measure") as place:
            folders = (self._scan(study, place), self._answer(study, place))
            if version:
                name = self._studies.get_edit_name(study, version)
                drawn = self._storage.provide_local(f"studies/{study}/edits", [name], place) / name
                found = self._run(study, version, "edit", *folders, drawn, place / "out", version)
            else:
                found = self._run(study, 0, "measure", *folders, place / "out")
            self._storage.put(
                place / "out" / intermediates.PAGE_FILES[1], f"studies/{study}/scan/{intermediates.PAGE_FILES[1]}"
            )
            self._storage.put_folder(place / "out", f"studies/{study}/found/{version}")
        told: dict[str, Any] = found
        return told

    def write(self, study: str, version: int) -> tuple[str, int]:
        """Write all files; gives the folder's name, and their bytes. Nobody sees the folder before it is delivered."""
        row = self._begin(study, version, "writing")
        asked = json.loads(row.options).get("formats", [])  # a node needs those that its rules send
        formats = tuple(dict.fromkeys((*self._settings.formats, *asked)))
        folder = f"v{version}-{uuid4().hex[:12]}"
        with self._step("write") as place:
            parts_ = self._parts(study, version, place)
            size = self._run(study, version, "save", *parts_, place / "out", formats)
            self._storage.put_folder(place / "out", f"studies/{study}/{folder}")
        return folder, int(size)

    def deliver(self, study: str, version: int, found: dict[str, Any], folder: str, size: int) -> None:
        """Make a version the study's latest, and clear what earlier tries of it left."""
        self._begin(study, version, "delivering")
        with self._step("deliver"):
            if not self._studies.deliver_version(study, version, folder, found, size):
                raise StepCancelled
            for name in self._storage.list_names(f"studies/{study}"):
                if name.startswith(f"v{version}-") and name != folder:
                    self._storage.remove(f"studies/{study}/{name}")

    def record_failure(self, study: str, version: int, error: Exception) -> None:
        """Say why a study has no result."""
        self._studies.record_failure(study, version, *classify_error(error))

    def compare(self, comparison: str) -> None:
        """Lay two results on each other and store what comes of it."""
        row = self._comparisons.get_row(comparison)
        self._comparisons.set_status(comparison, "comparing")
        folder = f"{comparison}-{uuid4().hex[:12]}"
        with self._step("compare") as place:
            earlier = self._parts(row.earlier, row.earlier_version, place)
            later = self._parts(row.later, row.later_version, place)
            sides = [tuple(str(part) for part in side) for side in (earlier, later)]
            self._crew.run("compare", *sides, str(place / "out"), timeout_s=self._settings.step_timeout_s)
            self._storage.put_folder(place / "out", f"comparisons/{folder}")
        self._comparisons.set_status(comparison, "done", folder)

    def record_comparison_failure(self, comparison: str, error: Exception) -> None:
        """Say why two studies could not be compared."""
        status, why = classify_error(error)
        self._comparisons.set_status(comparison, status, error=why)

    def _begin(self, study: str, version: int, status: str, **values: Any) -> Any:
        if self._studies.is_cancelled(study, version) or not self._studies.set_status(study, version, status, **values):
            raise StepCancelled
        try:
            return self._studies.get_row(study)
        except NotFound:
            raise StepCancelled from None

    def _run(self, study: str, version: int, step: str, *arguments: Any) -> Any:
        told = [0.0]

        def progress(done: int, total: int) -> None:
            if done == total or time.monotonic() - told[0] >= _PROGRESS_S:
                told[0] = time.monotonic()
                self._studies.set_status(study, version, "segmenting", done=done, total=total)

        plain = [str(value) if isinstance(value, Path) else value for value in arguments]
        return self._crew.run(
            step,
            *plain,
            progress=progress,
            is_cancelled=lambda: self._studies.is_cancelled(study, version),
            timeout_s=self._settings.step_timeout_s,
        )

    @contextmanager
    def _step(self, name: str) -> Iterator[Path]:
        """Return a folder with an empty one, "out", in it; count the seconds."""
        begun = time.perf_counter()
        place = Path(tempfile.mkdtemp(dir=self._storage.scratch))
        (place / "out").mkdir()
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)
        self._studies.add_step_duration(name, time.perf_counter() - begun)

    def _scan(self, study: str, place: Path) -> Path:
        return self._storage.provide_local(f"studies/{study}/scan", intermediates.SCAN_FILES, place)

    def _answer(self, study: str, place: Path) -> Path:
        return self._storage.provide_local(f"studies/{study}/answer", intermediates.ANSWER_FILES, place)

    def _parts(self, study: str, version: int, place: Path) -> tuple[Path, Path, Path]:
        found = self._storage.provide_local(f"studies/{study}/found/{version}", intermediates.FINDINGS_FILES, place)
        return self._scan(study, place), self._answer(study, place), found

    def _threads(self) -> int:
        from strokeseg.segmentation.engines.cpu_features import count_usable_cores

        return self._settings.threads or max(1, count_usable_cores() // max(1, self._settings.workers))


def classify_error(error: Exception) -> tuple[str, StrokesegError]:
    """Return the status that an error leaves, and the error as it is told; a fault's own words are not."""
    if isinstance(error, InputError | ModelError | UsageError):
        return "refused", error
    if isinstance(error, StrokesegError):
        return "failed", error
    return "failed", StrokesegError(
        f"a fault of StrokeSeg, or of the machine: {type(error).__name__}", "Try again; the server's log says more."
    )
