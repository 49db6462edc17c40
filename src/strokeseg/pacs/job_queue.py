"""Interface between the node and the jobs of the web application, which show all studies in one worklist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from strokeseg.result import ResultDocument


@dataclass(frozen=True)
class JobState:
    """State of a job.

    Attributes
    ----------
    outcome : str
        "done" | "refused" | "failed" | "cancelled" | "gone"; empty while the job runs.
    reason : str
        Code and message of a refusal or failure.
    document : ResultDocument, optional
        Content of `result.json` when the job is done.
    """

    outcome: str = ""
    reason: str = ""
    document: ResultDocument | None = None


class JobQueue(Protocol):
    """The jobs of the web application, as far as the node needs them."""

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
        """Submit the files of a series as a study and return its id; the same key always returns the same study."""
        ...

    def read_state(self, study: str) -> JobState:
        """Return the state of a study."""
        ...

    def read_objects(self, study: str, formats: Sequence[str]) -> list[bytes]:
        """Return the DICOM objects of a finished study in these formats, each as a file.

        Formats that the study does not have are left out.

        Raises
        ------
        NotFound
            `not-found`, if the study was deleted.
        """
        ...

    def compare(self, earlier: str, later: str) -> None:
        """Compare two studies of one patient; a repeated call has no effect."""
        ...
