"""What the node asks of the jobs: those of the web application, so that one worklist shows all studies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from strokeseg.result import ResultDocument


@dataclass(frozen=True)
class JobState:
    """How far a job is.

    Parameters
    ----------
    ended : object
        "done" | "refused" | "failed" | "cancelled" | "gone"; empty while it runs.
    why : object
        Of a refusal or failure its code and sentence.
    document : ResultDocument, optional
        `result.json`, once it is done.
    """

    outcome: str = ""
    reason: str = ""
    document: ResultDocument | None = None


class JobQueue(Protocol):
    """The jobs of the web application, as far as the node needs them."""

    def submit(
        self, key: str, name: str, files: Sequence[Path], *, model: str, urgent: bool, formats: Sequence[str]
    ) -> str:
        """Take a series' files as a study and give its id; the same key gives the same study, however often."""
        ...

    def read_state(self, study: str) -> JobState:
        """Say how far a study is."""
        ...

    def read_objects(self, study: str, formats: Sequence[str]) -> list[bytes]:
        """Return a finished study's DICOM objects of these formats, each a whole file; those that it has none of less.

        Raises
        ------
        NotFound
            `not-found`, if the study is gone.
        """
        ...

    def compare(self, earlier: str, later: str) -> None:
        """Have two studies of one patient compared; doing it twice is doing it once."""
        ...
