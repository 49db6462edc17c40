"""A figure in a document is one that a command printed; here pages and sources are held together."""

import re
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
    from strokeseg.training import export

    for path in models.SHIPPED_FOLDER.glob("*.json"):
        card = models.Card.model_validate_json(path.read_bytes())
        assert path.with_suffix(".md").read_text() == export.render_card(card)


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


def test_every_module_of_the_layout_is_there():
    page = (ROOT / "docs/architecture.md").read_text()
    named = set(re.findall(r"^\| `([a-z_]+)(?:\.py|/)` \|", page, re.MULTILINE))
    there = {
        path.stem
        for path in (ROOT / "src/strokeseg").iterdir()
        if not path.name.startswith("__") and path.suffix in ("", ".py")
    }
    assert named == there - {"version"}


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
