"""The files that the steps of a study pass on: nothing of a scan is lost, and a new field cannot be forgotten."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

import strokeseg
from strokeseg.scan import Planes, Scan
from strokeseg.web import intermediates, worker

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture(scope="module")
def scan():
    (scan,) = strokeseg.read(SAMPLES / "ge_head.zip")
    return scan


def test_a_scan_comes_back_as_it_was(scan, tmp_path):
    intermediates.save_scan(tmp_path, scan, 1.25)
    loaded, read_s = intermediates.load_scan(tmp_path)
    assert read_s == 1.25
    for field in dataclasses.fields(Scan):
        if field.name not in ("hu", "planes"):
            assert getattr(loaded, field.name) == getattr(scan, field.name), field.name
    assert scan.source is not None and scan.source.frames
    np.testing.assert_array_equal(loaded.hu, scan.hu)
    for field in dataclasses.fields(Planes):
        np.testing.assert_array_equal(getattr(loaded.planes, field.name), getattr(scan.planes, field.name))
    assert {path.name for path in tmp_path.iterdir()} == {*intermediates.SCAN_FILES, *intermediates.PAGE_FILES}


def test_a_new_field_of_a_scan_is_not_lost(scan, tmp_path):
    """A field that the stored form does not have stops the step."""

    @dataclasses.dataclass(frozen=True)
    class LaterScan(Scan):
        dose_mgy: float = 50.0

    later = LaterScan(**{field.name: getattr(scan, field.name) for field in dataclasses.fields(Scan)})
    with pytest.raises(ValidationError, match="dose_mgy"):
        intermediates.save_scan(tmp_path, later, 0.0)


def test_what_a_worker_loads_in_advance_exists():
    worker.preload("fast")
