"""Draw docs/images/report.png, the picture on top of the README, from the demo's report: slices beside the 3D view.

Run `make demo` first, then `make picture`. It needs Debian's Chromium.
"""

import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parent.parent
REPORT = ROOT / "demo_out/ctich_081/report.html"
ARGUMENTS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
HEIGHT = 620


def main() -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        page = browser.new_page(
            viewport={"width": 1180, "height": 900}, device_scale_factor=1.5, reduced_motion="reduce"
        )
        page.goto(REPORT.as_uri())
        page.wait_for_function("document.getElementById('scene').dataset.frame > 0")
        page.locator("[data-view=left]").click()
        page.wait_for_timeout(500)
        shots = [page.locator(part).screenshot() for part in ("ul.slices", "#stage")]
        browser.close()
    parts = [Image.open(io.BytesIO(shot)).convert("RGB") for shot in shots]
    parts = [
        part.resize((round(part.width * HEIGHT / part.height), HEIGHT), Image.Resampling.LANCZOS) for part in parts
    ]
    whole = Image.new("RGB", (sum(part.width for part in parts) + 12, HEIGHT), "white")
    whole.paste(parts[0], (0, 0))
    whole.paste(parts[1], (parts[0].width + 12, 0))
    (ROOT / "docs/images").mkdir(parents=True, exist_ok=True)
    whole.quantize(256).save(ROOT / "docs/images/report.png", optimize=True)


if __name__ == "__main__":
    main()
