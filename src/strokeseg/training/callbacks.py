"""What a person sees of a run: the bar, pictures of the same slices at every validation, and the clock."""

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

TRUTH, ANSWER = (0, 200, 0), (230, 40, 40)


def choose_previews(held_out: Sequence[StoredSlice], bleeding: int = 4, quiet: int = 1) -> list[int]:
    """Choose the slices to be drawn, evenly from those with blood and from those without; the same at every call."""
    with_blood = [index for index, sample in enumerate(held_out) if (sample.mask == 1).any()]
    without = [index for index in range(len(held_out)) if index not in set(with_blood)]
    picks = [
        pool[int(place)]
        for pool, number in ((with_blood, bleeding), (without, quiet))
        for place in np.linspace(0, len(pool) - 1, min(number, len(pool)))
    ]
    return sorted(set(picks))


def draw_preview(sample: StoredSlice, probability: Floats32, threshold: float) -> Bytes:
    """Draw a slice three times side by side: the CT, the truth's outline on it (green), the answer's (red).

    Parameters
    ----------
    probability : ndarray of float32, shape (rows, columns)
        As the slice.
    threshold : float
        From which a pixel is answered as blood.

    Returns
    -------
    Bytes
        Uint8, (rows, 3 x columns, 3).
    """
    grey = np.rint(apply_window(sample.hu) * 255).astype(np.uint8)
    plain = np.repeat(grey[..., None], 3, axis=2)
    panels = [
        plain,
        _draw_outline(plain, sample.mask == 1, TRUTH),
        _draw_outline(plain, probability >= threshold, ANSWER),
    ]
    return np.concatenate(panels, axis=1)


def _draw_outline(plain: Bytes, mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> Bytes:
    drawn = plain.copy()
    drawn[mask & ~ndimage.binary_erosion(mask, iterations=2)] = colour
    return drawn


class ValidationPreviews(Callback):
    """At every validation the chosen slices go to TensorBoard."""

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                for index, probability in pl_module.shown.items():
                    sample = pl_module.held_out[index]
                    if probability.shape == sample.mask.shape:
                        drawn = draw_preview(sample, probability, pl_module.threshold)
                        name = f"validation/{index} {sample.source}"
                        logger.experiment.add_image(name, drawn, trainer.global_step, dataformats="HWC")


class Clock(Callback):
    """Counts the hours over every resumption, and writes them with the run's other facts into split.json.

    A checkpoint holds the seconds up to it: hours that a kill made worthless are not counted.
    """

    def __init__(self, out: Path, notes: dict[str, Any], batch: int) -> None:
        self.out, self.notes, self.batch = out, notes, batch
        self.before, self.begun = 0.0, time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.before + time.monotonic() - self.begun}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.before = float(state_dict["seconds"])

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self.begun = time.monotonic()
        self._write(trainer)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self._write(trainer)

    def on_fit_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self._write(trainer, finished=True)

    def _write(self, trainer: lightning.Trainer, finished: bool = False) -> None:
        self.notes |= {
            "finished": finished,
            "hours": round(self.state_dict()["seconds"] / 3600, 5),
            "machine": run_folder.describe_machine(),
            "torch": torch.__version__,
            "samples_done": trainer.global_step * self.batch,
        }
        run_folder.write_record(self.out, self.notes)


class ProgressBar(TQDMProgressBar):
    """Loss, Dice of the last validation, and samples a second."""

    def __init__(self, batch: int) -> None:
        super().__init__(refresh_rate=10)
        self.batch = batch

    def get_metrics(self, trainer: lightning.Trainer, pl_module: Any) -> dict[str, Any]:
        metrics = {key: value for key, value in super().get_metrics(trainer, pl_module).items() if key != "v_num"}
        rate = self.train_progress_bar.format_dict.get("rate")
        return metrics if rate is None else {**metrics, "samples/s": round(rate * self.batch, 1)}
