"""A figure in a document is one that a command printed; here pages and sources are held together."""

import re
import tomllib
from pathlib import Path

from strokeseg import errors
from strokeseg.segmentation import models

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def shown(score):
    return f"{score['value']:.3f} ({score['low']:.3f}–{score['high']:.3f})"


def test_the_readme_states_the_cards_figures():
    metrics = models.load_card("default").metrics
    assert f"{metrics['validation']['slices_without_blood_and_without_answer']:.0%}" in README
    assert not re.search(r"\b(DICE|PRECISION|RECALL|SECONDS|QUIET)\b", README)
    scores = metrics["test"]["per_patient"]
    for metric in ("dice", "precision", "recall"):
        assert shown(scores[metric]) in README, metric


def test_the_prose_of_a_card_is_that_of_its_data():
    from strokeseg.training import card_text

    for path in models.SHIPPED_FOLDER.glob("*.json"):
        card = models.Card.model_validate_json(path.read_bytes())
        assert path.with_suffix(".md").read_text() == card_text.render_card(card)


def test_every_link_of_the_pages_leads_somewhere():
    for page in (
        ROOT / "README.md",
        *(ROOT / "docs").glob("*.md"),
        ROOT / "samples/README.md",
        ROOT / "CONTRIBUTING.md",
    ):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_architecture_page_names_every_package_and_no_other():
    page = (ROOT / "docs/architecture.md").read_text()
    table = page.split("## Where is it?")[1].split("Outside of the package")[0]
    named = {name.split("/")[0].removesuffix(".py") for name in re.findall(r"`([a-z_]+(?:\.py|/[a-z/]*))`", table)}
    present = {
        path.stem
        for path in (ROOT / "src/strokeseg").iterdir()
        if not path.name.startswith("__") and path.suffix in ("", ".py")
    }
    assert named == present - {"version", "pipeline", "atomic_write", "scan_options"}


def test_every_file_that_the_architecture_page_names_exists():
    page = (ROOT / "docs/architecture.md").read_text()
    files = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", page))
    assert len(files) > 8
    for file in files:
        assert (ROOT / "src/strokeseg" / file).exists(), file


def test_the_instructions_of_the_architecture_page_name_what_exists():
    page = (ROOT / "docs/architecture.md").read_text().split("## How do I add")[1].split("## Coordinates")[0]
    source = "".join(path.read_text() for path in (ROOT / "src/strokeseg").rglob("*.py"))
    names = set(re.findall(r"`([A-Z][A-Za-z_]*[a-z_A-Z]|_[a-zA-Z_]+|[a-z]+_[a-z_]+)`", page))
    assert {"ALL_FORMATS", "OUTPUT_NAMES", "SingleLevelScores", "COUNT_METRICS", "check_formats"} <= names
    for name in names:
        assert re.search(rf"^(?:class |def )?{name}\b", source, re.MULTILINE), name


def test_the_layers_of_the_architecture_page_are_those_that_are_checked():
    page = (ROOT / "docs/architecture.md").read_text()
    drawn = re.search(r"^    cli ▶ (.+)$", page, re.MULTILINE)
    assert drawn is not None
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contract = next(c for c in project["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    layers = [" | ".join(re.findall(r"[a-z_]+", layer)) for layer in contract["layers"]]
    assert [layer.replace(" | version", "") for layer in layers[2:]] == drawn[1].split(" ▶ ")


def test_the_list_of_modules_is_that_of_the_source():
    from tools.module_index import render_index

    assert (ROOT / "docs/modules.md").read_text() == render_index()


def test_every_threat_names_tests_that_exist():
    page = (ROOT / "docs/threat-model.md").read_text().split("## A stranger")[1]
    rows = [line for line in page.splitlines() if line.startswith("|") and not line.startswith(("| how", "|---"))]
    assert len(rows) > 25
    for row in rows:
        tests = re.findall(r"`([a-z_/]+\.py)::(test_\w+)`", row)
        assert tests, row
        for file, name in tests:
            assert re.search(rf"^def {name}\(", (ROOT / "tests" / file).read_text(), re.MULTILINE), f"{file}::{name}"


def test_no_page_and_no_code_names_a_machine():
    here = re.compile(r"/(?:home|root|work|Users)/\w")
    for path in ROOT.rglob("*"):
        if path.suffix in (".py", ".md", ".toml", ".txt", ".cff", ".json") and not {".venv", "runs", "demo_out"} & set(
            path.relative_to(ROOT).parts
        ):
            found = here.search(path.read_text(errors="ignore"))
            assert found is None or path == Path(__file__), f"{path.relative_to(ROOT)}: {found}"


def test_every_code_is_on_the_page_of_codes():
    page = (ROOT / "docs/codes.md").read_text()
    source = "".join(path.read_text() for path in (ROOT / "src/strokeseg").rglob("*.py"))
    refusals = set()
    todo = [errors.StrokesegError]
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        if not kind.__subclasses__():
            refusals.add(kind.code)
    remarks = set(re.findall(r'code="([a-z-]+)"', source))
    assert len(refusals) > 20 and len(remarks) > 12
    for code in refusals | remarks:
        assert f"`{code}`" in page, code
    for code in re.findall(r"^\| `([a-z-]+)`", page.split("## Remarks")[1], re.MULTILINE):
        assert code in remarks, code
