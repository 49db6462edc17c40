import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HEAVY = ("torch", "torchvision", "lightning", "fastapi", "streamlit", "pynetdicom", "ray")


def normalize_name(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(name):
    lines = (ROOT / "requirements" / name).read_text().split()
    return dict(line.split("==") for line in lines if "==" in line)


@pytest.mark.parametrize("module", ["strokeseg", "strokeseg.pipeline", "strokeseg.evaluation", "strokeseg.cli"])
def test_importing_the_runtime_brings_no_torch_and_no_server(module):
    code = f"import sys, {module}; print(*(name for name in {HEAVY} if name in sys.modules))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.split() == []


def test_the_lock_holds_a_version_that_fits_every_dependency():
    runtime = locked("runtime.txt")
    everything = runtime | locked("test.txt")
    requirements = [(line, runtime) for line in PROJECT["dependencies"]]
    requirements += [(line, everything) for extra in PROJECT["optional-dependencies"].values() for line in extra]
    for line, versions in requirements:
        requirement = Requirement(line)
        assert requirement.specifier.contains(versions[normalize_name(requirement.name)]), line


def test_the_runtime_lock_holds_nothing_of_training():
    assert not {"torch", "torchvision", "lightning", "pytest"} & locked("runtime.txt").keys()


def test_every_dependency_says_why_it_is_there():
    page = (ROOT / "docs/dependencies.md").read_text().lower()
    for lines in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()):
        for line in lines:
            assert normalize_name(Requirement(line).name) in page, line


def test_the_versions_agree():
    import strokeseg

    stated = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert stated is not None
    assert strokeseg.__version__ == PROJECT["version"] == stated[1] == version("strokeseg")
