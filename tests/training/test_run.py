import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from strokeseg import segmentation
from strokeseg.errors import DiskFull, TrainError, UsageError
from strokeseg.scan import Scan
from strokeseg.segmentation import models
from strokeseg.segmentation.engines.cpu_features import Hardware
from strokeseg.training import card_text, config, export, loop, networks, validation

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
    loaded_again, data = models.load_weights("trial")
    assert loaded_again == card and len(data) < 60e6
    assert b"DepthToSpace" in data  # its decoder convolves before it enlarges
    assert card.sha256 in (folder / "trial.md").read_text()
    network = networks.load_averaged_network(loaded, out / "best.ckpt")
    image = np.random.default_rng(0).uniform(-1, 1, (1, 1, 96, 96)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(image))[0, 0].numpy()
    assert segmentation.load_engine("trial").logits(image) == pytest.approx(expected, abs=1e-3)
    assert segmentation.predict(
        Scan.from_array(np.zeros((2, 64, 64))), segmentation.load_engine("trial")
    ).probability.shape == (2, 64, 64)


def test_a_run_that_was_stopped_ends_at_the_same_losses(config_file, data_root, tmp_path):
    """Stopped after 8 of 12 steps and taken up again: the last steps' losses are those of a run in one go."""
    loaded = config.load(config_file(samples=96, every=4))
    loop.run(loaded, data_root, tmp_path / "whole", progress=False)
    stopped = tmp_path / "stopped"
    original = loop.SegmentationModule.on_train_batch_end

    def stop(self, *arguments):
        original(self, *arguments)
        if self.global_step == 9:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.SegmentationModule, "on_train_batch_end", stop)
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


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_root):
    """A folder of runs with one in it, `first`, of 16 samples; and a way to write and load configurations."""
    runs = tmp_path_factory.mktemp("runs")

    def settings(more="", **changes):
        values = {"samples": 16, "batch": 4, "every": 2, "seed": 0, "share": 0.25, "head": "", "size": 64}
        values |= {"precision": "32-true"} | changes
        path = runs / "trial.toml"
        path.write_text(SETTINGS.format(**values) + more)
        return config.load(path)

    loop.run(settings(), data_root, runs / "first", progress=False)
    return runs, settings


SETTINGS = """
[data]
root = "."
validation = ["ctich_train", "head_ct_normal"]
validation_share = {share}
sources = {{ ctich_train = 0.7, head_ct_normal = 0.3 }}
[network]
name = "trial"
decoder_channels = [32, 24, 16, 12, 8]
size = {size}
{head}
[train]
samples = {samples}
batch = {batch}
validate_every = {every}
seed = {seed}
workers = 0
precision = "{precision}"
"""


def figures(out):
    with (out / "metrics.csv").open(newline="") as stream:
        return [(int(row["step"]), float(row["dice"])) for row in csv.DictReader(stream) if row.get("dice")]


def best(out):
    """The Dice that the best checkpoint had, by the log."""
    step = torch.load(out / "best.ckpt", weights_only=True)["global_step"]
    return dict(figures(out))[step - 1]


def test_a_run_records_what_it_was(trained):
    out = trained[0] / "first"
    record = json.loads((out / "split.json").read_text())
    network = networks.build(trained[1]().network)
    assert record["parameters"] == sum(p.numel() for p in network.parameters())
    assert record["samples_done"] == 16 and record["torch"] == torch.__version__
    assert record["encoder_weights"] == "random" and 0 < record["hours"] < 0.2 and record["machine"]
    assert [step for step, _ in figures(out)] == [1, 3]
    assert torch.load(out / "last.ckpt", weights_only=True)["global_step"] == 4


def test_every_validation_leaves_pictures_of_the_same_slices(trained):
    """Read with TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(trained[0] / "first/tensorboard"))
    events.Reload()
    tags = events.Tags()["images"]
    assert len(tags) == 5 and "dice" in events.Tags()["scalars"]
    for tag in tags:
        assert [image.step for image in events.Images(tag)] == [2, 4]
        assert {(image.width, image.height) for image in events.Images(tag)} == {(3 * 384, 384)}


def test_a_run_goes_on_from_another(trained, data_root):
    runs, settings = trained
    loaded = settings(head='start = "first"', samples=4)
    loop.run(loaded, data_root, runs / "second", progress=False)
    first = networks.load_averaged_network(loaded, runs / "first/best.ckpt").state_dict()
    second = networks.load_averaged_network(loaded, runs / "second/best.ckpt").state_dict()
    random = networks.build(loaded.network).state_dict()
    kernel = "encoder.model.conv_stem.weight"
    assert (second[kernel] - first[kernel]).norm() < 0.2 * (random[kernel] - first[kernel]).norm()
    assert json.loads((runs / "second/split.json").read_text())["encoder_weights"] == "the run first"


@pytest.mark.parametrize(
    "changes",
    [
        {"head": 'start = "first"'},
        {"more": '[distillation]\nteachers = ["first"]'},
        {"more": '[self_training]\nteacher = "first"'},
    ],
)
def test_an_earlier_run_that_may_know_who_validates_here_is_refused(trained, data_root, changes):
    runs, settings = trained
    with pytest.raises(TrainError, match=r"first may have been trained on .*, a validation patient of this run"):
        loop.run(settings(**changes, seed=5), data_root, runs / "other", progress=False)
    with pytest.raises(TrainError, match=r"holds no best\.ckpt"):
        text = {key: value.replace("first", "never") for key, value in changes.items()}
        loop.run(settings(**text), data_root, runs / "other", progress=False)
    assert not (runs / "other").exists()


def test_a_teacher_is_no_part_of_its_student(trained, data_root):
    runs, settings = trained
    loaded = settings(more='[distillation]\nteachers = ["first", "first"]\ntemperature = 2', samples=8, size=96)
    loop.run(loaded, data_root, runs / "student", progress=False)
    sizes = [
        sum(value.numel() for value in torch.load(runs / name / "last.ckpt", weights_only=True)["state_dict"].values())
        for name in ("first", "student")
    ]
    assert sizes[0] == sizes[1]


def test_a_run_without_progress_ends_early(trained, data_root, monkeypatch):
    runs, settings = trained
    same = {"dice": 0.5, "threshold": 0.5, "sources": {}, "recall": 0.5, "detection_auc": None, "quiet": None}
    same |= dict.fromkeys(validation.PATIENT_SCORES)
    monkeypatch.setattr(validation, "score_held_out", lambda *_: same)
    loop.run(settings(more="patience = 2", samples=80), data_root, runs / "idle", progress=False)
    # The first validation sets the mark, two more do not better it: 3 times 2 steps of 4.
    assert json.loads((runs / "idle/split.json").read_text())["samples_done"] == 24


def copy_unfinished(runs, name, samples):
    """A copy of the first run as if it had been begun with more samples, and stopped."""
    record = json.loads((shutil.copytree(runs / "first", runs / name) / "split.json").read_text())
    record["config"]["train"]["samples"] = samples
    (runs / name / "split.json").write_text(json.dumps(record))
    return runs / name


def test_what_comes_after_the_last_multiple_is_validated_too(trained, data_root):
    """5 steps, validated every 2; and a run shorter than that."""
    runs, settings = trained
    loop.run(settings(samples=20), data_root, runs / "odd", progress=False)
    assert [step for step, _ in figures(runs / "odd")] == [1, 3, 4]
    assert figures(runs / "odd")[0] == figures(loop.run(settings(), data_root, runs / "even", progress=False).parent)[0]
    assert torch.load(runs / "odd/last.ckpt", weights_only=True)["global_step"] == 5


def test_a_best_checkpoint_is_not_deleted_by_going_on(trained, data_root):
    runs, settings = trained
    out = shutil.copytree(runs / "first", runs / "lastless")
    (out / "last.ckpt").unlink()
    with pytest.raises(TrainError, match=r"a best\.ckpt, but no last\.ckpt"):
        loop.run(settings(), data_root, out, resume=True, progress=False)
    assert (out / "best.ckpt").read_bytes() == (runs / "first/best.ckpt").read_bytes()


def test_ctrl_c_ends_as_ctrl_c(trained, data_root, monkeypatch):
    """Lightning makes an exit with 1 of it."""

    def pressed(*_):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

    monkeypatch.setattr(loop.SegmentationModule, "training_step", pressed)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        loop.run(trained[1](), data_root, trained[0] / "pressed", progress=False)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 2}, r"train\.batch = 4, not 2"),
        ({"samples": 24}, r"train\.samples = 16, not 24"),
        ({"more": "stream = 3"}, r"train\.stream = 0, not 3"),
        ({"more": "[synthesis]\npaste = 0.5"}, r"synthesis\.paste = 0\.2, not 0\.5"),
        ({"more": '[distillation]\nteachers = ["first"]'}, r"distillation\.teachers = None, not \['first'\]"),
        ({"more": "[data.own.x]\nkind = 'bhsd'\nfolder = 'x'"}, r"data\.own = {}, not"),
    ],
)
def test_a_run_is_not_gone_on_with_in_another_way(trained, data_root, tmp_path, changes, message):
    runs, settings = trained
    out = shutil.copytree(runs / "first", tmp_path / "copy")
    with pytest.raises(TrainError, match=message):
        loop.run(settings(**changes), data_root, out, resume=True, progress=False)
    loop.run(settings(every=1, more="patience = 9"), data_root, out, resume=True, progress=False)


def test_a_run_is_not_gone_on_with_as_another(trained, data_root):
    runs, settings = trained
    shutil.copytree(runs / "first", runs / "copy")
    with pytest.raises(TrainError, match=r"network\.size = 64, not 96"):
        loop.run(settings(size=96), data_root, runs / "copy", resume=True, progress=False)
    with pytest.raises(TrainError, match="other validation patients"):
        loop.run(settings(share=0.5), data_root, runs / "copy", resume=True, progress=False)


def test_hours_and_metrics_go_on_with_the_run(trained, data_root):
    runs, settings = trained
    out = copy_unfinished(runs, "longer", 24)
    state = torch.load(out / "last.ckpt", weights_only=True)
    state["callbacks"]["Clock"]["seconds"] = 7200.0
    torch.save(state, out / "last.ckpt")
    loop.run(settings(samples=24), data_root, out, resume=True, progress=False)
    record = json.loads((out / "split.json").read_text())
    assert 2 < record["hours"] < 2.2 and record["samples_done"] == 24
    assert best(out) >= best(runs / "first") == max(dice for _, dice in figures(runs / "first"))
    assert figures(out)[:2] == figures(runs / "first") and [step for step, _ in figures(out)] == [1, 3, 5]


def test_an_export_states_the_run_and_is_refused_for_another(trained, data_root, tmp_path):
    runs, settings = trained
    out = shutil.copytree(runs / "first", tmp_path / "run")
    with pytest.raises(TrainError, match=r"trained with data\.sources = .*0\.3.*, not .*0\.4"):
        loaded = settings()
        other = loaded.data.model_copy(update={"sources": {"ctich_train": 0.7, "head_ct_normal": 0.4}})
        export.build_model(loaded.model_copy(update={"data": other}), out, data_root)
    with pytest.raises(TrainError, match=r"trained with network\.size = 64, not 96"):
        export.build_model(settings(size=96), out, data_root)
    record = json.loads((out / "split.json").read_text())
    record["config"]["data"]["root"] = "/srv/somebody/sets"
    (out / "split.json").write_text(json.dumps(record))
    card, _ = export.build_model(settings(samples=40), out, data_root)
    ran = card.training["config"]
    assert ran["train"]["samples"] == 16 and ran["data"]["root"] == "sets"
    assert "split is by patient" in card_text.render_card(card) and card.licence == export.LICENCE
    leaking = card.model_copy(update={"training": card.training | {"split": {"by": "slice-leaking-patients"}}})
    assert "too good" in card_text.render_card(leaking) and "split is by patient" not in card_text.render_card(leaking)


def test_a_test_set_that_was_trained_on_is_left_out_of_the_card(trained, data_root, tmp_path, caplog):
    """The same pictures under other names, brighter by a little."""
    runs, settings = trained
    root = shutil.copytree(data_root, tmp_path / "data")
    shutil.copytree(root / "ctich_train", root / "ctich_jpg", ignore=shutil.ignore_patterns("index.csv"))
    card, _ = export.build_model(settings(), runs / "first", root)
    assert "test" not in card.metrics and "images are also training images" in caplog.text


def test_a_network_of_own_sets_has_their_licences(trained):
    own = {"mine": {"kind": "bhsd", "folder": "x", "licence": "CC0"}, "further": {"kind": "pairs", "folder": "y"}}
    table = {"root": ".", "validation": ["mine"], "own": own}
    for sources, message in [
        ({"mine": 1, "further": 1, "cpaisd": 0}, "mine: CC0; further: not stated."),
        ({"mine": 1, "cpaisd": 1}, export.LICENCE),
    ]:
        loaded = trained[1]()
        changed = config.DataConfig.model_validate({**table, "sources": sources})
        assert message in export._combined_licence(loaded.model_copy(update={"data": changed}))


@pytest.mark.parametrize("name", ["../up", "", "a" * 65, "taken"])
def test_a_quantised_network_takes_no_other_ones_name(config_file, tmp_path, name):
    (tmp_path / "taken.json").write_text('{"precision": "fp32"}')
    (tmp_path / "small.json").write_text('{"precision": "int8"}')
    loaded = config.load(config_file())
    with pytest.raises(UsageError, match="--int8"):
        export.export(loaded, tmp_path / "none", tmp_path, tmp_path, int8=name)
    with pytest.raises(TrainError, match=r"best\.ckpt"):  # the name is no fault
        export.export(loaded, tmp_path / "none", tmp_path, tmp_path, int8="small")


def test_16_bit_floats_train_as_32_do(trained, data_root):
    """The default of a run; the others here take 32 bits, which every processor computes quickly."""
    runs, settings = trained
    loop.run(settings(precision="bf16-mixed"), data_root, runs / "short", progress=False)
    losses = []
    for name in ("first", "short"):
        with (runs / name / "metrics.csv").open(newline="") as stream:
            losses.append([float(row["loss"]) for row in csv.DictReader(stream) if row.get("loss")])
    assert losses[0] and losses[1] == pytest.approx(losses[0], rel=0.05) and losses[1] != losses[0]


def test_a_processor_without_16_bit_floats_is_told_what_is_quicker(trained, monkeypatch):
    """Told by the flags of two processors: AMD's Zen 3 has none, Zen 4 has avx512_bf16."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    for flags, supported in ((("avx2",), True), (("avx2", "avx512f", "avx512_bf16"), False)):
        monkeypatch.setattr(loop, "detect_hardware", lambda flags=flags: Hardware("a processor", 2, flags))
        assert bool(loop.suggest_precision(trained[1](precision="bf16-mixed").train)) is supported
        assert loop.suggest_precision(trained[1](precision="32-true").train) is None


def test_half_precision_without_a_gpu_is_refused(trained, data_root):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(TrainError, match=r"train\.precision"):
        loop.run(trained[1](precision="16-mixed"), data_root, trained[0] / "half", progress=False)


@pytest.mark.parametrize(("batch", "remedy"), [(4, "Try train.batch = 2."), (1, "Try a smaller network.size.")])
def test_a_batch_beyond_the_memory_is_refused_with_one_to_try(trained, data_root, monkeypatch, batch, remedy):
    """The allocator's own refusal, of a petabyte."""
    monkeypatch.setattr(loop.SegmentationModule, "training_step", lambda *_: torch.empty(10**15, dtype=torch.uint8))
    with pytest.raises(TrainError, match=f"a batch of {batch} does not fit") as caught:
        loop.run(trained[1](batch=batch, samples=4), data_root, trained[0] / "large", progress=False)
    assert caught.value.remedy == remedy


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_leaves_the_best_checkpoint_whole(trained, data_root):
    """The kernel's own refusal: the next checkpoint is written to a device that is always full."""
    runs, settings = trained
    out = copy_unfinished(runs, "full", 24)
    before = (out / "best.ckpt").read_bytes()
    (out / ".best.ckpt.partial").symlink_to("/dev/full")
    (out / ".last.ckpt.partial").symlink_to("/dev/full")
    with pytest.raises(DiskFull, match="no space left") as caught:
        loop.run(settings(samples=24), data_root, out, resume=True, progress=False)
    assert "--resume" in caught.value.remedy
    assert (out / "best.ckpt").read_bytes() == before
    loop.run(settings(samples=24), data_root, out, resume=True, progress=False)


KILLED = """
import os, sys, time
from pathlib import Path
from strokeseg.training import config, loop
sync = os.fsync
def slow(number):  # leaves time to be killed in the midst of a checkpoint
    sync(number)
    time.sleep(0.3)
os.fsync = slow
folder, root, out = map(Path, sys.argv[1:])
loop.run(config.load(folder), root, out, resume=True, progress=False)
"""


def test_a_kill_while_checkpoints_are_written_loses_none(trained, data_root):
    runs, settings = trained
    out = runs / "killed"
    settings(samples=400)
    for round_ in range(2):
        with subprocess.Popen([sys.executable, "-c", KILLED, runs / "trial.toml", data_root, out]) as process:
            deadline = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < deadline:
                if (out / "last.ckpt").exists() and any(out.glob("*.ckpt.partial")):
                    break
                time.sleep(0.01)
            time.sleep(0.15 + 0.4 * round_)  # in the midst of one file, or of the next
            os.kill(process.pid, signal.SIGKILL)
        steps = [torch.load(out / name, weights_only=True)["global_step"] for name in ("best.ckpt", "last.ckpt")]
        assert steps[0] <= steps[1] + 2 and steps[1] >= 2
    rows = [step for step, _ in figures(out)]
    assert rows == list(range(1, rows[-1] + 1, 2))
    record = json.loads((out / "split.json").read_text())
    record["config"]["train"]["samples"] = 4 * (steps[1] + 2)  # spares the test the rest of 100 steps
    (out / "split.json").write_text(json.dumps(record))
    loop.run(settings(samples=4 * (steps[1] + 2)), data_root, out, resume=True, progress=False)
    assert torch.load(out / "last.ckpt", weights_only=True)["global_step"] == steps[1] + 2
