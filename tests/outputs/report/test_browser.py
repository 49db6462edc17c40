"""The page in headless Chromium with the network off: it scrolls, turns, prints, and can be used without a mouse."""

import base64
import io
import re

import numpy as np
import pypdf
import pytest
from PIL import Image

import chromium
from phantoms.results import (
    RESULTS,
    make_document,
    make_lesion,
    make_planes,
    make_report_images,
    make_scan,
    make_scene,
)
from strokeseg.outputs.report import html_report

pytestmark = chromium.MARKS


@pytest.fixture(scope="module")
def browser():
    with chromium.launch() as running:
        yield running


@pytest.fixture
def open_report(browser, tmp_path):
    """Open the page of a case of :data:`ZOO`; at the end nothing was fetched and nothing went wrong."""
    errors, requests, contexts = [], [], []

    def call(result, **options):
        scan, labels, document = result
        html_report.save(tmp_path, document, make_report_images(scan, labels, document, make_scene(scan.spacing_known)))
        size = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | options
        context = browser.new_context(offline=True, **size)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((tmp_path / "report.html").as_uri())
        if options.get("java_script_enabled", True):
            page.wait_for_selector("#stack-canvas[data-shown]")
        return page

    yield call
    assert not errors
    assert [url for url in requests if not url.startswith(("data:", "file:"))] == []
    assert len([url for url in requests if url.startswith("file:")]) == len(contexts)
    for context in contexts:
        context.close()


def make_lesion_result():
    scan = make_scan(make_planes(12, (0, 0, 5)), 48, 48)
    mask = np.zeros(scan.shape, dtype=bool)
    mask[3:8, 10:20, 10:20] = True
    return scan, mask, make_document(scan, [make_lesion(1, 3, 7)])


def at(page):
    """The slice that is shown, counted from 0."""
    page.wait_for_timeout(300)
    return int(page.locator("#stack-canvas").get_attribute("data-shown").split()[0])


def comes(page, index, window="40/80"):
    """Wait until a slice, counted from 0, is shown in a window; an error where it never is."""
    return page.wait_for_selector(f"#stack-canvas[data-shown='{index} {window}']", timeout=10_000)


def read_canvas(page):
    data = page.locator("#stack-canvas").evaluate("canvas => canvas.toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))).convert("L")).astype(int)


def test_every_slice_is_drawn_in_every_window_as_the_hounsfield_units_say(open_report):
    scan, mask, document = make_lesion_result()
    rng = np.random.default_rng(1)
    scan.hu[:] = rng.choice([-1000, -60, -10, 0, 7, 35, 64, 80, 90, 119, 200, 900, 1900], scan.shape)
    page = open_report((scan, mask, document))
    for name, centre, width, finest in (("Brain", 40, 80, 1), ("Subdural", 75, 280, 5), ("Bone", 600, 2800, 40)):
        page.get_by_role("button", name=re.compile(f"^{name} ")).click()
        for index in (0, 5, 11):
            page.locator("#stack-slider").fill(str(index))
            assert comes(page, index, f"{centre}/{width}")
            expected = np.clip((scan.hu[index] - centre + width / 2) * 255 / width, 0, 255)
            assert np.abs(read_canvas(page) - expected).max() <= 0.5 * finest * 255 / width + 1


def test_slices_scroll_by_wheel_keys_slider_touch_and_a_click_on_a_small_one(open_report):
    page = open_report(make_lesion_result(), has_touch=True)
    slider, box = page.locator("#stack-slider"), page.locator("#stack-box")
    start = at(page)
    assert start in range(3, 8)
    box.scroll_into_view_if_needed()
    middle = box.bounding_box()
    page.mouse.move(middle["x"] + middle["width"] / 2, middle["y"] + middle["height"] / 2)
    page.mouse.wheel(0, -100)
    assert comes(page, start + 1)
    page.mouse.wheel(0, 100)
    page.mouse.wheel(0, 100)
    assert comes(page, start - 1)
    slider.focus()
    page.keyboard.press("End")
    assert comes(page, 11)
    before = page.evaluate("scrollY")
    page.mouse.wheel(0, -100)  # beyond the last slice the page scrolls on
    page.wait_for_timeout(300)
    assert at(page) == 11 and page.evaluate("scrollY") < before
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert comes(page, 10) and slider.get_attribute("aria-valuetext") == "Slice 11 of 12"
    page.keyboard.press("3")
    assert comes(page, 10, "40/40")
    box.scroll_into_view_if_needed()
    middle = box.bounding_box()
    x, y = middle["x"] + middle["width"] / 2, middle["y"] + middle["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 160, y, steps=5)
    page.mouse.up()
    dragged = at(page)
    assert dragged < 9
    touch = """([x, y, way]) => { const target = document.getElementById("stack-picture");
      const send = (type, clientX) => target.dispatchEvent(new PointerEvent(type, { pointerId: 7, pointerType: "touch",
        clientX, clientY: y, bubbles: true, isPrimary: true }));
      target.setPointerCapture = () => {}; send("pointerdown", x); send("pointermove", x + way);
      send("pointerup", x + way); }"""
    page.evaluate(touch, [x, y, 120])
    assert at(page) > dragged
    page.locator(".slice").nth(1).focus()
    page.keyboard.press("Enter")
    assert comes(page, 4, "40/40") and slider.get_attribute("aria-valuetext") == "Slice 5 of 12, lesion 1"


def test_the_outline_can_be_hidden_and_lies_around_the_bleeding(open_report):
    page = open_report(make_lesion_result())
    outline = page.locator("#stack-picture .outline")
    page.locator("#stack-slider").fill("5")
    assert outline.is_visible()
    box = page.locator("#stack-canvas").bounding_box()
    path = page.locator("#stack-outline").bounding_box()
    # Pixels 10 to 20 of 48 are marked.
    for side, size in (("x", "width"), ("y", "height")):
        scale = box[size] / 48
        assert path[side] - box[side] == pytest.approx(10 * scale, abs=0.6 * scale)
        assert path[size] == pytest.approx(10 * scale, abs=1.3 * scale)
    page.uncheck("#outline-toggle")
    assert not outline.is_visible() and not page.locator(".slices .outline").first.is_visible()
    page.keyboard.press("o")
    assert outline.is_visible()
    page.locator("#scene").focus()
    page.keyboard.press("o")  # only where the keyboard is in the slices
    assert outline.is_visible()


def test_the_scene_turns_and_left_is_left(open_report):
    page = open_report(make_lesion_result())

    def pixels():
        page.wait_for_timeout(150)
        return page.locator("#scene").evaluate("canvas => canvas.toDataURL()")

    canvas = page.locator("#scene")
    canvas.scroll_into_view_if_needed()
    page.wait_for_selector("#scene[data-frame]")
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["whole", "none", "pictures"])
def test_axe_finds_nothing_against_its_rules(open_report, name, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = open_report(RESULTS[name](), color_scheme=scheme)
    response = Axe().run(page).response
    assert len(response["passes"]) > 20
    assert [(one["id"], [node["html"][:120] for node in one["nodes"]]) for one in response["violations"]] == []


def test_a_phone_shows_it_without_a_sideways_scroll(open_report):
    page = open_report(RESULTS["whole"](), viewport={"width": 360, "height": 780}, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    box = page.locator("#stack-picture").bounding_box()
    assert 280 < box["width"] <= 360 and box["height"] == pytest.approx(box["width"], rel=0.02)


def test_without_scripts_the_slices_with_bleeding_are_there(open_report):
    page = open_report(make_lesion_result(), java_script_enabled=False)
    assert page.locator(".slices img").count() == 5
    assert (
        not page.locator("#stack").is_visible()
        and page.get_by_text("viewer of all slices needs JavaScript").is_visible()
    )


def test_it_prints_its_words_and_pictures(open_report):
    page = open_report(RESULTS["whole"]())
    pages = pypdf.PdfReader(io.BytesIO(page.pdf(format="A4", print_background=True))).pages
    text = re.sub(r"\s+", " ", " ".join(one.extract_text() for one in pages))
    assert len(pages) <= 5 and "Hemorrhage was detected: 2 lesions" in text and "Remarks" in text
    assert sum(len(one.images) for one in pages) >= 7
    assert "Scroll with the mouse wheel" not in text
    # Nothing of the table is cut off at the paper's edge.
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 720, "height": 1000})
    assert page.locator("table").evaluate("table => table.scrollWidth <= table.parentElement.clientWidth + 1")
