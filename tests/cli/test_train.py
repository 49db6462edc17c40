"""The command's side of training; the training itself has its own tests."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

CONFIG = """
[data]
root = "sets"
validation = ["a"]
[data.sources]
a = 1.0
[network]
name = "tiny"
[train]
samples = 16
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "sets").mkdir()
    path = tmp_path / "tiny.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def calls(monkeypatch):
    """Stand-ins for the two functions that need torch: they keep what they were called with."""
    calls = []
    loop, export = ModuleType("strokeseg.training.loop"), ModuleType("strokeseg.training.export")

    def run(config, root, out, *, resume, progress):
        calls.append(("run", config.network.name, root, out, resume, progress))
        print("a bar")
        return out / "best.ckpt"

    def write(config, out, root, models, *, int8):
        calls.append(("export", config.network.name, root, out, models, int8))
        return SimpleNamespace(name="tiny", version="1", sha256="00", threshold=0.4)

    loop.run, loop.suggest_precision, export.export = run, lambda table: None, write
    import strokeseg.training as package

    for name, module in (("loop", loop), ("export", export)):
        monkeypatch.setitem(sys.modules, f"strokeseg.training.{name}", module)
        monkeypatch.setattr(package, name, module, raising=False)
    return calls


def test_it_trains_into_a_folder_named_after_the_network(run, config, tmp_path, calls):
    code, stdout, stderr = run("train", config)
    assert code == 0 and stdout.endswith("best.ckpt\n") and "a bar" in stderr
    (call,) = calls
    assert call[1] == "tiny" and call[2] == tmp_path / "sets" and str(call[3]) == "runs/tiny"
    assert call[4:] == (False, False)


def test_a_run_that_is_there_is_not_replaced_by_accident(run, config, tmp_path, calls):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.ckpt").touch()
    code, _, stderr = run("train", config, "-o", tmp_path / "run")
    assert code == 2 and "--resume" in stderr and "--fresh" in stderr and calls == []
    assert run("train", config, "-o", tmp_path / "run", "--resume")[0] == 0
    assert run("train", config, "-o", tmp_path / "run", "--fresh")[0] == 0
    assert [call[4] for call in calls] == [True, False]


def test_resume_of_nothing_begins_and_says_so(run, config, calls):
    code, _, stderr = run("train", config, "--resume")
    assert code == 0 and "a new run begins" in stderr and len(calls) == 1


def test_export_without_a_folder_goes_to_the_users_own(run, config, tmp_path, calls, monkeypatch):
    monkeypatch.delenv("STROKESEG_MODELS")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert run("train", config, "--export")[0] == 0
    assert calls[0][4] == tmp_path / "home/.strokeseg/models"
    code, _, stderr = run("train", config, "--export", "--int8", "fast")
    assert code == 2 and "a shipped network has the name 'fast'" in stderr and len(calls) == 1


def test_export_trains_nothing(run, config, tmp_path, calls):
    code, stdout, _ = run("train", config, "--export", "--models", tmp_path / "m", "--data", tmp_path)
    assert code == 0 and stdout.startswith("tiny 1, sha256 00")
    (call,) = calls
    assert call[0] == "export" and call[2] == tmp_path and call[4] == tmp_path / "m"


@pytest.mark.parametrize("more", [("--export", "--resume"), ("--export", "--fresh"), ("--models", "m")])
def test_options_that_contradict(run, config, calls, more):
    code, _, stderr = run("train", config, *more)
    assert code == 2 and "error[usage]" in stderr and calls == []


def test_bad_configurations(run, config, tmp_path, calls):
    for arguments, expected in (
        ((tmp_path / "none.toml",), "no such configuration"),
        ((), "configs/default.toml"),
        ((config, "--data", tmp_path / "none"), "no such folder of data sets"),
    ):
        code, _, stderr = run("train", *arguments)
        assert code == 3 and stderr.startswith("error[train]: ") and expected in stderr
    config.write_text(CONFIG + "sampels = 3\n")
    code, _, stderr = run("train", config)
    assert code == 3 and "train.sampels" in stderr and calls == []


@pytest.mark.parametrize("more", [(), ("--export",)])
def test_without_torch_it_says_what_to_install(run, config, monkeypatch, more):
    import strokeseg.training as package

    for name in ("loop", "export"):
        monkeypatch.delitem(sys.modules, f"strokeseg.training.{name}", raising=False)
        monkeypatch.delattr(package, name, raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] in ("torch", "lightning")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "lightning", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    code, _, stderr = run("train", config, *more)
    assert code == 3 and stderr.startswith("error[train]: the package ")
    assert 'remedy: pip install "strokeseg[train]"' in stderr


def test_what_a_run_warns_of_is_said(run, config, calls, monkeypatch):
    import logging

    from strokeseg.training import loop

    def warn(*_, **__):
        logging.getLogger("strokeseg.training.split").warning("every figure of this run is too good")
        return "best.ckpt"

    monkeypatch.setattr(loop, "run", warn)
    assert "warning: every figure of this run is too good\n" in run("train", config)[2]


def test_what_would_be_quicker_here_is_said_before_a_run(run, config, calls, monkeypatch):
    from strokeseg.training import loop

    monkeypatch.setattr(loop, "suggest_precision", lambda table: f"{table.precision} is slow here")
    code, _, stderr = run("train", config)
    assert code == 0 and "note: bf16-mixed is slow here\n" in stderr
    monkeypatch.setattr(loop, "suggest_precision", lambda table: None)
    assert "note:" not in run("train", config, "--fresh")[2]
