"""docs/gate.md: its table is what the script measures, and its pictures are what the script draws."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/gate.md").read_text()


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / f"scripts/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_table_against_other_readers_is_measured():
    assert script("gate_table").table() == PAGE.split("<!-- table -->\n")[1].split("\n<!-- end -->")[0]


def test_strokeseg_keeps_the_volume_in_every_row_of_the_table():
    rows = re.findall(r"^\| [^|]+ \| ([+-][\d.]+) %, ([\d.]+) mm \|", PAGE, re.MULTILINE)
    assert len(rows) == 11
    assert all(abs(float(volume)) <= 1.0 and float(apart) <= 0.5 for volume, apart in rows)


def test_the_pictures_are_those_drawn_and_small():
    drawn = script("gate_pictures").pictures()
    shown = set(re.findall(r"images/gate/([a-z-]+)\.png", PAGE))
    assert shown == set(drawn)
    for name, picture in drawn.items():
        kept = Image.open(ROOT / f"docs/images/gate/{name}.png").convert("RGB")
        assert kept.size == picture.size
        assert np.abs(np.asarray(kept, int) - np.asarray(picture, int)).mean() < 12, name
    assert sum(path.stat().st_size for path in (ROOT / "docs/images/gate").iterdir()) < 1_500_000
