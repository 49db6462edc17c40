"""The steps of a study in the server process: fetch its files, run a worker process, store the output.

Each step may run twice: it stores the same again, and :meth:`StudySteps.deliver` takes effect once.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from strokeseg.errors import InputError, ModelError, NotFound, StrokesegError, UsageError, describe_fault
from strokeseg.segmentation.engines.cpu_features import count_usable_cores
from strokeseg.web import intermediates, worker
from strokeseg.web.comparison_store import ComparisonStore
from strokeseg.web.settings import ServerSettings
from strokeseg.web.storage import Storage
from strokeseg.web.study_store import StudyStore
from strokeseg.web.worker_pool import StepCancelled, WorkerPool

_PROGRESS_S = 0.25  # minimum time between two updates of the progress
_SLICE_TIMEOUT_S = 60.0  # a network that finishes no slice for this long hangs


class StudySteps:
    """The steps of the workflows in :mod:`strokeseg.web.jobs`.

    Parameters
    ----------
    settings : ServerSettings
        The application's settings.
    studies : StudyStore
        The rows of studies.
    comparisons : ComparisonStore
        The rows of comparisons.
    storage : Storage
        The files.
    pool : WorkerPool
        The worker processes.
    """

    def __init__(
        self,
        settings: ServerSettings,
        studies: StudyStore,
        comparisons: ComparisonStore,
        storage: Storage,
        pool: WorkerPool,
    ) -> None:
        self._settings, self._studies, self._comparisons = settings, studies, comparisons
        self._storage, self._pool = storage, pool

    def read(self, study: str) -> None:
        """Read the upload; afterwards the slices can be viewed."""
        row = self._begin(study, 0, "reading")
        with self._step_folder("read") as folder:
            upload = self._storage.provide_local(f"studies/{study}/upload", [row.upload], folder) / row.upload
            try:
                slices = self._run(study, 0, worker.read, upload, folder / "out", json.loads(row.options))
            except StrokesegError as error:
                # Name the file as the user did, not by its path on the server.
                message = error.message.replace(str(upload), row.name).replace(upload.name, row.name)
                raise type(error)(message, error.remedy) from None
            self._storage.put_folder(folder / "out", f"studies/{study}/scan")
        self._studies.set_status(study, 0, "reading", slices=slices)

    def segment(self, study: str) -> None:
        """Run the network."""
        row = self._begin(study, 0, "segmenting", done=0, total=self._studies.get_row(study).slices)
        with self._step_folder("segment") as folder:
            scan, out = self._provide_scan(study, folder), folder / "out"
            threads, timeout = self._count_threads(), _SLICE_TIMEOUT_S
            options = json.loads(row.options)
            self._run(study, 0, worker.segment, scan, out, row.model, threads, options, progress_timeout_s=timeout)
            self._storage.put_folder(out, f"studies/{study}/answer")

    def measure(self, study: str, version: int) -> dict[str, Any]:
        """Measure the network's mask or a corrected one, and return the findings that the worklist shows."""
        self._begin(study, version, "measuring", done=None, total=None)
        with self._step_folder("measure") as folder:
            out = folder / "out"
            folders = (self._provide_scan(study, folder), self._provide_answer(study, folder))
            findings: dict[str, Any]
            if version:
                name = self._studies.versions.get_edit_name(study, version)
                edit = self._storage.provide_local(f"studies/{study}/edits", [name], folder) / name
                findings = self._run(study, version, worker.measure_edit, *folders, edit, out, version)
            else:
                findings = self._run(study, 0, worker.measure, *folders, out)
            thumbnail = intermediates.PAGE_FILES[1]
            self._storage.put(out / thumbnail, f"studies/{study}/scan/{thumbnail}")
            self._storage.put_folder(out, f"studies/{study}/found/{version}")
        return findings

    def write(self, study: str, version: int) -> tuple[str, int]:
        """Write all files; return their folder, which is not visible before its delivery, and their size in bytes."""
        row = self._begin(study, version, "writing")
        requested = json.loads(row.options).get("formats", [])  # the formats that a node's rules send
        formats = tuple(dict.fromkeys((*self._settings.formats, *requested)))
        name = f"v{version}-{uuid4().hex[:12]}"
        with self._step_folder("write") as folder:
            inputs = self._provide_result(study, version, folder)
            size = self._run(study, version, worker.write_files, *inputs, folder / "out", formats)
            self._storage.put_folder(folder / "out", f"studies/{study}/{name}")
        return name, int(size)

    def deliver(self, study: str, version: int, findings: dict[str, Any], folder: str, size: int) -> None:
        """Publish a version as the study's latest, and remove what earlier tries left."""
        self._begin(study, version, "delivering")
        with self._step_folder("deliver"):
            if not self._studies.versions.deliver(study, version, folder, findings, size):
                raise StepCancelled
            for name in self._storage.list_names(f"studies/{study}"):
                if name.startswith(f"v{version}-") and name != folder:
                    self._storage.remove(f"studies/{study}/{name}")

    def record_failure(self, study: str, version: int, error: Exception) -> None:
        """Record why a study has no result."""
        self._studies.record_failure(study, version, *classify_error(error))

    def compare(self, comparison: str) -> None:
        """Compare two results and store the files."""
        row = self._comparisons.get_row(comparison)
        self._comparisons.set_status(comparison, "comparing")
        name = f"{comparison}-{uuid4().hex[:12]}"
        with self._step_folder("compare") as folder:
            earlier = self._provide_result(row.earlier, row.earlier_version, folder)
            later = self._provide_result(row.later, row.later_version, folder)
            sides = [tuple(str(path) for path in side) for side in (earlier, later)]
            timeout_s = self._settings.step_timeout_s
            self._pool.run(worker.compare, *sides, str(folder / "out"), timeout_s=timeout_s)
            self._storage.put_folder(folder / "out", f"comparisons/{name}")
        self._comparisons.set_status(comparison, "done", name)

    def record_comparison_failure(self, comparison: str, error: Exception) -> None:
        """Record why two studies could not be compared."""
        status, reason = classify_error(error)
        self._comparisons.set_status(comparison, status, error=reason)

    def _begin(self, study: str, version: int, status: str, **values: Any) -> Any:
        """Set a study's status and return its row; raises StepCancelled if it was cancelled or deleted."""
        if self._studies.is_cancelled(study, version):
            raise StepCancelled
        if not self._studies.set_status(study, version, status, **values):
            raise StepCancelled
        try:
            return self._studies.get_row(study)
        except NotFound:
            raise StepCancelled from None

    def _run(
        self,
        study: str,
        version: int,
        step: Callable[..., Any],
        *arguments: Any,
        progress_timeout_s: float | None = None,
    ) -> Any:
        last_update = 0.0

        def update_progress(done: int, total: int) -> None:
            nonlocal last_update
            if done == total or time.monotonic() - last_update >= _PROGRESS_S:
                last_update = time.monotonic()
                self._studies.set_status(study, version, "segmenting", done=done, total=total)

        return self._pool.run(
            step,
            *(str(value) if isinstance(value, Path) else value for value in arguments),
            progress=update_progress,
            is_cancelled=lambda: self._studies.is_cancelled(study, version),
            timeout_s=self._settings.step_timeout_s,
            progress_timeout_s=progress_timeout_s,
        )

    @contextmanager
    def _step_folder(self, step: str) -> Iterator[Path]:
        """Provide a temporary folder with an empty folder "out" in it, and record the duration of the step."""
        start = time.perf_counter()
        folder = Path(tempfile.mkdtemp(dir=self._storage.scratch))
        (folder / "out").mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self._studies.add_step_duration(step, time.perf_counter() - start)

    def _provide_scan(self, study: str, folder: Path) -> Path:
        return self._storage.provide_local(f"studies/{study}/scan", intermediates.SCAN_FILES, folder)

    def _provide_answer(self, study: str, folder: Path) -> Path:
        return self._storage.provide_local(f"studies/{study}/answer", intermediates.ANSWER_FILES, folder)

    def _provide_result(self, study: str, version: int, folder: Path) -> tuple[Path, Path, Path]:
        names = intermediates.FINDINGS_FILES
        findings = self._storage.provide_local(f"studies/{study}/found/{version}", names, folder)
        return self._provide_scan(study, folder), self._provide_answer(study, folder), findings

    def _count_threads(self) -> int:
        return self._settings.threads or max(1, count_usable_cores() // max(1, self._settings.workers))


def classify_error(error: Exception) -> tuple[str, StrokesegError]:
    """Return the status that an error leads to, and the error to show; an unexpected error's own message is hidden."""
    if isinstance(error, InputError | ModelError | UsageError):
        return "refused", error
    if isinstance(error, StrokesegError):
        return "failed", error
    return "failed", StrokesegError(describe_fault(error), "Try again; see the server's log.")
