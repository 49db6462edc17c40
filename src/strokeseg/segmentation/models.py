"""The installed models: NAME.onnx (network), NAME.json (card as data), NAME.md (card as prose)."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from strokeseg import atomic_write
from strokeseg.errors import CorruptModel, UnknownModel, describe_field_error

SHIPPED_FOLDER = Path(__file__).parents[1] / "models"
FOLDER_VARIABLE = "STROKESEG_MODELS"
"""Environment variable with a folder of models that replaces the shipped folder and the user's folder."""


class VolumeCalibration(BaseModel):
    """Calibration of the volume interval: split conformal prediction on validation patients (docs/calibration.md).

    A patient's score is |drawn volume - predicted volume| divided by the uncertainty on that side: the volume of the
    mask below ``sure_at``, or the volume beside the mask at or above ``possible_at``, plus ``slack_ml``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: float = Field(
        gt=0,
        lt=1,
        description="probability that the interval contains the true volume: 0.9, or less with too few patients",
    )
    patients: int = Field(ge=1, description="number of scores")
    quantile: float = Field(ge=0, allow_inf_nan=False, description="conformal quantile of the scores")
    sure_at: float = Field(gt=0, lt=1, description="pixels of the mask below this probability are uncertain")
    possible_at: float = Field(
        gt=0, lt=1, description="pixels beside the mask at or above this probability are uncertain"
    )
    slack_ml: float = Field(gt=0, allow_inf_nan=False, description="uncertainty added to every prediction")
    factors: dict[str, Annotated[float, Field(ge=1, allow_inf_nan=False)]] = Field(
        description="factor that widens the interval, by code of a remark"
    )
    not_measured: list[str] = Field(description="codes whose factor is assumed, not measured")


class LogisticCurve(BaseModel):
    """Probability of a hemorrhage by the largest lesion: 1 / (1 + exp(-(intercept + slope ln(max(lesion, floor)))))."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    intercept: float = Field(allow_inf_nan=False)
    slope: float = Field(ge=0, allow_inf_nan=False)
    with_blood: int = Field(ge=1, description="number of patients with a hemorrhage in the fit")
    without: int = Field(ge=1, description="number of patients without")


class FeatureWeight(BaseModel):
    """Share of one feature in the log odds of a lesion: weight x ((value - centre) / scale, within -3 and 3)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(allow_inf_nan=False)
    centre: float = Field(allow_inf_nan=False)
    scale: float = Field(gt=0, allow_inf_nan=False)


class LesionReview(BaseModel):
    """Second look at every candidate lesion: a logistic regression on features that a person can read.

    Fitted to candidates of whole scans, each found by a network that never saw the patient.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    intercept: float = Field(allow_inf_nan=False)
    features: dict[str, FeatureWeight] = Field(description="by name of a feature, segmentation/lesion_features.py")
    drop_below: float = Field(ge=0, lt=1, description="a candidate whose probability is lower is no lesion")
    lesions: int = Field(ge=1, description="number of candidates with blood in the fit")
    false_alarms: int = Field(ge=1, description="number of candidates without")


class OperatingPoint(BaseModel):
    """A choice between missed hemorrhages and false alarms, with what it was measured to do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    decision: float = Field(gt=0, lt=1, description="lowest confidence for the answer yes")
    sensitivity: float | None = Field(default=None, description="of scans with hemorrhage, share answered yes")
    specificity: float | None = Field(default=None, description="of scans without, share answered no")
    with_blood: int = Field(default=0, description="number of scans with hemorrhage")
    without: int = Field(default=0, description="number of scans without")


class HemorrhageCalibration(BaseModel):
    """Calibration of the confidence, assuming that half of all scans show a hemorrhage.

    A whole scan has the confidence of its most probable lesion if the card has a review of lesions, and otherwise that
    of its largest one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    floor_ml: float = Field(gt=0, allow_inf_nan=False, description="volume that stands for a scan without a lesion")
    scan: LogisticCurve = Field(description="curve for scans of several slices, fitted to patients")
    one_slice: LogisticCurve = Field(description="curve for a single slice, fitted to slices")
    reviewed: LogisticCurve | None = Field(
        default=None,
        description="curve for whole scans over the log odds of the most probable lesion, in place of the largest "
        "lesion's logarithm; fitted to whole scans",
    )


class Calibration(BaseModel):
    """Result of `strokeseg calibrate` on validation patients; null with too few patients."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    volume: VolumeCalibration | None
    blood: HemorrhageCalibration | None
    figures: dict[str, Any] = Field(description="figures of the evaluation, and the patients it used")


class Card(BaseModel):
    """The card of a network: what it is, where it applies, and how it performs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="also the name of its files")
    version: str
    sha256: str = Field(description="SHA-256 of the .onnx file")
    precision: str = Field(description="precision of the weights: fp32 or int8")
    architecture: str
    size: int = Field(ge=32, le=4096, description="side of the input square, pixels")
    threshold: float = Field(gt=0, lt=1, description="probability threshold of the mask, chosen on validation patients")
    smallest_mm3: float = Field(ge=0, description="smaller components are dropped if the spacing is known")
    smallest_share: float = Field(
        ge=0,
        description="otherwise: components below this share of the square around the head are dropped",
    )
    licence: str
    limits: list[str]
    training: dict[str, Any] = Field(description="data, split and budget of the training")
    metrics: dict[str, Any] = Field(description="figures on patients who were not used for training")
    calibration: Calibration | None = Field(
        default=None, description="calibration of the confidence and the volume interval; without it both are null"
    )
    review: LesionReview | None = Field(default=None, description="second look at candidate lesions of whole scans")
    operating_points: dict[str, OperatingPoint] = Field(
        default={}, description="by name: sensitive, balanced, specific; without any, a confidence of 0.5 decides"
    )


def list_folders() -> list[Path]:
    """List the folders of models: the shipped and the user's folder, or only the folder set in the environment."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return [Path(folder)] if folder else [SHIPPED_FOLDER, Path.home() / ".strokeseg" / "models"]


def list_names() -> list[str]:
    """List the installed models."""
    return sorted({path.stem for folder in list_folders() for path in folder.glob("*.json")})


def find_folder(name: str) -> Path:
    """Find the folder of a model; the shipped folder is searched first.

    Parameters
    ----------
    name : str
        Name of the model.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    UnknownModel
        `unknown-model`, if no model has this name.
    """
    for folder in list_folders():
        # Compared, not joined: a name is never used as a path.
        if name in (path.stem for path in folder.glob("*.json")):
            return folder
    raise UnknownModel(f"no model named {name!r}; installed: {', '.join(list_names()) or 'none'}")


def load_card(name: str) -> Card:
    """Load the card of an installed model.

    Parameters
    ----------
    name : str
        Name of the model.

    Returns
    -------
    Card
        The card.

    Raises
    ------
    UnknownModel
        `unknown-model`, if no model has this name.
    CorruptModel
        `model-checksum`, if the card cannot be read.
    """
    return read_card(find_folder(name) / f"{name}.json")


def read_card(path: Path) -> Card:
    """Read a card from a file.

    Parameters
    ----------
    path : Path
        NAME.json.

    Returns
    -------
    Card
        The card.

    Raises
    ------
    CorruptModel
        `model-checksum`, if the file is missing or invalid.
    """
    try:
        return Card.model_validate_json(path.read_bytes())
    except OSError:
        raise CorruptModel(f"the card {path.name} is missing", _remedy(path)) from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        message = f"the card {path.name} cannot be read: {field or 'JSON'}: {describe_field_error(first)}"
        raise CorruptModel(message, _remedy(path)) from None


def _remedy(file: Path) -> str | None:
    """Return the remedy for a damaged file of a user's model; reinstalling StrokeSeg repairs only the shipped ones."""
    if file.parent == SHIPPED_FOLDER:
        return None
    return f"Add it again: `strokeseg models remove {file.stem}`, then `strokeseg models add {file.stem}.onnx`."


def load_weights(name: str) -> tuple[Card, bytes]:
    """Load the weights of an installed model and verify their checksum.

    Parameters
    ----------
    name : str
        Name of the model.

    Returns
    -------
    tuple of (Card, bytes)
        The card, and the contents of the .onnx file.

    Raises
    ------
    UnknownModel
        `unknown-model`.
    CorruptModel
        `model-checksum`, if a byte differs or the file is missing.
    """
    card = load_card(name)
    return card, read_verified(card, find_folder(name) / f"{name}.onnx")


def read_verified(card: Card, path: Path) -> bytes:
    """Read weights and compare them with the checksum on a card.

    Parameters
    ----------
    card : Card
        Card of the network.
    path : Path
        NAME.onnx.

    Returns
    -------
    bytes
        Contents of the file.

    Raises
    ------
    CorruptModel
        `model-checksum`, if a byte differs or the file is missing.
    """
    if not path.is_file():
        raise CorruptModel(f"the weights of model {card.name!r} are missing: {path.name}", _remedy(path))
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != card.sha256:
        message = f"{path.name}: SHA-256 is {digest[:12]}…, the card states {card.sha256[:12]}…"
        raise CorruptModel(message, _remedy(path))
    return data


def save_model(card: Card, weights: bytes, folder: Path, prose: str | None = None) -> None:
    """Write the files of a model, each atomically; the card (NAME.json) is written last.

    Parameters
    ----------
    card : Card
        Card of the network.
    weights : bytes
        Contents of NAME.onnx.
    folder : Path
        Folder of models.
    prose : str, optional
        Contents of NAME.md.

    Raises
    ------
    NotWritable, DiskFull
        `not-writable`, `disk-full`.
    """
    contents = {f"{card.name}.onnx": weights, f"{card.name}.json": (card.model_dump_json(indent=1) + "\n").encode()}
    if prose is not None:
        contents = {f"{card.name}.md": prose.encode()} | contents
    for name, content in contents.items():
        atomic_write.write_file(folder / name, content, f"Set {FOLDER_VARIABLE} to another folder.")
