"""The shipped networks: NAME.onnx, NAME.json (the card as data) and NAME.md (the card as prose), found and checked."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from strokeseg.errors import CorruptModel, UnknownModel

SHIPPED = Path(__file__).parents[1] / "models"
FOLDER_VARIABLE = "STROKESEG_MODELS"
"""Environment variable that names another folder of models than the shipped one."""


class Card(BaseModel):
    """What must be known about a network."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: str
    sha256: str = Field(description="of the .onnx file")
    precision: str = Field(description="of the weights: fp32, int8")
    architecture: str
    size: int = Field(description="side of the input square, pixels")
    threshold: float = Field(description="of the mask; chosen on validation patients")
    smallest_mm3: float = Field(description="components under this volume are dropped where the spacing is known")
    smallest_share: float = Field(description="elsewhere: components under this share of the head's square, one slice")
    licence: str
    limits: list[str]
    training: dict[str, Any] = Field(description="data, split and budget of the run")
    metrics: dict[str, Any] = Field(description="figures on patients who were not trained on")


def folder() -> Path:
    """Give the folder of the models: the shipped one, or the one that the environment names."""
    return Path(os.environ.get(FOLDER_VARIABLE) or SHIPPED)


def names() -> list[str]:
    """List the installed models."""
    return sorted(path.stem for path in folder().glob("*.json"))


def card(name: str) -> Card:
    """Read a model's card.

    Raises
    ------
    UnknownModel
        `unknown-model`, if there is none of that name
    CorruptModel
        `model-checksum`, if the card cannot be read
    """
    if name not in names():
        raise UnknownModel(f"no model named {name!r}; installed: {', '.join(names()) or 'none'}")
    try:
        return Card.model_validate_json((folder() / f"{name}.json").read_bytes())
    except ValidationError as error:
        raise CorruptModel(f"the card of model {name!r} cannot be read: {error.errors()[0]['msg']}") from None


def weights(name: str) -> tuple[Card, bytes]:
    """Read a model's weights and hold them to the card's checksum.

    Raises
    ------
    UnknownModel
        `unknown-model`
    CorruptModel
        `model-checksum`, if a byte differs or the file is missing
    """
    found = card(name)
    path = folder() / f"{name}.onnx"
    if not path.is_file():
        raise CorruptModel(f"the weights of model {name!r} are missing: {path.name}")
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if digest != found.sha256:
        raise CorruptModel(f"{path.name}: SHA-256 is {digest[:12]}…, its card says {found.sha256[:12]}…")
    return found, data
