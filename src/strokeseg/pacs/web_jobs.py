"""The node's jobs are those of the web application: the same queue, the same store, one worklist."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from collections.abc import Sequence
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
    """See :class:`strokeseg.pacs.job_queue.JobQueue`.

    Parameters
    ----------
    jobs, storage : JobQueue
        Of the web application.
    group : str or None
        Who sees the studies in the worklist; None is administrators alone, and everybody where nobody logs in.
    """

    def __init__(self, jobs: JobQueue, storage: Storage, group: str | None) -> None:
        self._jobs, self._storage, self._group = jobs, storage, group

    def submit(
        self, key: str, name: str, files: Sequence[Path], *, model: str, urgent: bool, formats: Sequence[str]
    ) -> str:
        """Take a series' files as a study, under an id that follows from the key."""
        study = hashlib.sha256(f"node {key}".encode()).hexdigest()[:32]
        priority = "urgent" if urgent else "normal"
        try:
            self._jobs.studies.get_row(study)
        except NotFound:
            with tempfile.TemporaryDirectory(dir=self._storage.scratch) as place:
                upload = _pack_series(files, Path(place))
                size = upload.stat().st_size
                self._storage.put(upload, f"studies/{study}/upload/{upload.name}")
            options = {
                "window": None,
                "spacing_mm": None,
                "series": None,
                "formats": ["pdf-dicom" if form == "pdf" else form for form in formats],
            }
            new = NewStudy(study, name, upload.name, size, options, model, priority, key=key, fingerprint=key)
            self._jobs.studies.add(new, OWNER, self._group)
        self._jobs.submit(study, priority)
        return study

    def read_state(self, study: str) -> JobState:
        """Say how far a study is."""
        try:
            told = self._jobs.studies.get_study(study)
            if told.status not in TERMINAL_STATUSES:
                return JobState()
            if told.status != "done":
                return JobState(told.status, f"{told.error.code}: {told.error.detail}" if told.error else "")
            document = ResultDocument.model_validate_json(
                self._storage.read(f"{self._find_result_folder(study)}/result.json")
            )
        except NotFound:
            return JobState("gone", "the study was deleted")
        return JobState("done", "", document)

    def read_objects(self, study: str, formats: Sequence[str]) -> list[bytes]:
        """Return the machine's answer as DICOM objects of these formats."""
        folder = self._find_result_folder(study)
        files = ResultFiles.model_validate_json(self._storage.read(f"{folder}/{MANIFEST}")).items
        wanted = [file for file in files if file.name.endswith(".dcm") and _find_format(file.name) in formats]
        return [self._storage.read(f"{folder}/{file.name}") for file in wanted]

    def compare(self, earlier: str, later: str) -> None:
        """Have two machine's answers compared."""
        comparison, new = self._jobs.comparisons.add((earlier, 0), (later, 0))
        if new:
            self._jobs.submit_comparison(comparison)

    def _find_result_folder(self, study: str) -> str:
        return f"studies/{study}/{self._jobs.studies.get_version(study, 0).folder}"


def _find_format(name: str) -> str:
    """Return the format that a DICOM file of a result is of, by its name: report_pdf.dcm, key_017.dcm, seg.dcm ..."""
    stem = Path(name).stem
    known = {"report_pdf": "pdf", "seg_labelmap": "seg-labelmap", "seg_probability": "seg-probability"}
    return known.get(stem) or ("capture" if stem.startswith(("capture", "key")) else stem)


def _pack_series(files: Sequence[Path], folder: Path) -> Path:
    """Put copies of a series' files into one: it is moved into the store, and the node keeps its own."""
    target = folder / "study.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in files:
            archive.write(path, path.name)
    return target
