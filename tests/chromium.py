"""Debian's Chromium, headless, for tests that draw pages; `make test` installs it (requirements/debian.txt)."""

import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

PATH = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
]
MARKS = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(not Path(PATH).exists(), reason="needs chromium (requirements/debian.txt)"),
]
"""Of a module or test that draws pages."""


@contextmanager
def launch():
    """Start the browser; Playwright allows one at a time in a process."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PATH, args=ARGUMENTS)
        yield browser
        browser.close()
