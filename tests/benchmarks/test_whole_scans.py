import hashlib
from pathlib import Path

from benchmarks import whole_scans

ROOT = Path(__file__).parents[2]
FIGURES = whole_scans.WholeScanFigures.model_validate_json((ROOT / "benchmarks/whole_scans.json").read_bytes())


def test_the_page_shows_the_stored_figures():
    """`python -m benchmarks whole-scans --page-only` writes it again."""
    assert (ROOT / "docs/whole-scans.md").read_text() == whole_scans.render_page(FIGURES)


def test_the_stored_figures_are_of_the_checkpoint_that_is_there():
    checkpoint = (ROOT / "checkpoints" / FIGURES.packed).read_bytes()
    assert hashlib.sha256(checkpoint).hexdigest() == FIGURES.packed_sha256
