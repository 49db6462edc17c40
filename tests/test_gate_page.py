"""docs/gate.md: the tools reproduce its table and its pictures."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools import gate_pictures

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/gate.md").read_text()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_table_against_other_readers_is_measured():
    from tools import gate_table  # imports SimpleITK and dicom2nifti

    assert gate_table.make_table() == PAGE.split("<!-- table -->\n")[1].split("\n<!-- end -->")[0]


def test_strokeseg_keeps_the_volume_in_every_row_of_the_table():
    rows = re.findall(r"^\| [^|]+ \| ([+-][\d.]+) %, ([\d.]+) mm \|", PAGE, re.MULTILINE)
    assert len(rows) == 11
    assert all(abs(float(volume)) <= 1.0 and float(apart) <= 0.5 for volume, apart in rows)


def test_the_pictures_are_those_drawn_and_small():
    drawn = gate_pictures.draw_pictures()
    shown = set(re.findall(r"images/gate/([a-z-]+)\.png", PAGE))
    assert shown == set(drawn)
    for name, picture in drawn.items():
        kept = Image.open(ROOT / f"docs/images/gate/{name}.png").convert("RGB")
        assert kept.size == picture.size
        assert np.abs(np.asarray(kept, int) - np.asarray(picture, int)).mean() < 12, name
    assert sum(path.stat().st_size for path in (ROOT / "docs/images/gate").iterdir()) < 1_500_000
