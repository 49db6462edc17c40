"""A lack of memory is said to be one: neither a fault of StrokeSeg, nor of the file, nor of the network."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from strokeseg.errors import is_out_of_memory
from strokeseg.web import worker_pool

ROOT = Path(__file__).parents[2]
SCRIPT = """
import resource, sys
from pathlib import Path
from strokeseg.cli import main
from strokeseg.web import worker
worker.preload("fast")
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = used + int(sys.argv[1]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(main(["segment", sys.argv[2], "-o", sys.argv[3], "--model", "fast", "--window", "40,120"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("left_mb", [8, 40])
def test_a_process_with_too_little_memory_says_so(tmp_path, left_mb):
    """RLIMIT_AS little above what is in use before the scan: while it is read, and while the network runs."""
    command = [sys.executable, "-c", SCRIPT, str(left_mb), str(ROOT / "samples/ctich_081"), str(tmp_path / "out")]
    environment = {name: value for name, value in os.environ.items() if name != "STROKESEG_MODELS"}
    environment["OMP_NUM_THREADS"] = "1"
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert "error[memory]: there is too little memory" in run.stderr, run.stderr
    assert run.returncode == 3
    assert not (tmp_path / "out" / "result.json").exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
        RuntimeError("Exception from src/inference/src/dev/plugin.cpp:54:\nstd::bad_alloc\n"),  # OpenVINO
        RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer"),
        ImportError("libgomp.so: failed to map segment from shared object"),
    ],
)
def test_every_librarys_words_for_it_are_known(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space"), RuntimeError("shape"), KeyError("allocate memory")]
)
def test_other_errors_are_no_lack_of_memory(error):
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("std::bad_alloc")])
def test_a_study_that_needs_more_than_a_worker_may_use_is_too_large(error):
    def step(_report):
        raise error

    kind, told = worker_pool._call_step(step, (), lambda done, total: None)
    assert (kind, told.code) == ("error", "too-large") and "--memory" in told.remedy
