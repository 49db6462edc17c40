"""Write requirements/*.txt: the installed versions of the dependencies in pyproject.toml, exactly.

Run `make lock` after a change of pyproject.toml and an installation of the new dependencies.
"""

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
# Dependencies of torch that depend on the machine; pip chooses them.
LEFT_TO_PIP = re.compile(r"^(nvidia-|cuda-|triton$)")


def normalize_name(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def resolve_installed(requirements: list[str]) -> dict[str, str]:
    """Return the installed versions of requirements and all their dependencies, by normalized name."""
    versions: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(Requirement(line), "") for line in requirements]
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = normalize_name(requirement.name)
        if LEFT_TO_PIP.match(name):
            continue
        installed = distribution(requirement.name)
        versions[name] = installed.version
        for further_extra in {"", *requirement.extras}:
            if (name, further_extra) not in seen:
                seen.add((name, further_extra))
                todo += [(Requirement(line), further_extra) for line in installed.requires or []]
    return versions


def format_lines(versions: dict[str, str]) -> str:
    # A local version such as +cpu exists in one index only; the public part exists in all.
    return "".join(f"{name}=={version.split('+')[0]}\n" for name, version in sorted(versions.items()))


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    runtime = resolve_installed(project["dependencies"])
    everything = resolve_installed(project["dependencies"] + [line for extra in extras.values() for line in extra])
    further = {name: version for name, version in everything.items() if name not in runtime}
    (ROOT / "requirements/runtime.txt").write_text(format_lines(runtime))
    (ROOT / "requirements/test.txt").write_text("-r runtime.txt\n" + format_lines(further))


if __name__ == "__main__":
    main()
