"""A scan goes in: in one piece or many, refused, cancelled, and after a lost connection."""

import time

import pytest

import chromium
from tests.web.viewer.browser import a_zip, check_access, go, shown_slice, until, upload

pytestmark = chromium.MARKS


def test_an_upload_shows_slices_at_once_and_the_result_without_reloading(page, mock):
    page.evaluate("window.stayed = true")
    arrived = []
    page.on("response", lambda answer: arrived.append(time.monotonic()) if answer.request.method == "POST" else None)
    upload(page, "night.zip", a_zip())
    shown_slice(page)
    assert time.monotonic() - arrived[0] < 3  # a second on a quiet machine
    assert page.locator(".title .state").inner_text().startswith("Segmenting")
    until(page, "document.querySelector('.title progress')?.value > 3")
    page.wait_for_selector(".verdict.positive")
    assert page.evaluate("window.stayed")
    volume = mock.answers[".zip"].findings.volume_ml
    assert f"{volume:.1f} ml" in page.locator(".figures").inner_text()
    low, high = mock.answers[".zip"].findings.volume_interval_ml
    assert f"{low:.1f} to {high:.1f} ml, 90 % interval" in page.locator(".figures").inner_text()
    assert page.evaluate("document.getElementById('announcer').textContent").startswith("Hemorrhage detected")


def test_a_big_file_goes_in_pieces_and_goes_on_after_a_lost_connection(page, mock, tmp_path):
    data = a_zip(8_500_000)
    (tmp_path / "big.zip").write_bytes(data)
    lost = []

    def lose_two(route):
        offset = int(route.request.headers.get("upload-offset", 0))
        if offset < 3_000_000 or len(lost) == 2:
            return route.continue_()
        lost.append(offset)
        return route.abort("connectionfailed")

    page.route("**/uploads/u*", lose_two)
    page.set_input_files("#choose-files", tmp_path / "big.zip")
    page.wait_for_selector(".upload .said:has-text('Connection lost')")
    page.wait_for_selector(".study")
    assert lost == [3_000_000, 3_000_000]  # it went on where it was
    received = mock.received[-1]
    assert received["names"] == ["big.zip"] and received["sizes"] == [len(data)]
    assert next(u for u in mock.uploads.values() if u["name"] == "big.zip")["data"] == data
    page.seen.errors = [error for error in page.seen.errors if "ERR_CONNECTION_FAILED" not in error]


def test_a_dropped_folder_keeps_its_names_and_options_go_with_it(page, mock):
    page.click("summary:has-text('Options')")
    page.fill("input[name=spacing]", "5,0.45,0.45")
    page.check("input[name=urgent]")
    page.evaluate(
        """() => {
          const transfer = new DataTransfer();
          for (const name of ["a.jpg", "b.jpg"]) transfer.items.add(new File(["x"], name));
          const drop = new DragEvent("drop", { dataTransfer: transfer, bubbles: true });
          document.querySelector(".drop").dispatchEvent(drop);
        }"""
    )
    page.wait_for_selector(".study")
    received = mock.received[-1]
    assert received["names"] == ["a.jpg", "b.jpg"]
    assert received["fields"] == {"name": "a.jpg and 1 more", "spacing": "5,0.45,0.45", "priority": "urgent"}
    assert "Urgent" in (go(page, mock, "#/", "tbody tr") or page.locator("tbody tr").first.inner_text())


def test_a_wrong_file_is_refused_with_its_code_and_remedy(page):
    upload(page, "notes.txt", b"hello")
    card = page.locator(".card.refused")
    card.wait_for()
    text = card.inner_text()
    assert "refused" in text and "unreadable" in text and "Give a DICOM folder" in text
    check_access(page)


def test_a_study_can_be_cancelled(page):
    upload(page, "long.zip", a_zip())
    page.click(".title button:has-text('Cancel')")
    page.wait_for_selector(".title .state.cancelled")
    assert "There is no result" in page.locator(".panel").inner_text()


@pytest.mark.parametrize("button", ["tbody [data-role=retry]", ".card.refused button:has-text('Try again')"])
def test_a_study_that_failed_is_tried_again(page, mock, button):
    study = mock.submit({"name": "failed"}, ["failed.zip"], [1])
    while study.status != "done":
        time.sleep(0.1)
    study.versions, study.results, study.folders = [], [], []
    error = {"code": "worker-died", "detail": "The process ended.", "remedy": "Try again."}
    mock.update(study, status="failed", error=error)
    go(page, mock, "#/" if "tbody" in button else f"#/studies/{study.id}", button)
    check_access(page)
    page.click(button)
    page.wait_for_selector(button, state="detached")
    if "tbody" in button:
        go(page, mock, f"#/studies/{study.id}", ".verdict")
    page.wait_for_selector(".verdict.positive")
    assert study.status == "done" and len(study.versions) == 1


def test_an_upload_goes_on_after_the_page_was_loaded_anew(page, mock, tmp_path):
    data = a_zip(8_400_000)
    (tmp_path / "again.zip").write_bytes(data)
    page.route("**/uploads/u*", lambda route: route.abort() if _offset(route) == 4_000_000 else route.continue_())
    page.set_input_files("#choose-files", tmp_path / "again.zip")
    page.wait_for_selector(".upload .said:has-text('Connection lost at 4.0 MB')")
    page.reload()
    page.unroute("**/uploads/u*")
    sent = []
    page.on(
        "request", lambda request: sent.append(request.headers["upload-offset"]) if request.method == "PATCH" else None
    )
    page.set_input_files("#choose-files", tmp_path / "again.zip")
    page.wait_for_selector(".study")
    assert sent[0] == "4000000" and mock.received[-1]["sizes"] == [len(data)]
    page.seen.errors = [error for error in page.seen.errors if "ERR_FAILED" not in error]


def _offset(route):
    return int(route.request.headers.get("upload-offset", -1))
