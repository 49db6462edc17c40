"""The studies of the server in mock_api.py: real results of the samples, worked on with a show of progress."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from strokeseg import measure
from strokeseg.errors import StrokesegError, UnreadableFile
from strokeseg.followup import comparison as followup
from strokeseg.pipeline import Result


@dataclass
class Study:
    """One study, its versions and where their files lie."""

    id: str
    name: str
    created: float
    results: list[Result] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    versions: list[dict[str, Any]] = field(default_factory=list)
    status: str = "queued"
    progress: tuple[int, int] | None = None
    priority: str = "normal"
    has_slices: bool = False
    error: dict[str, str] | None = None
    source: Result | None = None
    turned: bool = False

    def public(self) -> dict[str, Any]:
        findings = self.results[-1].findings if self.results else None
        return {
            "id": self.id, "name": self.name, "created": _iso(self.created), "status": self.status,
            "progress": self.progress and dict(zip(("done", "total"), self.progress, strict=True)),
            "priority": self.priority, "owner": "local", "group": None, "model": "default",
            "version": max(0, len(self.results) - 1), "versions": self.versions,
            "hemorrhage": findings and findings.hemorrhage, "confidence": findings and findings.confidence,
            "volume_ml": findings and findings.volume_ml,
            "volume_interval_ml": findings and findings.volume_interval_ml,
            "error": self.error, "has_slices": self.has_slices, "has_result": bool(self.results),
        }  # fmt: skip


class Mock:
    """The server's state. ``token`` asks for one; ``answers`` gives results by the end of an uploaded file's name."""

    def __init__(
        self, answers: dict[str, Result], folder: Path, token: str | None = None, step_s: float = 0.02
    ) -> None:
        self.answers, self.folder, self.token, self.step_s = answers, folder, token, step_s
        self.studies: dict[str, Study] = {}
        self.uploads: dict[str, dict[str, Any]] = {}
        self.comparisons: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, str] = {}
        self.streams: set[asyncio.Queue[str]] = set()
        self.received: list[dict[str, Any]] = []
        self.login: str | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    def broadcast(self, event: str, data: dict[str, Any]) -> None:
        text = f"event: {event}\ndata: {json.dumps(data)}\n\n"
        if self.loop:
            for queue in list(self.streams):
                self.loop.call_soon_threadsafe(queue.put_nowait, text)

    def update(self, study: Study, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(study, name, value)
        self.broadcast("study", study.public())

    def seed(self, name: str, result: Result, age_s: float = 0) -> Study:
        study = Study(f"s{len(self.studies) + 1}", name, time.time() - age_s, has_slices=True, source=result)
        self.studies[study.id] = study
        self.add_version(study, result, None, "")
        study.status = "done"
        return study

    def add_version(self, study: Study, result: Result, author: str | None, note: str) -> None:
        folder = self.folder / study.id / str(len(study.results))
        formats = ("json", "nifti", "mesh", "report", "keys")
        result.save(folder, formats)
        study.folders.append(folder)
        study.results.append(result)
        version = {
            "version": len(study.versions),
            "created": _iso(time.time()),
            "author": author,
            "note": note,
            "hemorrhage": result.findings.hemorrhage,
            "volume_ml": result.findings.volume_ml,
        }
        study.versions.append(version)

    def submit(self, fields: dict[str, str], names: list[str], sizes: list[int]) -> Study:
        self.received.append({"fields": fields, "names": names, "sizes": sizes})
        name = fields.get("name") or names[0]
        study = Study(f"s{len(self.studies) + 1}", name, time.time(), priority=fields.get("priority") or "normal")
        self.studies[study.id] = study
        study.source = next((self.answers[end] for n in names for end in self.answers if n.endswith(end)), None)
        threading.Thread(target=self.work, args=(study,), daemon=True).start()
        return study

    def work(self, study: Study) -> None:
        self.update(study, status="reading")
        if study.source is None:
            refusal = UnreadableFile(f"{study.name} is no DICOM file, volume or picture.")
            error = {"code": refusal.code, "detail": refusal.message, "remedy": refusal.remedy}
            return self.update(study, status="refused", error=error)
        total = len(study.source.scan.hu)
        self.update(study, has_slices=True, status="segmenting", progress=(0, total))
        for done in range(1, total + 1):
            time.sleep(self.step_s)
            if study.status == "cancelled":
                return self.update(study, progress=None)
            self.update(study, progress=(done, total))
        self.update(study, status="measuring", progress=None)
        self.add_version(study, study.source, None, "")
        return self.update(study, status="done")

    def correct(self, study: Study, mask: np.ndarray[Any, Any], author: str, note: str) -> None:
        base = study.results[0]
        self.update(study, status="measuring")
        findings = measure(base.scan, mask, base.probability)
        corrected = Result(base.scan, base.probability, mask, findings, base.model, base.timing)
        self.add_version(study, corrected, author, note)
        self.update(study, status="done")

    def compare(self, comparison: dict[str, Any]) -> None:
        earlier, later = (self.studies[comparison[side]].results[-1] for side in ("earlier", "later"))
        try:
            followup.compare(earlier, later).save(self.folder / comparison["id"])
            comparison["status"] = "done"
        except StrokesegError as error:
            comparison["error"] = {"code": error.code, "detail": error.message, "remedy": error.remedy}
            comparison["status"] = "refused"


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1e6):06d}Z"
