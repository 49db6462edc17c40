"""The training configuration: one TOML file, checked before anything is loaded."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from strokeseg.errors import TrainError


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataTable(_Table):
    """Which sources, and how often each is drawn."""

    root: str = Field(description="folder of the data sets, relative to the configuration file")
    sources: dict[str, float] = Field(description="adapter name: share of the samples; shares are normalised")
    validation: list[str] = Field(description="sources of which patients are held out for validation")
    validation_share: float = Field(default=0.2, gt=0, lt=1, description="share of the patients of each such source")
    limit: int | None = Field(default=None, description="at most so many slices a source, for short trials")


class NetworkTable(_Table):
    """The architecture, by the names of segmentation-models-pytorch."""

    name: str
    architecture: str = "unet"
    encoder: str = "tu-tf_efficientnet_lite0"
    encoder_weights: str | None = Field(default=None, description="'package' reads an installed package's file")
    decoder_channels: tuple[int, ...] = (128, 96, 64, 32, 16)
    size: int = Field(default=288, ge=32, multiple_of=32)


class TrainTable(_Table):
    """Budget and optimiser."""

    samples: int = Field(gt=0)
    batch: int = Field(default=16, gt=0)
    rate: float = Field(default=1e-3, gt=0)
    encoder_rate: float = Field(default=0.3, gt=0, description="the encoder's rate as a share of the decoder's")
    weight_decay: float = 1e-2
    warm_up: float = Field(default=0.03, description="share of the steps in which the rate rises")
    decay_from: float = Field(default=0.6, description="share of the steps after which the rate falls")
    ema: float = Field(default=0.998, ge=0, lt=1)
    seed: int = 0
    precision: Literal["bf16-mixed", "16-mixed", "32-true"] = "bf16-mixed"
    validate_every: int = Field(default=150, gt=0, description="steps")
    workers: int = Field(default=1, ge=0)


class SynthesisTable(_Table):
    """How often a training slice is given what it did not have."""

    paste: float = Field(default=0.2, ge=0, le=1, description="a real bleed of another slice")
    crescent: float = Field(default=0.15, ge=0, le=1, description="a crescent or lens under the skull")
    bone: float = Field(default=0.15, ge=0, le=1, description="a skull that grows inwards, which is no blood")


class Config(_Table):
    """A whole training run."""

    data: DataTable
    network: NetworkTable
    train: TrainTable
    synthesis: SynthesisTable = SynthesisTable()


def load(path: Path) -> Config:
    """Read and check a configuration.

    Raises
    ------
    TrainError
        if the file is not there, no TOML, or has a wrong or unknown entry; the sentence names it
    """
    try:
        return Config.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise TrainError(f"{path}: no such configuration") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainError(f"{path}: not TOML: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise TrainError(f"{path}: {place}: {first['msg']}") from None
