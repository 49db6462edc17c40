"""Run the Containerfile's steps in an empty folder in place of the container's root; no engine is needed."""

import json
import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
FILE = ROOT / "deploy/Containerfile"
PLACES = ("/opt/strokeseg", "/build", "/data")


def instructions():
    """Yield (keyword, arguments) of every instruction in order."""
    text = "\n".join(line for line in FILE.read_text().splitlines() if not line.startswith("#"))
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            word, rest = line.split(None, 1)
            yield word, re.sub(r"\s+", " ", rest)


def sent():
    """Return the files of the repository that .dockerignore leaves to an engine."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    return {line[1:] for line in lines if line.startswith("!")}


class Container:
    """A folder in which RUN, COPY, WORKDIR and ENV are executed; absolute paths lead into it."""

    def __init__(self, folder):
        self.folder, self.workdir, self.user = folder, folder, None
        self.environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "LANG": "C.UTF-8"}
        for name in ("PIP_CONFIG_FILE", "PIP_INDEX_URL", "HOME"):
            if name in os.environ:
                self.environment[name] = os.environ[name]
        self.instructions = {}

    def inside(self, text):
        for place in PLACES:
            text = re.sub(rf"(?<![\w/]){place}(?![\w-])", f"{self.folder}{place}", text)
        return text

    def run(self, command):
        done = subprocess.run(
            ["sh", "-e", "-c", self.inside(command)],
            cwd=self.workdir, env=self.environment, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]

    def copy(self, words):
        if words[0] == "--from=build":
            # Both stages share the folder here, so it lies there already.
            assert Path(self.inside(words[1])).is_dir() and words[1] == words[2]
            return
        *sources, target = words
        for source in sources:
            assert any(fnmatch(source, f"{name}*") for name in sent()), f"{source} is not sent to the engine"
            place = self.workdir / target
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, place)

    def build(self):
        for word, rest in instructions():
            if word == "RUN":
                self.run(rest)
            elif word == "COPY":
                self.copy(rest.split())
            elif word == "WORKDIR":
                self.workdir = Path(self.inside(rest))
                self.workdir.mkdir(parents=True, exist_ok=True)
            elif word == "ENV":
                for pair in rest.split():
                    name, value = pair.split("=", 1)
                    self.environment[name] = self.inside(value).replace("$PATH", self.environment["PATH"])
            else:
                self.instructions.setdefault(word, []).append(rest)
        return self

    def strokeseg(self, *words):
        """Run the program as the container's user, who can write only to /data.

        It may read everything, since here Python itself can lie in a folder of root's.
        """
        user = self.instructions["USER"][-1].split(":")[0]
        become = ["setpriv", "--reuid", user, "--regid", user, "--clear-groups"]
        become += ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
        command = [*become, f"{self.folder}/opt/strokeseg/bin/strokeseg", *map(str, words)]
        return subprocess.run(
            command, cwd=self.folder / "data", env=self.environment, capture_output=True, text=True, timeout=120
        )


def test_says_what_a_container_should():
    steps = list(instructions())
    words = [word for word, _ in steps]
    assert words.count("FROM") == 2
    assert all(rest.startswith("python:3.12-slim") for word, rest in steps if word == "FROM")
    user = dict(steps)["USER"]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user), "a number: the cluster must see that it is not root"
    assert words.index("USER") < words.index("ENTRYPOINT")
    assert json.loads(dict(steps)["ENTRYPOINT"]) == ["strokeseg"]
    assert dict(steps)["VOLUME"] == "/data"


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_its_steps_make_a_program_that_runs_as_nobody(tmp_path_factory):
    folder = tmp_path_factory.mktemp("container")
    for path in [folder, *folder.parents]:
        if path.owner() == "root" and str(path).startswith("/tmp/"):
            path.chmod(path.stat().st_mode | 0o055)
    container = Container(folder)
    try:
        container.build()
        assert not (folder / "opt/strokeseg/bin/pip").exists()
        assert container.strokeseg("--version").stdout.startswith("strokeseg ")
        process = container.strokeseg("tokens", "create", "anna")
        assert process.stdout.startswith("strokeseg_"), process.stderr
        imports = "import psycopg, s3fs, strokeseg.web.server, torch"
        done = subprocess.run([folder / "opt/strokeseg/bin/python", "-c", imports], capture_output=True, text=True)
        assert "No module named 'torch'" in done.stderr, "all else is there, and nothing of training"
        scan = shutil.copytree(ROOT / "samples/ctich_081", folder / "data/scan")
        done = container.strokeseg("segment", scan, "-o", folder / "data/out", "--formats", "json", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["schema"] == "strokeseg.result/1"
        size = sum(path.lstat().st_size for path in (folder / "opt").rglob("*"))
        assert size < 1.1e9, f"{size / 1e6:.0f} MB"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
