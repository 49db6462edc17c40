"""Callbacks that report a run: the progress bar, previews of slices at every validation, and the clock."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.segmentation.preprocess import apply_window
from strokeseg.training import run_folder
from strokeseg.training.augmentation import Bytes, Floats32, StoredSlice

TRUTH_COLOR, PREDICTION_COLOR = (0, 200, 0), (230, 40, 40)


def choose_previews(held_out: Sequence[StoredSlice], count_with_blood: int = 4, count_without: int = 1) -> list[int]:
    """Choose the slices to preview, evenly from those with blood and from those without; the same at every call."""
    with_blood = [index for index, sample in enumerate(held_out) if (sample.mask == 1).any()]
    without = [index for index in range(len(held_out)) if index not in set(with_blood)]
    chosen = [
        indices[int(position)]
        for indices, number in ((with_blood, count_with_blood), (without, count_without))
        for position in np.linspace(0, len(indices) - 1, min(number, len(indices)))
    ]
    return sorted(set(chosen))


def draw_preview(sample: StoredSlice, probability: Floats32, threshold: float) -> Bytes:
    """Draw a slice three times side by side: the CT, with the annotated outline (green), with the predicted one (red).

    Parameters
    ----------
    sample : StoredSlice
        The slice.
    probability : ndarray of float32, shape (rows, columns)
        Probability of blood.
    threshold : float
        Probability from which a pixel is blood.

    Returns
    -------
    ndarray of uint8, shape (rows, 3 x columns, 3)
        RGB.
    """
    grey = np.rint(apply_window(sample.hu) * 255).astype(np.uint8)
    picture = np.repeat(grey[..., None], 3, axis=2)
    panels = [
        picture,
        _draw_outline(picture, sample.mask == 1, TRUTH_COLOR),
        _draw_outline(picture, probability >= threshold, PREDICTION_COLOR),
    ]
    return np.concatenate(panels, axis=1)


def _draw_outline(picture: Bytes, mask: NDArray[np.bool_], color: tuple[int, int, int]) -> Bytes:
    outlined = picture.copy()
    outlined[mask & ~ndimage.binary_erosion(mask, iterations=2)] = color
    return outlined


class ValidationPreviews(Callback):
    """Previews of the chosen slices in TensorBoard at every validation."""

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                for index, probability in pl_module.preview_probabilities.items():
                    sample = pl_module.held_out[index]
                    if probability.shape == sample.mask.shape:
                        preview = draw_preview(sample, probability, pl_module.threshold)
                        name = f"validation/{index} {sample.source}"
                        logger.experiment.add_image(name, preview, trainer.global_step, dataformats="HWC")


class Clock(Callback):
    """The hours of a run over all resumptions, written into split.json with the other facts about the run.

    A checkpoint holds the seconds up to it, so hours lost by a kill are not counted. The name of the class is a key of
    the checkpoints.
    """

    def __init__(self, out: Path, record: dict[str, Any], batch: int) -> None:
        self.out, self.record, self.batch = out, record, batch
        self.seconds_before, self.started = 0.0, time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds_before + time.monotonic() - self.started}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds_before = float(state_dict["seconds"])

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self.started = time.monotonic()
        self._write(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self._write(trainer)

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self._write(trainer, finished=True)

    def _write(self, trainer: lightning.Trainer, finished: bool = False) -> None:
        self.record |= {
            "finished": finished,
            "hours": round(self.state_dict()["seconds"] / 3600, 5),
            "machine": run_folder.describe_machine(),
            "torch": torch.__version__,
            "samples_done": trainer.global_step * self.batch,
        }
        run_folder.write_record(self.out, self.record)


class ProgressBar(TQDMProgressBar):
    """A progress bar with the loss, the Dice of the last validation, and the samples per second."""

    def __init__(self, batch: int) -> None:
        super().__init__(refresh_rate=10)
        self.batch = batch

    def get_metrics(self, trainer: lightning.Trainer, pl_module: Any) -> dict[str, Any]:
        metrics = {key: value for key, value in super().get_metrics(trainer, pl_module).items() if key != "v_num"}
        rate = self.train_progress_bar.format_dict.get("rate")
        return metrics if rate is None else {**metrics, "samples/s": round(rate * self.batch, 1)}
