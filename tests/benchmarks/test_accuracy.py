import json
from pathlib import Path

import pytest

from benchmarks import accuracy, accuracy_page
from benchmarks.__main__ import main
from phantoms import training_sets
from strokeseg.errors import TrainError, UsageError

ROOT = Path(__file__).parents[2]
STORED = ROOT / "benchmarks/accuracy.json"
PAGE = ROOT / "docs/results.md"


def test_the_page_shows_the_stored_results():
    """`python -m benchmarks accuracy --page-only` writes it again."""
    assert PAGE.read_text() == accuracy_page.render_page(
        accuracy.read_results(STORED), accuracy_page.read_shipped_cards()
    )


def test_every_stored_row_was_trained_as_its_configuration_says():
    """Entries that were added since are at their defaults; the folder of the data sets may be another."""
    from strokeseg.training import config, run_folder

    for row in accuracy.read_results(STORED).rows:
        if row.group in ("zoo", "ablation"):
            loaded = config.load(ROOT / "configs" / row.group / f"{row.name}.toml")
            values = loaded.model_dump(mode="json")
            assert run_folder.describe_difference(row.card.training["config"], values, ("data.root",)) is None, row.name


def test_no_two_rows_of_the_zoo_had_another_budget_or_another_split():
    rows = accuracy.read_results(STORED).select_group("zoo")
    trainings = [row.card.training for row in rows]
    for key in ("validation_patients", "split"):
        assert all(training[key] == trainings[0][key] for training in trainings)
    for training in trainings:
        done = training["run"]["samples_done"]
        assert done == training["config"]["train"]["samples"] == trainings[0]["config"]["train"]["samples"]


def test_the_zoo_has_every_row_of_the_predecessors_table():
    names = {path.stem for path in accuracy.find_configurations([ROOT / "configs/zoo"])}
    assert names >= set(accuracy_page.PREDECESSOR_FIGURES) | {"unetplusplus-resnet50-scse"}


def test_a_name_that_no_configuration_has(tmp_path):
    with pytest.raises(TrainError, match="no configuration named abacus; there are"):
        accuracy.find_configurations([ROOT / "configs/zoo"], ["abacus"])
    with pytest.raises(TrainError, match="no such folder"):
        accuracy.find_configurations([tmp_path / "nowhere"])


def test_results_that_cannot_be_read(tmp_path):
    (tmp_path / "r.json").write_text("{")
    with pytest.raises(TrainError, match="no results"):
        accuracy.read_results(tmp_path / "r.json")
    assert accuracy.read_results(tmp_path / "none.json").rows == []


TINY = """{sets}
[network]
name = "{name}"
decoder_channels = [8, 8, 8, 8, 8]
size = 32

[train]
samples = 8
batch = 4
rate = {rate}
ema = 0.5
workers = 0
"""


@pytest.mark.slow
def test_rows_are_trained_once_and_survive_a_stop(tmp_path, data_root):
    zoo = tmp_path / "configs/zoo"
    zoo.mkdir(parents=True)
    (zoo / "common.toml").write_text("[train]\nsamples = 8\n")
    for name in ("one", "two"):
        (zoo / f"{name}.toml").write_text(TINY.format(sets=training_sets.DATA_CONFIG, name=name, rate=1e-3))
    configs, results = accuracy.find_configurations([zoo]), tmp_path / "accuracy.json"
    assert [path.stem for path in configs] == ["one", "two"]
    messages: list[str] = []

    def bench(paths, **more):
        messages.clear()
        return accuracy.run(paths, tmp_path / "runs", results, data=data_root, log=messages.append, **more)

    bench(configs[:1])
    assert messages[0] == "zoo/one: training"
    found = bench(configs, seeds=2)
    assert messages[:2] == ["zoo/one: stored", "zoo/two: training"]
    assert {(row.group, row.name) for row in found.rows} >= {("zoo", "one"), ("zoo", "two")}
    assert len(found.select_group("seeds")) == 1 and found == accuracy.read_results(results)
    page = accuracy_page.render_page(found, [])
    assert "## Several seeds" in page and "| one |" in page and "| two |" in page
    (zoo / "one.toml").write_text(TINY.format(sets=training_sets.DATA_CONFIG, name="one", rate=2e-3))
    bench(configs[:1], train=False)
    assert messages == ["zoo/one: not trained"]
    with pytest.raises(TrainError, match="holds a run of another configuration"):
        bench(configs[:1])
    bench(configs[:1], fresh=True)
    assert messages[0] == "zoo/one: training"
    bench(configs[:1], train=False)
    assert messages == ["zoo/one: stored"]


@pytest.mark.parametrize(("only", "told"), [("unet-resnet34", "unet-efficientnet-lite0"), ("base", "none of the zoo")])
def test_seeds_of_a_network_that_is_left_out_are_refused(only, told, tmp_path):
    """Of the stored rows the best is the EfficientNet-lite0's; in an empty file there is none."""
    configs = accuracy.find_configurations([ROOT / "configs/zoo", ROOT / "configs/ablation"], [only])
    results = STORED if only == "unet-resnet34" else tmp_path / "none.json"
    with pytest.raises(UsageError, match=told):
        accuracy.run(configs, tmp_path / "runs", results, seeds=2, train=False)


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "zoo/tiny.toml"
    path.parent.mkdir()
    path.write_text(TINY.format(sets=training_sets.DATA_CONFIG, name="tiny", rate=1e-3))
    (tmp_path / "runs/tiny").mkdir(parents=True)
    return path


def recorded(tmp_path, config, **more):
    (tmp_path / "runs/tiny/split.json").write_text(json.dumps({"config": config, "finished": True, **more}))


def test_a_run_of_another_configuration_is_not_deleted(tmp_path, tiny):
    from strokeseg.training import config

    stored = config.load(tiny).model_dump(mode="json")
    stored["train"]["rate"] = 5e-3
    recorded(tmp_path, stored)
    kept = tmp_path / "runs/tiny/best.ckpt"
    kept.touch()
    with pytest.raises(TrainError, match="another configuration") as caught:
        accuracy.run([tiny], tmp_path / "runs", tmp_path / "r.json", log=lambda _: None)
    assert "--fresh" in caught.value.remedy and kept.exists()


def test_a_switch_that_came_later_makes_no_other_configuration(tmp_path, tiny):
    from strokeseg.training import config, run_folder

    loaded = config.load(tiny)
    stored = loaded.model_dump(mode="json")
    del stored["train"]["stream"]
    recorded(tmp_path, stored)
    assert run_folder.read_state(tmp_path / "runs/tiny", loaded) == "finished"


def a_row(group, name, sources):
    metrics = {"validation": {"dice": 0.5, "sources": {each: {"dice": 0.4} for each in sources}}}
    card = accuracy_page.read_shipped_cards()[0].model_copy(update={"training": A_TRAINING, "metrics": metrics})
    return accuracy.TrainedNetwork(group=group, name=name, date="2026-01-01", card=card)


A_TRAINING = {
    "config": {"train": {"samples": 8, "batch": 4, "seed": 0}, "network": {"size": 32}},
    "run": {"encoder_weights": "none", "parameters": 1, "samples_done": 8, "hours": 0.1, "machine": "m"},
}


def test_the_page_needs_neither_a_test_set_nor_every_source_nor_a_zoo():
    best = "unet-resnet50-batch-8"
    rows = [a_row("zoo", "other", ["a"]), a_row("zoo", best, ["a", "b"]), a_row("ablation", "base", ["a"])]
    page = accuracy_page.render_page(accuracy.Results(rows=rows), [])
    assert "| other | none | 0.500 | 0.400 | – |" in page and "36 slices" not in page
    page = accuracy_page.render_page(accuracy.Results(rows=[a_row("seeds", f"{best}-seed-1", ["a"])]), [])
    assert f"{best}, trained 1 times" in page


@pytest.mark.parametrize("place", [".", "file/page.md"])
def test_a_page_that_cannot_be_written_is_refused_first(tmp_path, capfd, place):
    (tmp_path / "file").touch()
    call = ["accuracy", "--configs", str(tmp_path / "none"), "--page", str(tmp_path / place)]
    assert main(call) == 3 and "error[not-writable]" in capfd.readouterr().err
