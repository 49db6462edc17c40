"""Viewing: slices, windows, lengths, lesions, and the 3D view."""

import re

import numpy as np
import pytest

import chromium
from tests.web.viewer.browser import PHONE, drag, go, grey, head, middle, opened, picture, shown_slice

pytestmark = chromium.MARKS


def test_slices_that_are_stored_turned_are_shown_face_up(page, mock, answers):
    study = mock.seed("Upside down", answers["big"])
    study.turned = True
    pictures, letters = [], []
    for id in ("s2", study.id):
        go(page, mock, f"#/studies/{id}")
        shown_slice(page)
        pictures.append(grey(picture(page)))
        letters.append(
            {edge: page.locator(f".letter.{edge}").inner_text() for edge in ("left", "right", "top", "bottom")}
        )
    assert np.abs(pictures[0] - pictures[1]).mean() < 1 < np.abs(pictures[0] - pictures[1][::-1, ::-1]).mean()
    assert letters == [{"left": "R", "right": "L", "top": "A", "bottom": "P"}] * 2


def test_slices_scroll_by_wheel_keys_slider_and_finger(browser, mock):
    with opened(browser, mock.url, PHONE, has_touch=True) as page:
        go(page, mock, "#/studies/s2")
        first = shown_slice(page)
        page.mouse.move(*middle(page))
        page.mouse.wheel(0, 120)
        assert shown_slice(page) == first - 1
        page.locator(".surface").focus()
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowUp")
        assert shown_slice(page) == first + 1
        page.keyboard.press("End")
        assert shown_slice(page) == 27
        page.locator(".slider").fill("5")
        assert shown_slice(page) == 4
        x, y = middle(page)
        finger = page.context.new_cdp_session(page)
        touch = lambda kind, *points: finger.send(  # noqa: E731
            "Input.dispatchTouchEvent",
            {"type": kind, "touchPoints": [{"x": a, "y": b, "id": i} for i, (a, b) in enumerate(points)]},
        )
        touch("touchStart", (x, y))
        touch("touchMove", (x, y - 60))
        touch("touchEnd")
        assert shown_slice(page) == 8
        touch("touchStart", (x - 30, y), (x + 30, y))
        touch("touchMove", (x - 90, y), (x + 90, y))
        touch("touchEnd")
        page.wait_for_selector(".hud.window:has-text('×3.0')")
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE[0]


def test_windows_change_the_grey_levels_as_the_numbers_say(page, mock, answers):
    go(page, mock, "#/studies/s2")
    index = shown_slice(page)
    hu = answers["big"].scan.hu[index]
    for preset, (centre, width) in {"brain": (40, 80), "bone": (600, 2800), "stroke": (40, 40)}.items():
        page.click(f"[data-preset={preset}]")
        page.locator(".opacity").fill("0")
        page.locator(".overlay input[type=checkbox]").uncheck()
        page.wait_for_timeout(100)
        shown = grey(picture(page))
        rows, columns = shown.shape
        shown = shown[rows // 2 - 40 : rows // 2 + 40, columns // 2 - 40 : columns // 2 + 40]
        expected = np.clip((hu - (centre - width / 2)) * 255.0 / width, 0, 255)
        scale = page.locator("canvas.plane").evaluate("canvas => Math.min(canvas.width, canvas.height)") / hu.shape[0]
        half = round(40 / scale)
        rows, columns = hu.shape
        part = expected[rows // 2 - half : rows // 2 + half, columns // 2 - half : columns // 2 + half]
        assert shown.mean() == pytest.approx(part.mean(), abs=6)
    page.locator(".surface").focus()
    page.keyboard.press("2")
    assert page.locator(".hud.window").inner_text() == "C 75  W 280"
    drag(page, middle(page), 60, 0)
    assert int(re.search(r"W (\d+)", page.locator(".hud.window").inner_text())[1]) > 280


def test_the_ruler_measures_millimetres_and_pixels_where_there_is_no_scale(page, mock, answers):
    for study, result, unit in (("s2", answers["big"], "mm"), ("s4", answers["plain"], "px")):
        go(page, mock, f"#/studies/{study}")
        shown_slice(page)
        page.click("[data-tool=ruler]")
        drag(page, middle(page), 100, 0)
        length = page.locator("#announcer").inner_text()
        rows, columns = result.scan.shape[1:]
        row, column = result.scan.pixel_spacing_mm or (1, 1)
        box = page.locator(".surface").bounding_box()
        expected = 100 / min(box["width"] / (columns * column), box["height"] / (rows * row))
        assert length.endswith(unit) and float(length.split()[0]) == pytest.approx(expected, abs=0.6)


def test_a_lesion_leads_to_its_slice_and_its_place_in_space(browser, mock, answers):
    with opened(browser, mock.url, (1000, 700), layout="both") as page:
        go(page, mock, "#/studies/s2", ".space[data-version]")
        page.locator(".surface").focus()
        page.keyboard.press("Home")
        before = head(page)
        page.click("[data-lesion='1'] .lesion")
        mask = answers["big"].mask
        assert shown_slice(page) == int(mask.sum((1, 2)).argmax())
        position = [float(mm) for mm in page.locator(".space").get_attribute("data-place").split()]
        left, back, up = answers["big"].findings.lesions[0].centroid_lps_mm
        assert position == pytest.approx([-left, -back, up], abs=4)  # RAS, on the grid of the NIfTI
        still = head(page)
        assert still != before  # it is lit up
        drag(page, middle(page, "canvas.head"), 80, 20)
        turned = head(page)
        assert turned != still
        page.locator("canvas.head").focus()
        page.keyboard.press("ArrowLeft")
        assert head(page) != turned


def test_the_parts_without_a_scale_fit_the_scene(browser, mock, answers):
    from strokeseg.scan import NOMINAL_FIELD_OF_VIEW_MM, NOMINAL_STEP_MM

    with opened(browser, mock.url, (1000, 700), layout="both") as page:
        go(page, mock, "#/studies/s4", ".space[data-version]")
        assert "Not to scale" in page.locator(".space-note").inner_text()
        page.click("[data-lesion='1'] .lesion")
        position = [float(mm) for mm in page.locator(".space").get_attribute("data-place").split()]
        slice_, row, column = np.argwhere(answers["plain"].mask & _largest(answers["plain"])).mean(0)
        pixel = NOMINAL_FIELD_OF_VIEW_MM / max(answers["plain"].scan.shape[1:])
        assert position == pytest.approx([-column * pixel, -row * pixel, slice_ * NOMINAL_STEP_MM], abs=15)
        assert "not measured" in page.locator(".figures").inner_text()
        assert page.locator("[data-lesion='1'] .size").inner_text().endswith("px")


def _largest(result):
    from strokeseg.imaging import components

    return components.label(result.mask, result.scan)[0] == 1
