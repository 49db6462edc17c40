"""The trained module: the network, its moving average, its loss and its learning rates, for Lightning."""

from __future__ import annotations

import copy
import math
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor, nn

from strokeseg.errors import TrainError
from strokeseg.segmentation.preprocess import resize
from strokeseg.training import callbacks, losses, teachers, validation
from strokeseg.training.augmentation import StoredSlice
from strokeseg.training.config import Config
from strokeseg.training.slices import Batch


class SegmentationModule(lightning.LightningModule):
    """The network, its moving average, its loss and its learning rates.

    The moving average is what is validated and exported. The names ``network`` and ``average`` are keys of the
    checkpoints.

    Parameters
    ----------
    config : Config
        The configuration of the run.
    held_out : list of StoredSlice
        Validation slices.
    network : torch.nn.Module
        The network to train.
    teacher : Teacher, optional
        Teachers of a distillation.
    """

    def __init__(
        self, config: Config, held_out: list[StoredSlice], network: nn.Module, teacher: teachers.Teacher | None = None
    ) -> None:
        super().__init__()
        self.config, self.held_out, self.teacher = config, held_out, teacher
        self.network = network.train().to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self.slice_scores: dict[int, validation.SliceScores] = {}
        self.preview_probabilities = dict.fromkeys(callbacks.choose_previews(held_out), np.zeros((1, 1), np.float32))
        self.threshold = 0.5

    def on_fit_start(self) -> None:
        if self.teacher is not None:
            self.teacher.to(self.device)

    def on_train_batch_start(self, *_: Any) -> None:
        # Dropout then depends on the step alone, also in a resumed run.
        torch.manual_seed(self.config.train.seed * 1_000_003 + self.global_step)

    def training_step(self, batch: Batch, _: int) -> Tensor:
        image = batch["image"].to(memory_format=torch.channels_last)
        logits = self.network(image)[:, 0]
        value = losses.total_loss(logits, batch["mask"].long(), batch["boxed"], self.config.loss)
        if self.teacher is not None and (distillation := self.config.distillation) is not None:
            targets = self.teacher(image, distillation.temperature)
            value = value + distillation.weight * losses.distillation_loss(logits, targets, distillation.temperature)
        if not torch.isfinite(value):
            raise TrainError(f"step {self.global_step}: the loss is {value.item()}", "Lower train.rate.")
        self.log("loss", value.detach(), prog_bar=True)
        return value

    def on_train_batch_end(self, *_: Any) -> None:
        # torch.optim.swa_utils.AveragedModel would change results and checkpoints; see docs/dependencies.md.
        decay = min(self.config.train.ema, (1 + self.global_step) / (10 + self.global_step))
        with torch.no_grad():
            states = zip(self.average.state_dict().values(), self.network.state_dict().values(), strict=True)
            for mean, current in states:
                if mean.is_floating_point():
                    mean.lerp_(current, 1 - decay)
                else:
                    mean.copy_(current)
        if self.global_step >= self.trainer.max_steps:
            # Lightning then validates, even if the last step is not a multiple of train.validate_every.
            self.trainer.should_stop = True

    def on_validation_epoch_start(self) -> None:
        self.average.eval()
        self.slice_scores = {}

    def validation_step(self, batch: Batch, _: int) -> None:
        images = batch["image"].to(memory_format=torch.channels_last)
        probabilities = torch.sigmoid(self.average(images).float())[:, 0]
        for index, output, truth in zip(batch["index"].tolist(), probabilities, batch["mask"], strict=True):
            probability = resize(output.cpu().numpy(), tuple(truth.shape))
            self.slice_scores[index] = validation.score_slice(probability, truth.cpu().numpy())
            if index in self.preview_probabilities:
                self.preview_probabilities[index] = probability

    def on_validation_epoch_end(self) -> None:
        scores = validation.score_held_out(self.held_out, self.slice_scores)
        self.threshold = scores["threshold"]
        self.log("dice", scores["dice"], prog_bar=True)
        for name in ("threshold", "recall", "detection_auc", "quiet", *validation.PATIENT_SCORES):
            if scores[name] is not None:
                self.log(name, scores[name])
        for name, value in scores.get("whole", {}).items():
            self.log(f"whole_dice/{name}", value)
        for name, value in scores["sources"].items():
            self.log(f"dice/{name}", value)

    def configure_optimizers(self) -> Any:
        settings = self.config.train
        network: Any = self.network
        encoder = list(network.encoder.parameters())
        encoder_ids = {id(parameter) for parameter in encoder}
        rest = [parameter for parameter in network.parameters() if id(parameter) not in encoder_ids]
        groups = [
            {"params": encoder, "lr": settings.rate * settings.encoder_rate},
            {"params": rest, "lr": settings.rate},
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
        steps = max(1, settings.samples // settings.batch)

        def rate_factor(step: int) -> float:
            done = step / steps
            rise = min(1.0, (done + 1 / steps) / max(settings.warm_up, 1 / steps))
            fall = min(1.0, max(0.0, (1 - done) / (1 - settings.decay_from)))
            return rise * (0.5 - 0.5 * math.cos(math.pi * fall))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
