"""Figures of whole scans on docs/results.md: taken from `strokeseg evaluate --json`, stored without their rows."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from strokeseg.errors import TrainError
from strokeseg.evaluation.bootstrap import Bootstrap
from strokeseg.evaluation.scan_scores import join_scores
from strokeseg.evaluation.schema import Evaluation, WholeScanScores
from strokeseg.result import ModelInfo

TEST_ROLE = "test"


class StoredScores(BaseModel):
    """Figures of one network, or of the networks of a cross-validation, on one set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    date: str
    scores: WholeScanScores

    @property
    def is_test(self) -> bool:
        """Whether the patients are those of the public test."""
        return self.scores.role == TEST_ROLE

    @property
    def key(self) -> tuple[str, str | None, str | None]:
        """What a later figure replaces."""
        return self.name, self.scores.data_set, self.scores.role


def read_scores(files: Sequence[Path]) -> StoredScores:
    """Read the figures of an evaluation, or of the folds of one, and join them.

    Parameters
    ----------
    files : sequence of Path
        Files of `strokeseg evaluate --json` for whole scans; of several, each has other patients.

    Returns
    -------
    StoredScores
        The figures of all their scans, without the rows.

    Raises
    ------
    TrainError
        `train`, if a file holds no figures of whole scans, the files do not belong together, or patients other than
        those of the test may have been trained on.
    """
    evaluations = [_read(file) for file in files]
    parts = [whole for _, whole in evaluations]
    first = evaluations[0][0]
    draws = Bootstrap(first.interval_level, first.bootstrap_draws, first.bootstrap_seed)
    try:
        scores = join_scores(parts, draws) if len(parts) > 1 else parts[0]
    except ValueError as error:
        raise TrainError(f"{', '.join(file.name for file in files)}: {error}", "Name the folds of one set.") from None
    if [part for part in parts if part.role != TEST_ROLE and not part.unseen]:
        raise TrainError(
            "patients whom the network was trained on were not left out",
            "Score again with --unseen SPLIT.csv, the split of the training.",
        )
    names = list(dict.fromkeys(_name_model(model) for model in scores.models))
    name = names[0] if len(names) == 1 else f"{len(names)} folds: {', '.join(names)}"
    return StoredScores(
        name=name, date=datetime.date.today().isoformat(), scores=scores.model_copy(update={"scans": []})
    )


def _name_model(model: ModelInfo) -> str:
    return model.name if model.operating_point == "balanced" else f"{model.name}, {model.operating_point}"


def _read(file: Path) -> tuple[Evaluation, WholeScanScores]:
    try:
        evaluation = Evaluation.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        evaluation = None
    if evaluation is None or evaluation.whole_scans is None:
        remedy = "Write it with `strokeseg evaluate FOLDER --set NAME --json FILE`."
        raise TrainError(f"{file.name}: no figures of whole scans", remedy)
    return evaluation, evaluation.whole_scans
