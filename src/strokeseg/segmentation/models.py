"""The installed networks: NAME.onnx, NAME.json (the card as data), NAME.md (the card as prose), found and checked."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from strokeseg import atomic_write
from strokeseg.errors import CorruptModel, UnknownModel

SHIPPED_FOLDER = Path(__file__).parents[1] / "models"
FOLDER_VARIABLE = "STROKESEG_MODELS"
"""Environment variable that names one folder of models in place of the shipped one and the user's own."""


class VolumeCalibration(BaseModel):
    """How far a volume may be off: split conformal over the validation patients (docs/calibration.md).

    A patient's score is |drawn - answered volume| over the answer's own doubt on that side: what it is less sure of
    than ``sure_at`` below, what it holds possible from ``possible_at`` on above, and ``slack_ml`` on both.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: float = Field(gt=0, lt=1, description="what the quantile promises: 0.9, or less for too few patients")
    patients: int = Field(ge=1, description="how many scores the quantile is of")
    quantile: float = Field(ge=0, allow_inf_nan=False, description="of the scores")
    sure_at: float = Field(gt=0, lt=1, description="probability from which a pixel of the mask is no doubt")
    possible_at: float = Field(gt=0, lt=1, description="probability from which a pixel beside the mask is doubt")
    slack_ml: float = Field(gt=0, allow_inf_nan=False)
    factors: dict[str, Annotated[float, Field(ge=1, allow_inf_nan=False)]] = Field(
        description="code of a remark: by what the interval grows"
    )
    not_measured: list[str] = Field(description="factors that are stated, not measured")


class LogisticCurve(BaseModel):
    """The probability of blood, 1 / (1 + exp(-(intercept + slope ln(max(lesion, floor))))), of the largest lesion."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    intercept: float = Field(allow_inf_nan=False)
    slope: float = Field(ge=0, allow_inf_nan=False)
    with_blood: int = Field(ge=1, description="patients with blood that it was fitted to")
    without: int = Field(ge=1, description="patients without")


class HemorrhageCalibration(BaseModel):
    """From the largest lesion's volume to the probability that there is blood, half of all scans holding some."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    floor_ml: float = Field(gt=0, allow_inf_nan=False, description="what a scan without any lesion counts as")
    scan: LogisticCurve = Field(description="of several slices, fitted to patients")
    one_slice: LogisticCurve = Field(description="of one slice alone, fitted to slices")


class Calibration(BaseModel):
    """What `strokeseg bench calibration` found on the validation patients; null where they were too few."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    volume: VolumeCalibration | None
    blood: HemorrhageCalibration | None
    figures: dict[str, Any] = Field(description="how well it holds, on whom")


class Card(BaseModel):
    """What must be known about a network."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="is a file's name too")
    version: str
    sha256: str = Field(description="of the .onnx file")
    precision: str = Field(description="of the weights: fp32, int8")
    architecture: str
    size: int = Field(ge=32, le=4096, description="side of the input square, pixels")
    threshold: float = Field(gt=0, lt=1, description="of the mask; chosen on validation patients")
    smallest_mm3: float = Field(ge=0, description="components under this volume are dropped where the spacing is known")
    smallest_share: float = Field(
        ge=0, description="elsewhere: components under this share of the head's square, one slice"
    )
    licence: str
    limits: list[str]
    training: dict[str, Any] = Field(description="data, split and budget of the run")
    metrics: dict[str, Any] = Field(description="figures on patients who were not trained on")
    calibration: Calibration | None = Field(
        default=None, description="of the confidence and the volume's interval; without it neither is given"
    )


def list_folders() -> list[Path]:
    """Return the folders of models: the shipped one and the user's own, or the one alone that the environment names."""
    named = os.environ.get(FOLDER_VARIABLE)
    return [Path(named)] if named else [SHIPPED_FOLDER, Path.home() / ".strokeseg" / "models"]


def list_names() -> list[str]:
    """List the installed models."""
    return sorted({path.stem for folder in list_folders() for path in folder.glob("*.json")})


def find_folder(name: str) -> Path:
    """Return the folder that holds a model; a shipped one comes before the user's.

    Raises
    ------
    UnknownModel
        `unknown-model`, if there is none of that name.
    """
    for place in list_folders():
        # By comparison, not by joining: a name is never a path.
        if name in (path.stem for path in place.glob("*.json")):
            return place
    raise UnknownModel(f"no model named {name!r}; installed: {', '.join(list_names()) or 'none'}")


def load_card(name: str) -> Card:
    """Read a model's card.

    Raises
    ------
    UnknownModel
        `unknown-model`, if there is none of that name.
    CorruptModel
        `model-checksum`, if the card cannot be read.
    """
    return read_card(find_folder(name) / f"{name}.json")


def read_card(path: Path) -> Card:
    """Read a card from a file.

    Raises
    ------
    CorruptModel
        `model-checksum`, if it is missing or cannot be read.
    """
    try:
        return Card.model_validate_json(path.read_bytes())
    except OSError:
        raise CorruptModel(f"there is no card {path.name}", _remedy(path)) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = f"the card {path.name} cannot be read: {place or 'JSON'}: {first['msg']}"
        raise CorruptModel(message, _remedy(path)) from None


def _remedy(file: Path) -> str | None:
    """Say how to mend a network's file; installing StrokeSeg again mends only its own."""
    if file.parent == SHIPPED_FOLDER:
        return None
    return f"Add it again: `strokeseg models remove {file.stem}`, then `strokeseg models add {file.stem}.onnx`."


def load_weights(name: str) -> tuple[Card, bytes]:
    """Read a model's weights and hold them to the card's checksum.

    Raises
    ------
    UnknownModel
        `unknown-model`.
    CorruptModel
        `model-checksum`, if a byte differs or the file is missing.
    """
    found = load_card(name)
    return found, read_verified(found, find_folder(name) / f"{name}.onnx")


def read_verified(card: Card, path: Path) -> bytes:
    """Read weights and hold them to a card's checksum.

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
        message = f"{path.name}: SHA-256 is {digest[:12]}…, its card says {card.sha256[:12]}…"
        raise CorruptModel(message, _remedy(path))
    return data


def save_model(card: Card, weights: bytes, folder: Path, prose: str | None = None) -> None:
    """Write NAME.onnx, NAME.json and where given NAME.md, each whole or not at all; the card comes last.

    Raises
    ------
    NotWritable, DiskFull
        `not-writable`, `disk-full`.
    """
    contents = {f"{card.name}.onnx": weights, f"{card.name}.json": (card.model_dump_json(indent=1) + "\n").encode()}
    if prose is not None:
        contents = {f"{card.name}.md": prose.encode()} | contents
    for name, content in contents.items():
        atomic_write.write_file(folder / name, content, f"Name another folder with {FOLDER_VARIABLE}.")
