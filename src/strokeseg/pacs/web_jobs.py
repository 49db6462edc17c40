"""The node's job queue is that of the web application: the same queue, the same storage, one worklist."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from strokeseg.errors import NotFound
from strokeseg.pacs.job_queue import JobState
from strokeseg.result import ResultDocument
from strokeseg.web.jobs import JobQueue
from strokeseg.web.schemas import TERMINAL_STATUSES, ResultFiles
from strokeseg.web.storage import Storage
from strokeseg.web.study_store import NewStudy
from strokeseg.web.worker import MANIFEST

OWNER = "node"


class WebJobQueue:
    """Implementation of :class:`strokeseg.pacs.job_queue.JobQueue`.

    Parameters
    ----------
    jobs : JobQueue
        Jobs of the web application.
    storage : Storage
        Storage of the web application.
    group : str or None
        Group that sees the studies in the worklist. None is administrators only, or everyone if sign-in is off.
    """

    def __init__(self, jobs: JobQueue, storage: Storage, group: str | None) -> None:
        self._jobs, self._storage, self._group = jobs, storage, group

    def submit(
        self,
        key: str,
        name: str,
        files: Sequence[Path],
        *,
        model: str,
        urgent: bool,
        formats: Sequence[str],
        decision: Mapping[str, str | float | None],
    ) -> str:
        """Submit the files of a series as a study whose id is derived from the key."""
        study = hashlib.sha256(f"node {key}".encode()).hexdigest()[:32]
        priority = "urgent" if urgent else "normal"
        try:
            self._jobs.studies.get_row(study)
        except NotFound:
            with tempfile.TemporaryDirectory(dir=self._storage.scratch) as folder:
                upload = _pack_series(files, Path(folder))
                size = upload.stat().st_size
                self._storage.put(upload, f"studies/{study}/upload/{upload.name}")
            options = {
                "window": None,
                "spacing_mm": None,
                "order": None,
                "series": None,
                **decision,
                "formats": ["pdf-dicom" if format_name == "pdf" else format_name for format_name in formats],
            }
            new_study = NewStudy(study, name, upload.name, size, options, model, priority, key=key, fingerprint=key)
            self._jobs.studies.add(new_study, OWNER, self._group)
        self._jobs.submit(study, priority)
        return study

    def read_state(self, study: str) -> JobState:
        """Return the state of a study."""
        try:
            status = self._jobs.studies.get_study(study)
            if status.status not in TERMINAL_STATUSES:
                return JobState()
            if status.status != "done":
                return JobState(status.status, f"{status.error.code}: {status.error.detail}" if status.error else "")
            content = self._storage.read(f"{self._find_result_folder(study)}/result.json")
            document = ResultDocument.model_validate_json(content)
        except NotFound:
            return JobState("gone", "the study was deleted")
        return JobState("done", "", document)

    def read_objects(self, study: str, formats: Sequence[str]) -> list[bytes]:
        """Return the DICOM objects of the original result in these formats, not of corrections."""
        folder = self._find_result_folder(study)
        files = ResultFiles.model_validate_json(self._storage.read(f"{folder}/{MANIFEST}")).items
        objects = [file for file in files if file.name.endswith(".dcm") and _find_format(file.name) in formats]
        return [self._storage.read(f"{folder}/{file.name}") for file in objects]

    def compare(self, earlier: str, later: str) -> None:
        """Compare the original results of two studies."""
        comparison, is_new = self._jobs.comparisons.add((earlier, 0), (later, 0))
        if is_new:
            self._jobs.submit_comparison(comparison)

    def _find_result_folder(self, study: str) -> str:
        return f"studies/{study}/{self._jobs.studies.versions.get_row(study, 0).folder}"


def _find_format(name: str) -> str:
    """Return the format of a DICOM file of a result from its name: report_pdf.dcm, key_017.dcm, seg.dcm ..."""
    stem = Path(name).stem
    formats = {"report_pdf": "pdf", "seg_labelmap": "seg-labelmap", "seg_probability": "seg-probability"}
    return formats.get(stem) or ("capture" if stem.startswith(("capture", "key")) else stem)


def _pack_series(files: Sequence[Path], folder: Path) -> Path:
    """Copy the files of a series into one zip, which is moved into the storage; the node keeps its own files."""
    target = folder / "study.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in files:
            archive.write(path, path.name)
    return target
