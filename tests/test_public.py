import subprocess
import sys
import time


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_every_public_name_is_there():
    assert run("import strokeseg; print(*(hasattr(strokeseg, name) for name in strokeseg.__all__))").count("False") == 0


def test_read_and_measure_stay_functions_whatever_is_imported():
    """Their packages have the same names, and an import must not put the package into the function's place."""
    code = """
import strokeseg
import strokeseg.pipeline, strokeseg.read.source, strokeseg.measure.lesions
from strokeseg import Scan, segment
print(callable(strokeseg.read), callable(strokeseg.measure), callable(strokeseg.segment))
"""
    assert run(code) == ["True", "True", "True"]


def test_importing_the_package_is_quick():
    start = time.perf_counter()
    run("pass")
    bare = time.perf_counter() - start
    start = time.perf_counter()
    run("import strokeseg")
    assert time.perf_counter() - start - bare < 0.3
