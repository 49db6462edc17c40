import json
import sys
from importlib import metadata

from strokeseg.read import archive


def test_a_whole_installation(run):
    code, said, complaints = run("doctor")
    assert code == 0 and complaints == ""
    assert f"numpy {metadata.version('numpy')}" in said and "default: whole, version 7" in said
    assert "CPUExecutionProvider" in said and "All that a run needs is there." in said


def test_json_names_everything(run):
    code, said, complaints = run("doctor", "--json")
    found = json.loads(said)
    assert code == 0 and complaints == "" and found["problems"] == []
    assert found["packages"]["onnxruntime"] == metadata.version("onnxruntime")
    assert "torch" in found["training"] and "torch" not in found["packages"]
    assert all(found["decoders"].values()) and len(found["decoders"]) == 5
    assert found["bounds"]["most_files"] == archive.MOST_FILES


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
