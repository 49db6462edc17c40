"""docs/measures.md shows a small picture of each measure, and explains every measure."""

import re
from pathlib import Path

from PIL import Image

from strokeseg.result import Findings, Lesion

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/measures.md").read_text()
SHOWN = re.findall(r"!\[([^\]]+)\]\((images/measure-[a-z0-9]+\.webp)\)", PAGE)


def test_every_picture_is_there_described_and_small():
    paths = [ROOT / "docs" / target for _, target in SHOWN]
    assert sorted(paths) == sorted((ROOT / "docs/images").glob("measure-*"))
    names = re.findall(r'^    "([a-z0-9]+)": ', (ROOT / "tools/measurement_pictures.py").read_text(), re.MULTILINE)
    assert [path.stem.removeprefix("measure-") for path in paths] == names
    assert all(len(words) > 40 for words, _ in SHOWN)
    sizes = [path.stat().st_size for path in paths]
    assert max(sizes) < 100_000 and sum(sizes) < 600_000
    for path in paths:
        with Image.open(path) as image:
            assert image.format == "WEBP" and image.width <= 1200


def test_every_measure_is_explained():
    """Fields that are no measures are excluded."""
    excluded = {"hemorrhage", "lesions", "remarks", "dropped_specks", "id", "pixels", "slices", "probability"}
    named = set(re.findall(r"`([a-z0-9_]+)`", PAGE))
    assert set(Findings.model_fields) | set(Lesion.model_fields) <= named | excluded | {"centroid_lps_mm"}
