import json
import os
import re
import sys
import tempfile
from importlib import metadata
from types import SimpleNamespace

from strokeseg.cli import doctor
from strokeseg.reading import limits


def test_a_whole_installation(run):
    code, stdout, stderr = run("doctor")
    assert code == 0 and stderr == ""
    assert f"numpy {metadata.version('numpy')}" in stdout and "default: intact, version 7" in stdout
    assert "onnxruntime: installed" in stdout and "The installation is complete." in stdout


def test_json_names_everything(run):
    code, stdout, stderr = run("doctor", "--json")
    report = json.loads(stdout)
    assert code == 0 and stderr == "" and report["problems"] == []
    assert report["packages"]["onnxruntime"] == metadata.version("onnxruntime")
    assert "torch" in report["extras"]["train"] and "torch" not in report["packages"]
    assert report["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert report["auto"]["default"]["engine"] == report["answer"]["engine"] == "onnxruntime"
    assert all(folder["writable"] for folder in report["folders"].values())
    assert all(report["decoders"].values()) and len(report["decoders"]) == 5
    assert report["bounds"]["most_files"] == limits.MAX_FILES


def test_a_damaged_network_is_a_problem(run, models):
    (models / "default.onnx").write_bytes(b"something else")
    code, stdout, stderr = run("doctor")
    assert code == 3 and "model-checksum" in stdout
    assert stderr.startswith("problem: default.onnx: SHA-256") and "remedy: " in stderr


def test_no_network_is_a_problem(run, models):
    (models / "default.json").unlink()
    code, _, stderr = run("doctor")
    assert code == 3 and "no model named 'default'" in stderr and "STROKESEG_MODELS" in stderr


def test_a_missing_package_is_a_problem_and_no_fault(run, monkeypatch):
    def version(name, real=metadata.version):
        if name == "onnxruntime":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, stdout, stderr = run("doctor")
    assert code == 3
    assert "onnxruntime NOT INSTALLED" in stdout
    assert "problem: the package onnxruntime is not installed" in stderr and "internal" not in stderr
    assert 'remedy: pip install "onnxruntime>=' in stderr


def test_decoders_are_those_that_read_and_not_what_else_is_installed(run, monkeypatch):
    """gdcm is there for the tests alone: without it nothing is missing, without imagecodecs' part it is."""
    import imagecodecs

    for other in ("gdcm", "pylibjpeg", "libjpeg", "openjpeg", "jpeg_ls"):
        monkeypatch.setitem(sys.modules, other, None)
    assert run("doctor")[0] == 0
    monkeypatch.setattr(imagecodecs.JPEGLS, "available", False)
    code, stdout, stderr = run("doctor")
    assert code == 3 and "JPEG-LS: NO" in stdout and "cannot be read: JPEG-LS\n" in stderr


def test_a_package_that_is_too_old_is_a_problem(run, monkeypatch):
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.0.9" if name == "numpy" else real(name))
    code, _, stderr = run("doctor")
    assert code == 3 and "numpy has version 2.0.9; 2.1 or later is required" in stderr
    assert 'remedy: pip install --upgrade "numpy>=2.1"' in stderr


def test_auto_says_what_it_takes_and_why(run, models, monkeypatch):
    """An old processor with both engines, then none: the sentence follows."""
    from strokeseg.segmentation.engines import cpu_features, selection

    card = json.loads((models / "default.json").read_text())
    (models / "small.json").write_text(json.dumps(card | {"name": "small", "precision": "int8"}))
    (models / "small.onnx").write_bytes((models / "default.onnx").read_bytes())
    monkeypatch.setattr(selection, "list_installed", lambda: ("onnxruntime", "openvino"))
    for flags, engine in ((("avx512_vnni",), "openvino"), ((), "onnxruntime")):
        monkeypatch.setattr(
            cpu_features, "detect_hardware", lambda flags=flags: cpu_features.Hardware("a processor", 2, flags)
        )
        code, stdout, _ = run("doctor")
        report = re.search(r"small: (\w+): (.+)", stdout.partition("--engine auto")[2])
        assert code == 0 and report[1] == engine and "8-bit" in report[2]


def test_every_engine_that_is_not_there_says_what_installs_it(run, monkeypatch):
    from strokeseg.segmentation.engines import selection

    monkeypatch.setattr(selection, "list_installed", lambda: ("onnxruntime",))
    engines = json.loads(run("doctor", "--json")[1])["engines"]
    assert engines.pop("onnxruntime") == "installed"
    assert len(engines) == 6 and all("pip install" in line for line in engines.values())


def test_a_network_that_cannot_be_loaded_is_a_problem_with_its_remedy(run, models):
    import hashlib

    data = b"no network"
    (models / "default.onnx").write_bytes(data)
    card = json.loads((models / "default.json").read_text())
    (models / "default.json").write_text(json.dumps(card | {"sha256": hashlib.sha256(data).hexdigest()}))
    code, stdout, stderr = run("doctor")
    assert code == 3 and "First inference\n  NONE" in stdout
    assert "ONNX Runtime cannot load it" in stderr and "remedy: " in stderr and "Traceback" not in stderr


def test_a_folder_for_temporary_files_that_takes_nothing(run, monkeypatch, tmp_path):
    gone = SimpleNamespace(gettempdir=lambda: str(tmp_path / "gone"), TemporaryFile=tempfile.TemporaryFile)
    monkeypatch.setattr(doctor, "tempfile", gone)
    code, stdout, stderr = run("doctor")
    assert code == 3 and "gone: NOT WRITABLE" in stdout and "TMPDIR" in stderr


def test_a_folder_that_may_not_be_written_is_said(run, plain_user, monkeypatch):
    folder, become = plain_user
    monkeypatch.chdir(folder)
    folder.chmod(0o555)
    become()
    report = json.loads(run("doctor", "--json")[1])
    assert report["folders"]["here"] == {"path": str(folder), "writable": False}
