"""The process: exit codes, streams, start-up."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from slowdown import measure_slowdown
from strokeseg import outputs, pipeline
from strokeseg.cli import app, main, options, terminal
from strokeseg.segmentation.engines import selection
from strokeseg.version import __version__

STROKESEG = (sys.executable, "-c", "import sys; from strokeseg.cli import main; sys.exit(main())")


def process(*arguments, **more):
    return subprocess.run([*STROKESEG, *map(str, arguments)], capture_output=True, text=True, timeout=120, **more)


def test_help_is_quick_and_loads_nothing_heavy():
    code = "import sys; from strokeseg.cli import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    durations = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        durations.append(time.perf_counter() - start)
    assert done.stdout.startswith("Usage: strokeseg")
    assert not {"numpy", "pydantic", "pydicom", "onnxruntime", "torch", "rich"} & set(done.stderr.split())
    # About 0.1 s on an idle core; the bound leaves room for a busy one.
    assert min(durations) < 1.0 * measure_slowdown()


@pytest.mark.parametrize("command", ["segment", "inspect", "train", "evaluate", "models", "doctor"])
def test_every_command_explains_itself(run, command):
    code, stdout, stderr = run(command, "--help")
    assert code == 0 and stderr == ""
    assert stdout.startswith(f"Usage: strokeseg {command}")
    assert max(map(len, stdout.splitlines())) <= 110
    assert command == "models" or "Examples:" in stdout


def test_version(run):
    assert run("--version") == (0, f"strokeseg {__version__}\n", "")


@pytest.mark.parametrize("arguments", [(), ("models",), ("segment",)])
def test_a_command_without_what_it_needs_shows_its_help(run, arguments):
    code, stdout, stderr = run(*arguments)
    assert (code, stdout) == (2, "")
    assert stderr.startswith("Usage: strokeseg")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("segmnt", "x"), "'segment'"),
        (("segment", "x", "--spacing", "5,0.4"), "'5,0.4' is not SLICE,ROW,COLUMN in mm, as 5,0.45,0.45"),
        (("segment", "x", "--spacing", "abc"), "'abc' is not SLICE,ROW,COLUMN"),
        (("segment", "x", "--spacing", "5,0,1"), "above 0 mm"),
        (("segment", "x", "--spacing", "5,nan,1"), "is not SLICE,ROW,COLUMN"),
        (("inspect", "x", "--window", "40"), "'40' is not CENTRE,WIDTH in Hounsfield units, as 40,80"),
        (("segment", "x", "--window", "40,80,3"), "is not CENTRE,WIDTH"),
        (("segment", "x", "--engine", "warp"), "'auto', 'onnxruntime', 'openvino'"),
        (("segment", "x", "--threads", "-1"), "--threads"),
        (("segment", "x", "--formats", "json,docx"), "'docx'"),
        (("segment", "x", "--frobnicate"), "--frobnicate"),
        (("segment", "x", "y"), "y"),
        (("evaluate", "x", "--threshold", "3"), "--threshold"),
        (("models", "show"), "NAME"),
    ],
)
def test_wrong_usage_shows_the_right_form(run, arguments, expected):
    code, stdout, stderr = run(*arguments)
    assert (code, stdout) == (2, "")
    assert expected in stderr
    assert arguments == ("models", "show") or ("error[usage]: " in stderr and "remedy: " in stderr)
    assert "Value error" not in stderr and "Traceback" not in stderr


def test_an_internal_error_is_printed_without_the_exceptions_message(run, bleeding, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("patient Secret^Name")

    monkeypatch.setattr(pipeline, "segment", broken)
    code, stdout, stderr = run("segment", bleeding)
    assert (code, stdout) == (1, "")
    assert stderr.startswith("error[internal]: internal error in StrokeSeg: RuntimeError in ")
    assert "Secret" not in stderr and "Traceback" not in stderr and "--debug" in stderr
    assert "Traceback" in run("--debug", "segment", bleeding)[2]
    monkeypatch.setenv("STROKESEG_DEBUG", "1")
    assert "Traceback" in run("segment", bleeding)[2]


def test_debug_does_not_outlive_its_command(run, bleeding):
    run("--debug", "inspect", bleeding)
    assert "Traceback" not in run("inspect", "not-there")[2]


def test_ctrl_c_stops_with_130_and_leaves_nothing(run, bleeding, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline.Result, "save", stopped)
    code, stdout, stderr = run("segment", bleeding, "-o", tmp_path / "out")
    assert (code, stdout) == (130, "") and stderr.startswith("stopped")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_writing_leaves_nothing(bleeding, tmp_path, sent, code):
    # The process sends itself the signal in the middle of writing: after the CT, before the result.
    script = (
        "import os, sys; import strokeseg.outputs.result_json as last; from strokeseg.cli import main\n"
        f"last.save = lambda *_: os.kill(os.getpid(), {int(sent)})\n"
        "sys.exit(main())"
    )
    command = [sys.executable, "-c", script, "segment", bleeding, "-o", tmp_path / "new" / "out", "--formats", "nifti"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == code
    assert done.stdout == "" and "Traceback" not in done.stderr
    assert not (tmp_path / "new").exists()


def test_streams_of_the_process_hold_no_control_characters(bleeding, tmp_path):
    done = process("segment", bleeding, "-o", tmp_path / "out", "--formats", "json")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("Hemorrhage detected") and not {"\x1b", "\r", "\b"} & set(done.stdout)
    as_json = process("segment", bleeding, "-o", tmp_path / "out", "--formats", "json", "--json")
    assert json.loads(as_json.stdout)["schema"] == "strokeseg.result/1" and as_json.stderr == ""
    refused = process("segment", tmp_path / "nothing", "--json", env=os.environ | {"FORCE_COLOR": "1"})
    assert refused.returncode == 3 and refused.stdout == "" and refused.stderr.count("\n") == 2


def test_a_poor_encoding_is_no_fault(tmp_path, bleeding):
    poor = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = process("segment", bleeding, "-o", tmp_path / "ö", "--formats", "json", env=poor)
    assert done.returncode == 0 and r"\xf6" in done.stdout
    assert json.loads(process("segment", bleeding, "-o", tmp_path / "ö", "--json", env=poor).stdout)


@pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX")
@pytest.mark.parametrize("arguments", [("inspect", "INPUT"), ("inspect", "INPUT", "--json"), ("--help",)])
def test_a_reader_that_leaves_is_no_error(bleeding, arguments):
    given = [str(bleeding) if each == "INPUT" else each for each in arguments]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*STROKESEG, *given], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert done.returncode == 141 and done.stderr == ""


@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals of POSIX")
def test_progress_is_drawn_on_a_terminal(bleeding, tmp_path):
    import pty

    ours, theirs = pty.openpty()
    command = [*STROKESEG, "segment", bleeding, "-o", tmp_path / "out", "--json", "--formats", "json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=os.environ | {"TERM": "xterm"}) as child:
        os.close(theirs)
        drawn = b""
        while True:
            try:
                drawn += (some := os.read(ours, 4096))
            except OSError:  # Linux's way of saying that the other side has closed
                break
            if not some:
                break
        printed = child.stdout.read()
    os.close(ours)
    assert child.returncode == 0
    assert b"12 of 12 slices" in drawn
    assert json.loads(printed)["findings"]["hemorrhage"] is True


def test_other_packages_warnings_are_not_the_users(run, bleeding, monkeypatch, recwarn):
    import warnings

    def warns(*_, **__):
        warnings.warn("Invalid value for VR UI: 'ID_of_a_patient'", stacklevel=1)
        raise KeyboardInterrupt

    warnings.resetwarnings()
    monkeypatch.setattr(pipeline, "segment", warns)
    run("segment", bleeding)
    assert not [each for each in recwarn if "ID_of_a_patient" in str(each.message)]


def test_engine_names_are_those_of_the_engines():
    assert tuple(options.EngineName) == selection.ENGINES


def test_formats_by_default_are_all_that_can_be_written(run):
    assert ",".join(outputs.DEFAULT_FORMATS) in run("segment", "--help")[1]


def test_main_is_the_entry_point():
    from importlib import metadata

    (entry,) = [e for e in metadata.entry_points(group="console_scripts") if e.name == "strokeseg"]
    assert entry.load() is main
    assert app.info.name == "strokeseg" and terminal.REFUSED == 3
