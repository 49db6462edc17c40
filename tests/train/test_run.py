import json

import numpy as np
import pytest
import torch

from strokeseg import infer
from strokeseg.errors import TrainError
from strokeseg.infer import models
from strokeseg.scan import Scan
from strokeseg.train import config, export, loop

pytestmark = pytest.mark.slow


def test_a_run_learns_and_its_export_answers_like_the_checkpoint(config_file, data_root, tmp_path, monkeypatch):
    """Bright discs in a phantom: after 60 steps patients who were held out are answered well."""
    loaded = config.load(config_file(samples=480, every=30))
    out, folder = tmp_path / "run", tmp_path / "models"
    assert loop.run(loaded, data_root, out, progress=False) == out / "best.ckpt"
    record = json.loads((out / "split.json").read_text())
    assert len(record["validation_patients"]) == 4
    card = export.export(loaded, out, data_root, folder)
    assert card.metrics["validation"]["sources"]["ctich_train"]["dice"] > 0.6
    assert card.metrics["validation"]["sources"]["ctich_train"]["patients"] == 2
    assert "test" not in card.metrics
    monkeypatch.setenv(models.FOLDER_VARIABLE, str(folder))
    loaded_again, data = models.weights("trial")
    assert loaded_again == card and len(data) < 60e6
    assert card.sha256 in (folder / "trial.md").read_text()
    network = loop.load_average(loaded, out / "best.ckpt")
    image = np.random.default_rng(0).uniform(-1, 1, (1, 1, 96, 96)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(image))[0, 0].numpy()
    assert infer.load("trial").logits(image) == pytest.approx(expected, abs=1e-3)
    assert infer.answer(Scan.from_array(np.zeros((2, 64, 64))), infer.load("trial")).probability.shape == (2, 64, 64)


def test_a_run_that_was_stopped_ends_at_the_same_losses(config_file, data_root, tmp_path):
    """Stopped after 8 of 12 steps and taken up again: the last steps' losses are those of a run in one go."""
    loaded = config.load(config_file(samples=96, every=4))
    loop.run(loaded, data_root, tmp_path / "whole", progress=False)
    stopped = tmp_path / "stopped"
    monkey = loop.Module.on_train_batch_end

    def stop(self, *arguments):
        monkey(self, *arguments)
        if self.global_step == 9:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Module, "on_train_batch_end", stop)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            loop.run(loaded, data_root, stopped, progress=False)
    loop.run(loaded, data_root, stopped, resume=True, progress=False)
    weights = [
        torch.load(folder / "last.ckpt", map_location="cpu", weights_only=True)
        for folder in (tmp_path / "whole", stopped)
    ]
    assert weights[0]["global_step"] == weights[1]["global_step"] == 12
    assert torch.equal(*(torch.tensor(state["lr_schedulers"][0]["_last_lr"]) for state in weights))
    first, second = (state["state_dict"] for state in weights)
    kernels = [name for name, value in first.items() if value.ndim == 4]
    apart = sum(float((first[name] - second[name]).norm()) ** 2 for name in kernels)
    moved = sum(float((first[name] - first[name.replace("network.", "average.")]).norm()) ** 2 for name in kernels)
    # Rounding differs after a reload; other samples would move the weights as far as a step does.
    assert apart < 1e-3 * moved


def test_a_loss_that_is_not_finite_stops_with_a_sentence(config_file, data_root, tmp_path):
    path = config_file()
    path.write_text(path.read_text().replace("batch = 8", "batch = 8\nrate = 1e30"))
    with pytest.raises(TrainError, match="loss"):
        loop.run(config.load(path), data_root, tmp_path / "run", progress=False)


def test_an_export_without_a_run_is_refused(config_file, data_root, tmp_path):
    with pytest.raises(TrainError, match=r"best\.ckpt"):
        export.export(config.load(config_file()), tmp_path, data_root, tmp_path / "models")
