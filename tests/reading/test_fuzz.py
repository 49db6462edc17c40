"""Damaged files end in a scan or a StrokesegError: no other exception, no output, no hang."""

import gc
from pathlib import Path

import pytest

from stress import fuzz

BUDGET_S = 120  # in all; half of it for each of two cores
# Libraries that print a line about damage from C: libtiff under Pillow. Nothing else may be printed.
CODESTREAM = ("TIFF", "Corrupt JPEG")


@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_a_damaged_file_ends_in_a_scan_or_in_an_error_of_ours(tmp_path, kind, capfd, recwarn, caplog):
    fuzz.KINDS[kind](tmp_path)
    gc.collect()  # what earlier tests left open warns now
    capfd.readouterr(), recwarn.clear(), caplog.clear()
    # Of what is deflated hardly a byte can change unseen.
    outcomes = fuzz.read_mutations(kind, tmp_path, 200 if kind == "deflated" else 40, seed=0)
    # Mutations both hurt and spare, but for a check sum.
    assert "read" in outcomes or kind in ("nii.gz", "tar.gz", "tar.xz", "zip", "zip-stored")
    assert "unreadable" in outcomes and not caplog.records
    assert [str(warning.message) for warning in recwarn.list] == []
    printed = capfd.readouterr()
    lines = [line for line in printed.err.splitlines() if not line.startswith(CODESTREAM)]
    assert printed.out == "" and not lines


@pytest.mark.parametrize("kind", fuzz.MADE)
def test_an_input_of_the_wrong_kind_ends_in_a_scan_or_in_an_error_of_ours(tmp_path, kind, capfd):
    capfd.readouterr()
    outcomes = fuzz.read_mutations(kind, tmp_path, 25, seed=0)
    refusals = {
        "wrong-scale": "no-hounsfield",
        "foreign-slices": "geometry",
        "bomb": "too-large",
        "pictures": "not-head",
    }
    assert refusals[kind] in outcomes
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*fuzz.KINDS, *fuzz.MADE])
def test_as_many_damaged_files_as_the_time_allows(kind, record_property):
    report = fuzz.run_in_process(kind, 100_000, seed=1, budget_s=BUDGET_S / len(fuzz.KINDS | fuzz.MADE))
    record_property("seed", 1)
    record_property("outcomes", dict(report.outcomes))
    assert report.outcomes and not report.faults, str(report)


def test_a_file_that_hangs_or_ends_the_process_is_named_and_the_run_goes_on(tmp_path, monkeypatch):
    """A module of the fuzzer's name is imported first; its `read` hangs on the 2nd file and dies on the 4th."""
    (tmp_path / "fuzz.py").write_text(STUMBLING.format(folder=str(Path(fuzz.__file__).parent)))
    monkeypatch.setattr(fuzz, "__file__", str(tmp_path / "fuzz.py"))
    report = fuzz.run_in_process("png", 6, seed=0, hang_s=1)
    assert report.outcomes.total() == 4 and report.peak_mib < fuzz.MAX_MIB
    assert [fault.split(": ")[0] for fault in report.faults] == ["png 1 0", "png 3 0"]
    assert "hung" in report.faults[0] and "ended with" in report.faults[1]
    assert "FAULT png 1 0" in str(report)


STUMBLING = """
import importlib.util, json, os, sys, time
from pathlib import Path
sys.path.append({folder!r})
spec = importlib.util.spec_from_file_location("real_fuzz", {folder!r} + "/fuzz.py")
real = importlib.util.module_from_spec(spec)
sys.modules["real_fuzz"] = real
spec.loader.exec_module(real)
whole = real.read
def read(path):
    state = path.parent / "state"
    number = json.loads(state.read_text())[0] if state.exists() else None
    if number == 1:
        time.sleep(600)
    if number == 3:
        os._exit(7)
    return whole(path)
real.read = read
run_worker = real.run_worker
"""
