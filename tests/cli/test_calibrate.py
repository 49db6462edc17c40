"""The command's side of the calibration; the calibration itself has its own tests."""

import json

import pytest

import strokeseg.training.calibration as calibration


@pytest.fixture
def calls(monkeypatch):
    """Replace the calibration, which needs data sets, by a stand-in that records its arguments."""
    calls = []

    def calibrate_network(name, data_root, *, unseen=(), folds=(), log=print):
        from strokeseg.segmentation import models

        log(f"{name}: a line on the progress")
        calls.append((name, data_root, (*unseen, *folds)))
        return models.load_card(name)

    monkeypatch.setattr(calibration, "calibrate_network", calibrate_network)
    return calls


def test_a_network_is_calibrated_on_the_data_sets_of_the_folder(run, calls, tmp_path):
    code, stdout, stderr = run("calibrate", "default", "--data", tmp_path)
    assert (code, stdout) == (0, "default: calibrated\n")
    assert stderr == "default: a line on the progress\n"
    assert calls == [("default", tmp_path, ())]


def test_an_unknown_network_is_refused(run, tmp_path):
    code, stdout, stderr = run("calibrate", "abacus", "--data", tmp_path)
    assert (code, stdout) == (3, "") and stderr.startswith("error[unknown-model]: ")


def test_a_card_without_validation_patients_is_refused(run, models, tmp_path):
    assert json.loads((models / "default.json").read_text())["training"] == {}
    code, stdout, stderr = run("calibrate", "default", "--data", tmp_path)
    assert (code, stdout) == (3, "") and stderr.splitlines()[-2].startswith("error[train]: ")


@pytest.mark.parametrize("arguments", [(), ("default",)])
def test_the_network_and_the_data_sets_must_be_named(run, calls, arguments):
    assert run("calibrate", *arguments)[0] == 2 and calls == []
