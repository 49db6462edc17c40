"""Headless Chromium for the viewer; every page must run without errors and without requests to other servers."""

from __future__ import annotations

import base64
import io
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

STRANGE = "<img src=x onerror=alert(1)> pictures"
PHONE, TABLET, DESKTOP = (390, 844), (820, 1180), (1440, 900)


class Seen:
    """Errors of a page and its requests to other servers."""

    def __init__(self, page: Any, url: str) -> None:
        self.errors: list[str] = []
        self.foreign: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: None if _is_own(request.url, url) else self.foreign.append(request.url))


def _is_own(requested: str, url: str) -> bool:
    return requested.startswith((url, "blob:", "data:", "about:"))


@contextmanager
def opened(
    browser: Any, url: str, size: tuple[int, int] = DESKTOP, layout: str = "slices", **options: Any
) -> Iterator[Any]:
    """Open the page at a size; on leaving, nothing may have gone wrong but what ``page.seen`` was emptied of."""
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, reduced_motion="reduce", **options)
    context.set_default_timeout(20_000)
    page = context.new_page()
    page.add_init_script(f"if (location.host) localStorage.setItem('strokeseg.layout', '{layout}')")
    page.seen = Seen(page, url)
    page.goto(url)
    yield page
    assert not page.seen.errors, page.seen.errors
    assert not page.seen.foreign, page.seen.foreign
    context.close()


def until(page: Any, expression: str, seconds: float = 20) -> None:
    """Wait until an expression holds; asked from outside, since the page's policy forbids what Playwright would do."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(30)


def shown_slice(page: Any, plane: int = 0) -> int:
    """Return the number, from 0, of the slice that is drawn."""
    shown = f"document.querySelectorAll('canvas.plane')[{plane}]?.dataset.shown"
    page.wait_for_timeout(80)
    until(page, shown)
    return int(page.evaluate(shown))


def picture(page: Any) -> str:
    """Return what the plane shows, without what stands around it, once it was drawn."""
    page.wait_for_timeout(120)
    return page.locator("canvas.plane").first.evaluate("canvas => canvas.toDataURL()")


def grey(url: str) -> Any:
    """Return the grey levels of a picture, (rows, columns)."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("L"), dtype=float)


def head(page: Any) -> bytes:
    """Return what the 3D view shows, once it was drawn; WebGL keeps no picture that could be asked for."""
    page.wait_for_timeout(150)
    return page.locator("canvas.head").screenshot()


def middle(page: Any, selector: str = ".surface") -> tuple[float, float]:
    """Return the middle of an element, CSS pixels."""
    box = page.locator(selector).first.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page: Any, start: tuple[float, float], x: float, y: float) -> None:
    """Press, move by (x, y), and let go."""
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(start[0] + x, start[1] + y, steps=6)
    page.mouse.up()


def go(page: Any, mock: Any, hash_: str, wait: str = ".findings dl") -> None:
    """Load a part of the page anew, and wait for what stands there."""
    page.goto("about:blank")
    page.goto(f"{mock.url}{hash_}")
    page.wait_for_selector(wait)


def a_zip(size: int = 1000) -> bytes:
    """Make a zip with so many bytes of noise, which the mock takes for a study."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("IM1", np.random.default_rng(0).bytes(size))
    return packed.getvalue()


def upload(page: Any, name: str, data: bytes) -> None:
    """Choose a file, which is sent at once."""
    page.set_input_files("#choose-files", {"name": name, "mimeType": "application/octet-stream", "buffer": data})


def check_access(page: Any) -> None:
    """Let axe look for what WCAG 2.2 AA forbids."""
    from axe_playwright_python.sync_playwright import Axe

    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    violations = Axe().run(page, options={"runOnly": rules}).response["violations"]
    assert [(rule["id"], [node["html"][:120] for node in rule["nodes"]]) for rule in violations] == []
