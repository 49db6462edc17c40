"""Versions of people, other tabs, two studies side by side, and what is taken away."""

import json
import zipfile

import numpy as np
import pytest

import chromium
from tests.web.viewer.browser import check_access, drag, go, middle, opened, picture, shown_slice, until

pytestmark = chromium.MARKS


def test_a_correction_can_be_undone_and_is_saved_beside_the_machines_answer(page, mock, answers):
    study = mock.seed("To correct", answers["big"])
    before = study.results[0].mask.copy()
    go(page, mock, f"#/studies/{study.id}")
    index = shown_slice(page)
    page.click("text=Correct the outline")
    x, y = middle(page)
    start = (x - 60, y - 60)
    clean = picture(page)
    drag(page, start, 40, 0)
    painted = picture(page)
    assert painted != clean
    page.click("button:has-text('Undo')")
    assert picture(page) == clean
    page.click("button:has-text('Redo')")
    assert picture(page) == painted
    page.click("button:has-text('Erase')")
    drag(page, start, 10, 0)
    assert picture(page) != painted
    page.locator(".surface").focus()
    page.keyboard.press("Control+z")
    assert picture(page) == painted
    page.click("[aria-label='Reject lesion 1']")
    page.click(".back")
    page.click("dialog button:has-text('Stay')")
    until(page, f"location.hash === '#/studies/{study.id}'")
    page.click("text=Save as a new version")
    page.fill("dialog [name=author]", "Dr. <b>Reader</b>")
    page.fill("dialog [name=note]", "missed one")
    page.check("dialog [name=accepted]")
    page.click("dialog button:has-text('Save')")
    page.wait_for_selector(".panel[data-version='1']")
    saved = mock.received[-1]
    assert (
        saved["author"] == "Dr. <b>Reader</b>"
        and saved["note"] == "Rejected: lesion 1. missed one"
        and saved["accepted"]
    )
    assert not (saved["mask"] & before).any()
    slices = np.flatnonzero(saved["mask"].any((1, 2)))
    assert slices.tolist() == [index]
    area = saved["mask"].sum() * np.prod(answers["big"].scan.pixel_spacing_mm)
    scale = page.locator("canvas.plane").evaluate("c => Math.min(c.clientWidth / 256, c.clientHeight / 256)")
    row, _ = answers["big"].scan.pixel_spacing_mm
    assert area == pytest.approx(5 * 40 / scale * row + np.pi * 2.5**2, rel=0.25)  # a brush of 5 mm, drawn over 40 px
    assert (study.results[0].mask == before).all()
    assert f"{study.results[1].findings.volume_ml:.1f}"[:3] in page.locator(".figures").inner_text()
    assert "Dr. <b>Reader</b>" in page.locator(".versions").inner_text()
    page.click('.version:has-text("Network\'s result")')
    page.wait_for_selector(".panel[data-version='0']")
    assert "20.9 ml" in page.locator(".figures").inner_text()


def test_two_tabs_see_what_the_other_does(browser, mock, answers):
    study = mock.seed("Shared", answers["scaled"])
    with opened(browser, mock.url) as one, opened(browser, mock.url) as other:
        go(one, mock, f"#/studies/{study.id}")
        go(other, mock, f"#/studies/{study.id}")
        one.click("text=Correct the outline")
        one.locator("[aria-label='Accept lesion 1']").focus()
        one.keyboard.press("Enter")
        assert one.evaluate("document.activeElement.getAttribute('aria-label')") == "Accept lesion 1"
        mask = np.zeros_like(study.results[0].mask)
        mask[7, 100:140, 100:140] = True
        mock.correct(study, mask, "The other", "")
        other.wait_for_selector(".panel[data-version='1']")
        one.wait_for_selector(".notice:has-text('The other has saved version 1')")
        assert one.locator(".panel").get_attribute("data-version") == "0"
        go(other, mock, "#/", "tbody tr")
        other.click("[aria-label='Delete Shared']")
        other.click("dialog button:has-text('Delete')")
        one.wait_for_selector("text=This study was deleted")


def test_two_studies_side_by_side_and_what_changed(page, mock):
    go(page, mock, "#/studies/s2")
    page.select_option(".compare-choice select", "s1")
    page.wait_for_selector(".pair")
    assert page.url.endswith("#/compare/s1/s2")
    page.wait_for_selector(".verdict:has-text('The hemorrhage has grown')", timeout=60_000)
    change = json.loads((mock.folder / "c0" / "change.json").read_text())
    assert f"{change['change']['change_ml']:.1f} ml" in page.locator(".figures").inner_text()
    assert "Grown" in page.locator(".changes").inner_text()
    shown_slice(page, 0)
    page.locator(".surface").nth(1).focus()
    page.keyboard.press("Home")
    assert shown_slice(page, 0) == shown_slice(page, 1) == 0
    page.keyboard.press("PageUp")
    assert shown_slice(page, 0) == shown_slice(page, 1) == 5
    page.uncheck("label:has-text('Scroll together') input")
    page.locator(".surface").nth(1).focus()
    page.keyboard.press("PageUp")
    assert (shown_slice(page, 0), shown_slice(page, 1)) == (5, 10)
    check_access(page)


def test_every_file_can_be_taken_away_and_printed(page, mock):
    go(page, mock, "#/studies/s2")
    with page.expect_download() as got:
        page.click("text=Download all as zip")
    with zipfile.ZipFile(got.value.path()) as archive:
        names = set(archive.namelist())
    page.click(".downloads summary")
    assert set(page.locator(".files a").all_inner_texts()) == names
    with page.expect_download() as got:
        page.click(".files a:has-text('mask.nii.gz')")
    assert got.value.path().read_bytes() == (mock.studies["s2"].folders[0] / "mask.nii.gz").read_bytes()
    page.evaluate("window.print = () => { window.printed = true; }")
    page.click("text=Print report")
    page.emulate_media(media="print")
    assert page.evaluate("window.printed")
    text = page.locator("#printout").inner_text()
    assert "Follow-up" in text and "20.9 ml" in text and "research software" in text
    assert page.locator("#printout img").evaluate("image => image.naturalWidth") > 300
    assert not page.locator(".masthead").is_visible() and not page.locator(".viewer").is_visible()
