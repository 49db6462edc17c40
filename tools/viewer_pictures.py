"""Draw docs/images/viewer-*.webp, the pictures of docs/viewer.md: `make picture`.

The page runs in headless Chromium on the mock server of the viewer's tests, which shows real results of the samples.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs/images"
DESKTOP, PHONE, TABLET = (1440, 900), (390, 844), (820, 1180)
_DRAWING_MS = 1500


def main() -> None:
    """Draw a study on a desktop, a correction on a phone and a tablet, and a comparison."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    import chromium
    from tests.web.viewer import browser, results
    from tests.web.viewer.mock_api import Running
    from tests.web.viewer.mock_studies import Mock

    answer = results.pictures()
    with tempfile.TemporaryDirectory() as folder, chromium.launch() as running:
        mock = Mock({".zip": answer}, Path(folder), step_s=0.05)
        earlier = mock.seed("CT head, first", results.drawn(answer, 11), 90000)
        later = mock.seed("CT head, follow-up", results.drawn(answer, 17), 3600)
        study = mock.seed("Patient 081", answer, 200)
        server = Running(mock)
        mock.url = server.url

        def photograph(
            size: tuple[int, int], address: str, theme: str, layout: str, prepare: Any = None
        ) -> Image.Image:
            with browser.opened(running, mock.url, size, layout, color_scheme=theme) as page:
                browser.go(page, mock, address)
                if prepare:
                    prepare(page)
                page.wait_for_timeout(_DRAWING_MS)
                return Image.open(io.BytesIO(page.screenshot())).convert("RGB")

        def show_head(page: Any) -> None:
            page.locator("text=Loading the head").wait_for(state="detached", timeout=60_000)
            page.locator(".lesion").first.click()

        def correct(page: Any) -> None:
            page.click("text=Correct the outline")
            x, y = browser.middle(page)
            browser.drag(page, (x - 40, y - 25), 30, 10)

        def compare(page: Any) -> None:
            page.wait_for_selector("text=change.html")

        address = f"#/studies/{study.id}"
        save("viewer-study.webp", photograph(DESKTOP, address, "light", "both", show_head))
        phone = photograph(PHONE, address, "light", "slices", correct)
        save("viewer-correct.webp", place_beside(phone, photograph(TABLET, address, "dark", "slices", correct)))
        comparison = f"#/compare/{earlier.id}/{later.id}"
        save("viewer-compare.webp", photograph(DESKTOP, comparison, "dark", "slices", compare))
        server.stop()


def place_beside(left: Image.Image, right: Image.Image, gap: int = 24) -> Image.Image:
    """Place two pictures beside each other on white, the right one scaled to the height of the left one."""
    right = right.resize((round(right.width * left.height / right.height), left.height), Image.Resampling.LANCZOS)
    whole = np.full((left.height, left.width + gap + right.width, 3), 255, np.uint8)
    whole[:, : left.width], whole[:, left.width + gap :] = np.asarray(left), np.asarray(right)
    return Image.fromarray(whole)


def save(name: str, image: Image.Image) -> None:
    """Write one picture, and say how large it is."""
    image.save(IMAGES / name, quality=80, method=6)
    print(f"docs/images/{name}: {image.width} x {image.height}, {(IMAGES / name).stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
