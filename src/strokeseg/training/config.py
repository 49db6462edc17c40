"""The training configuration: a TOML file, checked before anything is loaded."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator

from strokeseg.errors import TrainError, describe_field_error
from strokeseg.training.own_datasets import OwnDataset

Share = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _ConfigModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_ConfigModel):
    """The sources, the share of each, and the images that are held out."""

    root: str = Field(description="folder of the data sets, relative to the configuration file")
    sources: dict[str, Share] = Field(description="adapter name: share of the samples; shares are normalised")
    validation: list[str] = Field(description="sources of which patients are held out for validation")
    validation_share: float = Field(default=0.2, gt=0, lt=1, description="share of the patients of each such source")
    limit: int | None = Field(default=None, description="maximum number of slices per source, for short trials")
    own: dict[str, OwnDataset] = Field(
        default={}, description="the user's own sets, by the names used in `data.sources`"
    )
    split: str | None = Field(
        default=None,
        description="file that states the side of every image, relative to the configuration file; if 'none' or not "
        "given, the split is drawn",
    )
    keep_sides: str | None = Field(
        default=None,
        description="for --write-split: an earlier split, relative to the configuration file; its validation patients "
        "validate again, and validation patients are drawn only from patients who are not in it",
    )
    leave_out: list[str] = Field(
        default=[],
        description="patients who are neither trained nor validated on, such as those of another fold or hospital",
    )
    validate_at_most: dict[str, Annotated[int, Field(gt=0)]] = Field(
        default={}, description="source: maximum number of its validation slices, evenly selected from all"
    )
    split_by: Literal["patient", "slice-leaking-patients"] = Field(
        default="patient",
        description="with 'slice-leaking-patients' a patient can be on both sides, and every figure is too good",
    )
    _folder: Path = PrivateAttr(default=Path())

    def model_post_init(self, context: Any) -> None:
        """Keep the folder of the configuration out of records: it is a path of one machine."""
        self._folder = (context or {}).get("folder", Path())

    @property
    def split_file(self) -> Path | None:
        """The file of the split, if one is named."""
        return None if self.split in (None, "none") else self._folder / str(self.split)

    @property
    def keep_sides_file(self) -> Path | None:
        """The file of the earlier split whose sides are kept, if one is named."""
        return None if self.keep_sides is None else self._folder / self.keep_sides


class NetworkConfig(_ConfigModel):
    """The network, by the names of segmentation-models-pytorch."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="name of the run's folder and of the exported network"
    )
    architecture: str = Field(
        default="unet",
        description="unet, unetplusplus, deeplabv3, ...: any architecture of segmentation-models-pytorch",
    )
    encoder: str = Field(default="tu-tf_efficientnet_lite0", description="any encoder of segmentation-models-pytorch")
    encoder_weights: str | None = Field(
        default=None,
        pattern=r"^(none|imagenet|package|nearest|file:.+)$",
        description="initial weights of the encoder: 'none' (also the default), 'imagenet' (downloaded), or "
        "'file:PATH', relative to the configuration file",
    )
    start: str | None = Field(
        default=None,
        description="network to start from: another run, in a folder of this name beside this run's; 'model:NAME', an "
        "installed network, such as 'model:default'; or 'file:PATH', a packed run, relative to the configuration file; "
        "'none' also overrides the entry of a file that is extended",
    )
    decoder_channels: tuple[int, ...] = Field(
        default=(128, 96, 64, 32, 16),
        description="channels of the decoder of unet, unetplusplus and manet, coarsest first",
    )
    decoder_attention: Literal["scse"] | None = Field(default=None, description="of unet and unetplusplus")
    options: dict[str, Any] = Field(default={}, description="further options of the architecture, by name")
    size: int = Field(default=288, ge=32, multiple_of=32, description="pixels of the square around the head")
    neighbours: Literal[0, 1] = Field(
        default=0,
        description="number of slices below and above that the network has as further input channels, in the order "
        "below, this, above",
    )
    _folder: Path = PrivateAttr(default=Path())

    @field_validator("start")
    @classmethod
    def _none_is_no_start(cls, start: str | None) -> str | None:
        return None if start == "none" else start

    def model_post_init(self, context: Any) -> None:
        """Keep the folder of the configuration out of records: it is a path of one machine."""
        self._folder = (context or {}).get("folder", Path())

    @property
    def channels(self) -> int:
        """Number of input channels: the slice and its neighbours."""
        return 1 + 2 * self.neighbours

    @property
    def weights_file(self) -> Path | None:
        """The file of the encoder's weights, if one is named."""
        if self.encoder_weights is None or not self.encoder_weights.startswith("file:"):
            return None
        return self._folder / self.encoder_weights.removeprefix("file:")

    @property
    def start_file(self) -> Path | None:
        """The file of the packed run to start from, if one is named."""
        if self.start is None or not self.start.startswith("file:"):
            return None
        return self._folder / self.start.removeprefix("file:")


class TrainConfig(_ConfigModel):
    """Budget and optimiser."""

    samples: int = Field(gt=0, description="total number of slices drawn")
    batch: int = Field(default=16, gt=0, description="slices per step")
    rate: float = Field(default=1e-3, gt=0, description="the decoder's highest learning rate")
    encoder_rate: float = Field(default=0.3, gt=0, description="the encoder's rate as a share of the decoder's")
    weight_decay: float = Field(default=1e-2, ge=0, description="of AdamW")
    warm_up: float = Field(default=0.03, description="share of the steps in which the rate rises")
    decay_from: float = Field(default=0.6, description="share of the steps after which the rate falls")
    ema: float = Field(default=0.998, ge=0, lt=1, description="decay of the moving average of the weights, per step")
    seed: int = Field(default=0, description="of the split, the weights, the draw and the augmentation")
    stream: int = Field(
        default=0,
        ge=0,
        description="another number draws other samples and augmentation with the same seed, for `network.start`",
    )
    precision: Literal["bf16-mixed", "16-mixed", "32-true"] = Field(
        default="bf16-mixed", description="precision of the arithmetic; 16-mixed needs a GPU"
    )
    validate_every: int = Field(default=150, gt=0, description="steps")
    patience: int | None = Field(
        default=None, gt=0, description="stop after this number of consecutive validations without a better Dice"
    )
    balance: dict[Literal["positive", "small", "negative", "boxed"], Share] | None = Field(
        default=None,
        description="shares of the classes: the class is drawn first, then a source that contains it, by data.sources; "
        "with 'small', outlined blood less than 8 mm thick or smaller than 200 mm2 is a class of its own",
    )
    drop_neighbours: float = Field(
        default=0.3, ge=0, le=1, description="probability that a slice itself takes the place of its neighbours"
    )
    workers: int = Field(default=1, ge=0, description="processes that prepare slices; 0 prepares them in the loop")

    @model_validator(mode="after")
    def _a_step(self) -> TrainConfig:
        if self.samples < self.batch:
            raise ValueError(f"samples = {self.samples} is not one step of batch = {self.batch}")
        return self


class SynthesisConfig(_ConfigModel):
    """Probabilities of synthetic changes to a training slice."""

    paste: float = Field(default=0.2, ge=0, le=1, description="probability of pasting a real lesion of another slice")
    crescent: float = Field(default=0.15, ge=0, le=1, description="probability of a crescent or lens under the skull")
    bone: float = Field(
        default=0.15, ge=0, le=1, description="probability of a cap of bone that grows inwards, which is not blood"
    )
    vault: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the caps of `bone` that occupy only part of a slice's thickness",
    )
    isodense: float = Field(
        default=0.0, ge=0, le=1, description="share of the crescents that are as thin and as grey as the cortex"
    )


class LossConfig(_ConfigModel):
    """The weights of the loss."""

    missed: float = Field(
        default=0.5, gt=0, lt=1, description="weight of missed blood among the errors of the overlap; 0.5 is Dice"
    )
    slices: float = Field(
        default=0.0,
        ge=0,
        description="weight of the cross-entropy of slices with and without blood, by their highest logits",
    )


class SelfTrainingConfig(_ConfigModel):
    """Outlines of unlabelled slices by an earlier run."""

    teacher: str = Field(description="an earlier run, in a folder of this name beside this run's")
    high: float = Field(default=0.6, gt=0, lt=1, description="probability from which a pixel counts as blood")
    low: float = Field(default=0.1, ge=0, lt=1, description="probability up to which a pixel counts as no blood")
    boxes: bool = Field(default=False, description="also inside boxes; outside of them there is no blood")

    @model_validator(mode="after")
    def _in_order(self) -> SelfTrainingConfig:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, and {self.low:g} is not below {self.high:g}")
        return self


class DistillationConfig(_ConfigModel):
    """Distillation of earlier runs into the network."""

    teachers: list[str] = Field(min_length=1, description="earlier runs, in folders of these names beside this run's")
    weight: float = Field(
        default=0.5, gt=0, description="weight of this term; the loss on outlines and boxes has weight 1"
    )
    temperature: float = Field(
        default=1.0, gt=0, description="temperature of the targets; above 1 uncertain pixels of the teachers weigh more"
    )


class Config(_ConfigModel):
    """The configuration of a training run."""

    data: DataConfig
    network: NetworkConfig
    train: TrainConfig
    synthesis: SynthesisConfig = SynthesisConfig()
    loss: LossConfig = LossConfig()
    self_training: SelfTrainingConfig | None = None
    distillation: DistillationConfig | None = None
    average: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={},
        description="the network is not trained, but is the mean of the weights of these, by their shares: runs in "
        "folders beside this run's, or 'model:NAME', an installed network",
    )


def load(path: Path) -> Config:
    """Read and check a configuration.

    ``extends = "OTHER.toml"`` at the top of a file, relative to it, inherits every entry that the file does not set;
    tables are merged entry by entry. Paths are relative to the file that states them.

    Raises
    ------
    TrainError
        If a file is not there, no TOML, extends itself, or has a wrong or unknown entry; the sentence names it.
    """
    content = _read_merged(path, ())
    try:
        return Config.model_validate(content, context={"folder": path.parent})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise TrainError(f"{path}: {place}: {describe_field_error(first)}") from None


def _read_merged(path: Path, below: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in below:
        raise TrainError(f"{path}: extends itself, by way of {below[-1].name}", "Take one 'extends' out.")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TrainError(f"{path}: no such configuration") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainError(f"{path}: not TOML: {error}") from None
    other = content.pop("extends", None)
    if other is None:
        return content
    if not isinstance(other, str):
        raise TrainError(f"{path}: extends: not the name of one file")
    base = path.parent / other
    return _merge(_rebase_paths(_read_merged(base, (*below, path.resolve())), base.parent, path.parent), content)


def _merge(base: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = dict(base)
    for key, value in above.items():
        old = both.get(key)
        both[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return both


def _rebase_paths(content: dict[str, Any], home: Path, to: Path) -> dict[str, Any]:
    """Convert paths relative to one folder to paths relative to another."""
    for table, key, prefix in (
        ("data", "root", ""),
        ("data", "split", ""),
        ("data", "keep_sides", ""),
        ("network", "encoder_weights", "file:"),
        ("network", "start", "file:"),
    ):
        value = content.get(table, {}).get(key) if isinstance(content.get(table, {}), dict) else None
        if isinstance(value, str) and value.startswith(prefix) and not Path(value.removeprefix(prefix)).is_absolute():
            content[table][key] = prefix + os.path.relpath(home / value.removeprefix(prefix), to)
    return content
