import shutil
from pathlib import Path

import numpy as np
import pytest

from strokeseg.write import pictures, report
from write_cases import document, lesion, planes, scan_of, scene

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
]


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="needs chromium (requirements/debian.txt)")
def test_report_works_in_a_browser_without_a_network(tmp_path):
    from playwright.sync_api import sync_playwright

    scan = scan_of(planes(12, (0, 0, 5)), 48, 48)
    mask = np.zeros(scan.shape, dtype=bool)
    mask[3:8, 10:20, 10:20] = True
    report.save(tmp_path, document(scan, [lesion(1, 3, 7)]), pictures.for_report(scan, mask), scene())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True, reduced_motion="reduce")
        page = context.new_page()
        errors, requests = [], []
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((tmp_path / "report.html").as_uri())

        def pixels():
            page.wait_for_timeout(150)
            return page.locator("#scene").evaluate("canvas => canvas.toDataURL()")

        canvas = page.locator("#scene")
        canvas.scroll_into_view_if_needed()
        page.wait_for_function("document.getElementById('scene').dataset.frame > 0")
        assert not page.locator("#scene-fallback").is_visible()
        still = pixels()
        assert pixels() == still  # less motion was asked for
        box = canvas.bounding_box()
        middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.move(*middle)
        page.mouse.down()
        page.mouse.move(middle[0] + 90, middle[1] + 30, steps=4)
        page.mouse.up()
        turned = pixels()
        assert turned != still
        page.mouse.wheel(0, -300)
        zoomed = pixels()
        assert zoomed != turned
        canvas.focus()
        page.keyboard.press("ArrowLeft")
        assert pixels() != zoomed

        # The bleed is in the left half of the brain: seen from the front, red lies right of the middle.
        page.click("[data-view=front]")
        page.wait_for_timeout(200)
        red = canvas.evaluate(
            """canvas => {
              const copy = document.createElement("canvas");
              [copy.width, copy.height] = [canvas.width, canvas.height];
              const context = copy.getContext("2d");
              context.drawImage(canvas, 0, 0);
              const data = context.getImageData(0, 0, copy.width, copy.height).data;
              let sum = 0, count = 0;
              for (let i = 0; i < data.length; i += 4)
                if (data[i] > 1.5 * data[i + 2] && data[i + 3] > 200) { sum += (i / 4) % copy.width; count++; }
              return [count, sum / count / copy.width];
            }"""
        )
        assert red[0] > 200 and red[1] > 0.52

        outline = page.locator(".slices .outline").first
        assert outline.is_visible()
        page.uncheck("#outline-toggle")
        assert not outline.is_visible()
        page.keyboard.press("o")
        assert outline.is_visible()

        page.locator(".slice").first.focus()
        page.keyboard.press("Enter")
        assert page.locator("#viewer").is_visible()
        page.keyboard.press("ArrowRight")
        assert page.locator("#viewer-caption").inner_text().startswith("Slice 5")
        page.keyboard.press("Escape")
        assert not page.locator("#viewer").is_visible()

        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert not errors
        assert [url for url in requests if not url.startswith(("data:", "file:"))] == []
        assert len([url for url in requests if url.startswith("file:")]) == 1
        browser.close()
