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
    code, said, complaints = run("doctor")
    assert code == 0 and complaints == ""
    assert f"numpy {metadata.version('numpy')}" in said and "default: intact, version 7" in said
    assert "onnxruntime: installed" in said and "The installation is complete." in said


def test_json_names_everything(run):
    code, said, complaints = run("doctor", "--json")
    found = json.loads(said)
    assert code == 0 and complaints == "" and found["problems"] == []
    assert found["packages"]["onnxruntime"] == metadata.version("onnxruntime")
    assert "torch" in found["extras"]["train"] and "torch" not in found["packages"]
    assert found["machine"]["cores"] == len(os.sched_getaffinity(0))
    assert found["auto"]["default"]["engine"] == found["answer"]["engine"] == "onnxruntime"
    assert all(folder["writable"] for folder in found["folders"].values())
    assert all(found["decoders"].values()) and len(found["decoders"]) == 5
    assert found["bounds"]["most_files"] == limits.MAX_FILES


def test_a_damaged_network_is_a_problem(run, models):
    (models / "default.onnx").write_bytes(b"something else")
    code, said, complaints = run("doctor")
    assert code == 3 and "model-checksum" in said
    assert complaints.startswith("problem: default.onnx: SHA-256") and "remedy: " in complaints


def test_no_network_is_a_problem(run, models):
    (models / "default.json").unlink()
    code, _, complaints = run("doctor")
    assert code == 3 and "no network named 'default'" in complaints and "STROKESEG_MODELS" in complaints


def test_a_missing_package_is_a_problem_and_no_fault(run, monkeypatch):
    def version(name, real=metadata.version):
        if name == "onnxruntime":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    code, said, complaints = run("doctor")
    assert code == 3
    assert "onnxruntime NOT INSTALLED" in said
    assert "problem: the package onnxruntime is not installed" in complaints and "internal" not in complaints
    assert 'remedy: pip install "onnxruntime>=' in complaints


def test_decoders_are_those_that_read_and_not_what_else_is_installed(run, monkeypatch):
    """gdcm is there for the tests alone: without it nothing is missing, without imagecodecs' part it is."""
    import imagecodecs

    for other in ("gdcm", "pylibjpeg", "libjpeg", "openjpeg", "jpeg_ls"):
        monkeypatch.setitem(sys.modules, other, None)
    assert run("doctor")[0] == 0
    monkeypatch.setattr(imagecodecs.JPEGLS, "available", False)
    code, said, complaints = run("doctor")
    assert code == 3 and "JPEG-LS: NO" in said and "cannot be read: JPEG-LS\n" in complaints


def test_a_package_that_is_too_old_is_a_problem(run, monkeypatch):
    real = metadata.version
    monkeypatch.setattr(metadata, "version", lambda name: "2.0.9" if name == "numpy" else real(name))
    code, _, complaints = run("doctor")
    assert code == 3 and "numpy has version 2.0.9; 2.1 or later is required" in complaints
    assert 'remedy: pip install --upgrade "numpy>=2.1"' in complaints


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
        code, said, _ = run("doctor")
        found = re.search(r"small: (\w+): (.+)", said.partition("--engine auto")[2])
        assert code == 0 and found[1] == engine and "8-bit" in found[2]


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
    code, said, complaints = run("doctor")
    assert code == 3 and "First inference\n  NONE" in said
    assert "ONNX Runtime cannot load it" in complaints and "remedy: " in complaints and "Traceback" not in complaints


def test_a_folder_for_temporary_files_that_takes_nothing(run, monkeypatch, tmp_path):
    gone = SimpleNamespace(gettempdir=lambda: str(tmp_path / "gone"), TemporaryFile=tempfile.TemporaryFile)
    monkeypatch.setattr(doctor, "tempfile", gone)
    code, said, complaints = run("doctor")
    assert code == 3 and "gone: NOT WRITABLE" in said and "TMPDIR" in complaints


def test_a_folder_that_may_not_be_written_is_said(run, plain_user, monkeypatch):
    folder, become = plain_user
    run("doctor")  # imports everything: the plain user may not be able to read the clone
    monkeypatch.chdir(folder)
    folder.chmod(0o555)
    become()
    found = json.loads(run("doctor", "--json")[1])
    assert found["folders"]["here"] == {"path": str(folder), "writable": False}
