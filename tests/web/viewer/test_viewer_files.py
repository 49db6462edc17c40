"""The page's files, checked without a browser."""

import hashlib
import re
from pathlib import Path

import strokeseg

STATIC = Path(strokeseg.__file__).parent / "web" / "static"
OURS = [
    path for path in STATIC.rglob("*") if path.suffix in {".js", ".css", ".html", ".svg"} and "vendor" not in path.parts
]


def test_what_others_wrote_is_whole_and_licensed():
    stated = dict(line.split(": ", 1) for line in (STATIC / "vendor/VERSION").read_text().splitlines())
    assert hashlib.sha256((STATIC / "vendor/niivue.js").read_bytes()).hexdigest() == stated["sha256"]
    assert f'version: "{stated["version"]}"' in (STATIC / "vendor/niivue.js").read_text()
    assert (
        f"==== {stated['package']} {stated['version']} ({stated['licence']})" in (STATIC / "vendor/LICENSE").read_text()
    )


def test_the_page_asks_nobody_else_and_holds_no_inline_script_or_style():
    for path in OURS:
        text = path.read_text()
        assert re.findall(r"https?://(?!www\.w3\.org/)", text) == [], path
        assert re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text) is None, (
            path
        )
    page = (STATIC / "index.html").read_text()
    assert re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page) is None


def test_every_address_is_relative_so_that_a_sub_path_works():
    page = (STATIC / "index.html").read_text()
    for address in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert address.startswith(("static/", "#"))
        assert address.startswith("#") or (STATIC.parent / address).is_file()


def test_every_module_that_is_imported_is_there():
    for path in (STATIC / "js").glob("*.js"):
        for name in re.findall(r'(?:from|import\()\s*"([^"]+)"', path.read_text()):
            assert (path.parent / name).resolve().is_file(), (path.name, name)
