"""The public names of the package."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import strokeseg
from slowdown import measure_slowdown
from strokeseg.result import ModelInfo, Timing

ROOT = Path(__file__).parents[1]


def run_code(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_every_public_name_is_there():
    assert (
        run_code("import strokeseg; print(*(hasattr(strokeseg, name) for name in strokeseg.__all__))").count("False")
        == 0
    )


def test_public_functions_stay_functions_whatever_is_imported():
    code = """
import strokeseg
import strokeseg.pipeline, strokeseg.reading.dispatch, strokeseg.measurements.lesion.volume
from strokeseg import Scan, segment
print(callable(strokeseg.read), callable(strokeseg.measure), callable(strokeseg.segment))
"""
    assert run_code(code) == ["True", "True", "True"]


def test_dir_lists_the_public_names():
    assert dir(strokeseg) == sorted(strokeseg.__all__)


def test_a_result_is_shown_in_one_line():
    scan = strokeseg.Scan.from_array(np.zeros((3, 8, 8)), (5.0, 0.5, 0.5))
    mask = np.zeros(scan.shape, dtype=bool)
    mask[1, 2:6, 2:6] = True
    info = ModelInfo(name="default", version="1", sha256="0" * 64, engine="none", precision="none", threshold=0.5)
    result = strokeseg.Result(scan, mask.astype(np.float16), mask, strokeseg.measure(scan, mask), info, Timing())
    assert repr(result) == "<Result: 1 lesion, 0.020 ml; 3 x 8 x 8 pixels; model default>"
    negative = strokeseg.Result(
        scan, mask * np.float16(0), mask & False, strokeseg.measure(scan, mask & False), info, Timing()
    )
    assert repr(negative) == "<Result: no hemorrhage; 3 x 8 x 8 pixels; model default>"


def test_importing_the_package_is_quick():
    start = time.perf_counter()
    run_code("pass")
    startup_s = time.perf_counter() - start
    start = time.perf_counter()
    run_code("import strokeseg")
    assert time.perf_counter() - start - startup_s < 0.3 * measure_slowdown()


@pytest.mark.parametrize(
    "options",
    [{"window": (40,)}, {"window": "40,120"}, {"spacing_mm": 0.45}, {"spacing_mm": (5, "a", 1)}, {"threads": -1}],
)
def test_a_wrong_argument_is_wrong_usage(options):
    with pytest.raises(strokeseg.errors.UsageError):
        strokeseg.segment(ROOT / "samples/ctich_081", **options)


def test_options_of_files_do_not_go_with_a_scan():
    scan = strokeseg.Scan.from_array([[0, 1], [2, 3]])
    with pytest.raises(strokeseg.errors.UsageError, match="Scan has its own"):
        strokeseg.segment(scan, window=(40, 80))
