"""The files of a run's folder, and earlier runs."""

import csv
import json
import platform

import pytest
import torch

from phantoms.training_sets import make_config
from strokeseg.errors import TrainError
from strokeseg.training import (
    run_folder,
)


def earlier_run(folder, **record):
    folder.mkdir()
    (folder / "best.ckpt").write_bytes(b"")
    whole = {"validation_patients": ["a", "b"], "config": make_config().model_dump(mode="json")}
    (folder / "split.json").write_text(json.dumps(whole | record))
    return folder


@pytest.mark.parametrize(
    ("noted", "message"),
    [
        ({"split": {"by": "slice-leaking-patients", "file": None}}, "split by slice-leaking-patients"),
        ({"training_patients": ["b", "c"]}, "trained on b, a validation patient of this run"),
    ],
)
def test_an_earlier_run_is_taken_only_where_it_was_not_trained_on_who_validates(tmp_path, noted, message):
    here = frozenset({"a", "b"})
    run_folder.find_earlier_run(earlier_run(tmp_path / "old"), here, "network.start")
    run_folder.find_earlier_run(
        earlier_run(tmp_path / "good", training_patients=["c"], split={"by": "patient"}), here, "x"
    )
    with pytest.raises(TrainError, match=message):
        run_folder.find_earlier_run(earlier_run(tmp_path / "bad", **noted), here, "network.start")


def read(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_metrics_go_on_where_a_run_was_stopped(tmp_path):
    path = tmp_path / "metrics.csv"
    first = run_folder.MetricsFile(path, 0)
    for step in (1, 3, 5):
        first.log_metrics({"loss": step / 10}, step)
    first.log_metrics({"dice": 0.5}, 5)
    second = run_folder.MetricsFile(path, 4)
    second.log_metrics({"loss": 0.7, "dice": 0.25}, 5)
    assert [(row["step"], row["loss"], row["dice"]) for row in read(path)] == [
        ("1", "0.1", ""),
        ("3", "0.3", ""),
        ("5", "0.7", "0.25"),
    ]
    run_folder.MetricsFile(path, 0)
    assert read(path) == []


def test_the_machine_is_told_without_its_name():
    assert platform.node() not in run_folder.describe_machine() or not platform.node()
    assert "cores" in run_folder.describe_machine() or torch.cuda.is_available()
