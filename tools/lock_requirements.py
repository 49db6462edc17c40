"""Write requirements/*.txt: the exact versions, installed in this environment, of what pyproject.toml asks for.

Run it as `make lock` after a change of pyproject.toml and an installation of the new set.
"""

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
# What torch brings for one kind of machine only; pip picks it there.
LEFT_TO_PIP = re.compile(r"^(nvidia-|cuda-|triton$)")


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(requirements: list[str]) -> dict[str, str]:
    """Follow the requirements to the whole set that they need here: plain name to version."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(Requirement(line), "") for line in requirements]
    while todo:
        wanted, extra = todo.pop()
        if wanted.marker and not wanted.marker.evaluate({"extra": extra}):
            continue
        name = plain(wanted.name)
        if LEFT_TO_PIP.match(name):
            continue
        installed = distribution(wanted.name)
        found[name] = installed.version
        for wanted_extra in {"", *wanted.extras}:
            if (name, wanted_extra) not in seen:
                seen.add((name, wanted_extra))
                todo += [(Requirement(line), wanted_extra) for line in installed.requires or []]
    return found


def lines(versions: dict[str, str]) -> str:
    # A local version such as +cpu names one index; the public part is what every index has.
    return "".join(f"{name}=={version.split('+')[0]}\n" for name, version in sorted(versions.items()))


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    runtime = closure(project["dependencies"])
    everything = closure(project["dependencies"] + [line for extra in extras.values() for line in extra])
    further = {name: version for name, version in everything.items() if name not in runtime}
    (ROOT / "requirements/runtime.txt").write_text(lines(runtime))
    (ROOT / "requirements/test.txt").write_text("-r runtime.txt\n" + lines(further))


if __name__ == "__main__":
    main()
