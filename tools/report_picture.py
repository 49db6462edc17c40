"""Draw docs/images/report.jpg, the picture at the top of the README, from the demo's report: slices and 3D view.

Run `make demo` first, then `make picture`. It needs Debian's Chromium.
"""

import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parent.parent
REPORT = ROOT / "demo_out/ctich_081/report.html"
PICTURE = ROOT / "docs/images/report.jpg"
ARGUMENTS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
SIDE = 330
SLICES = (3, 6, 9, 12)


def main() -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 900, "height": 900}, device_scale_factor=2, reduced_motion="reduce")
        page.goto(REPORT.as_uri())
        page.wait_for_selector("#scene[data-frame]")
        page.locator("[data-view=left]").click()
        page.locator("#scene").press("ArrowRight")
        page.locator("#scene").press("ArrowUp")
        page.wait_for_timeout(500)
        page.locator("#stack-at").evaluate("label => label.hidden = true")
        slices = [capture_slice(page, number) for number in SLICES]
        # Keep the words "not to scale" on the visible part.
        page.locator("#stage .scale").evaluate("label => label.style.left = '20%'")
        scene = open_screenshot(page.locator("#stage").screenshot())
        browser.close()
    wide = round(2 * SIDE * 1.15)
    left = (scene.width - round(scene.height * 1.15)) // 2
    scene = scene.crop((left, 0, scene.width - left, scene.height)).resize((wide, 2 * SIDE), Image.Resampling.LANCZOS)
    whole = Image.new("RGB", (2 * SIDE + wide, 2 * SIDE), "black")
    for index, picture in enumerate(slices):
        whole.paste(picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (index % 2 * SIDE, index // 2 * SIDE))
    whole.paste(scene, (2 * SIDE, 0))
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    whole.save(PICTURE, quality=88)


def capture_slice(page: Page, number: int) -> Image.Image:
    """Show a slice, counted from 1, in the report's viewer and take a screenshot."""
    page.locator("#stack-slider").fill(str(number - 1))
    page.wait_for_selector(f"#stack-canvas[data-shown^='{number - 1} ']")
    return open_screenshot(page.locator("#stack-picture").screenshot())


def open_screenshot(shot: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(shot)).convert("RGB")
    return image.crop((2, 2, image.width - 2, image.height - 2))  # half pixels at the edges show the background


if __name__ == "__main__":
    main()
