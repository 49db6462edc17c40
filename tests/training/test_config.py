"""The configuration: entries, inheritance, paths, and the page that lists them."""

import json
import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from strokeseg.errors import TrainError
from strokeseg.training import (
    config,
    data,
)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("samples = 64", "samples = 0", "train.samples"),
        ("samples = 64", "samples = 7", "train: .*not one step of batch = 8"),
        ("ctich_train = 0.7", "ctich_train = -0.7", "data.sources.ctich_train"),
        ("ctich_train = 0.7", "ctich_train = nan", "data.sources.ctich_train"),
        ("ctich_train = 0.7", "ctich_train = inf", "data.sources.ctich_train"),
        ("batch = 8", "batch = 8\nbalance = { positive = -1, negative = 2 }", "train.balance.positive"),
        ('name = "trial"', 'name = "../trial"', "network.name"),
        ("size = 96", "size = 100", "network.size"),
        ('name = "trial"', 'name = "trial"\nname2 = 1', "network.name2"),
        ("[train]", "[train", "TOML"),
        ('"file:', '"hub:', "network.encoder_weights"),
        ("[train]", '[self_training]\nteacher = "x"\nlow = 0.7\n[train]', "self_training: .*low must be below high"),
    ],
)
def test_a_wrong_entry_is_named(config_file, old, new, named):
    path = config_file()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(TrainError, match=named):
        config.load(path)


def test_a_configuration_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(TrainError, match="no such"):
        config.load(tmp_path / "none.toml")


def test_the_shipped_configuration_is_valid():
    loaded = config.load(Path(__file__).parents[2] / "configs/default.toml")
    assert "ctich_jpg" not in loaded.data.sources
    assert set(loaded.data.sources) <= set(data.SOURCES)


def write_toml(tmp_path, name, text):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_configuration_takes_over_what_it_does_not_say_itself(config_file, tmp_path):
    whole = config.load(config_file())
    path = write_toml(
        tmp_path, "deep/er/x.toml", 'extends = "../../trial.toml"\n[train]\nsamples = 8\n[data.sources]\nmore = 1'
    )
    loaded = config.load(path)
    assert loaded.train == whole.train.model_copy(update={"samples": 8})
    assert loaded.data.sources == {**whole.data.sources, "more": 1}
    assert loaded.network.model_dump() == whole.network.model_dump()
    assert (path.parent / loaded.data.root).resolve() == tmp_path.resolve()


def test_a_path_is_relative_to_the_file_that_states_it(config_file, tmp_path):
    text = re.sub('"file:.*"', '"file:w.pth"', config_file().read_text())
    text = text.replace('root = "."', 'root = "."\nsplit = "s.csv"')
    write_toml(tmp_path, "trial.toml", text)
    loaded = config.load(write_toml(tmp_path, "sub/x.toml", 'extends = "../trial.toml"'))
    assert loaded.network.weights_file.resolve() == (tmp_path / "w.pth").resolve()
    assert loaded.data.split_file.resolve() == (tmp_path / "s.csv").resolve()


def test_a_start_can_be_taken_back(config_file, tmp_path):
    write_toml(
        tmp_path, "trial.toml", config_file().read_text().replace("[network]", '[network]\nstart = "model:default"')
    )
    path = write_toml(tmp_path, "scratch.toml", 'extends = "trial.toml"\n[network]\nstart = "none"')
    assert config.load(path).network.start is None


@pytest.mark.parametrize(
    ("first", "message"), [('"b.toml"', "extends itself"), ('"c.toml"', "no such"), ("1", "extends")]
)
def test_a_circle_or_gap_of_configurations_is_refused(tmp_path, first, message):
    path = write_toml(tmp_path, "a.toml", f"extends = {first}")
    write_toml(tmp_path, "b.toml", 'extends = "a.toml"')
    with pytest.raises(TrainError, match=message):
        config.load(path)


def switches():
    """Every entry of a configuration as a table, out of the models that check it."""
    lines = ["| entry | default | meaning |", "|---|---|---|"]
    tables = {
        name: kind
        for name, field in config.Config.model_fields.items()
        for kind in (field.annotation, *get_args(field.annotation))
        if isinstance(kind, type) and issubclass(kind, BaseModel)
    }
    for table, kind in tables.items():
        for name, field in kind.model_fields.items():
            default = "required" if field.is_required() else f"`{json.dumps(field.default)}`".replace("null", "none")
            lines.append(f"| `{table}.{name}` | {default} | {field.description} |")
    return "\n".join(lines)


def test_the_page_names_every_switch_with_its_default():
    page = (Path(__file__).parents[2] / "docs/networks.md").read_text()
    assert page.split("## All entries")[1].split("\n\n", 2)[2].strip() == switches()
