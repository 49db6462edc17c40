"""The page on the real server: a scan goes in, the result comes out, a person corrects it."""

import socket
import threading
import time

import pytest

import chromium
from tests.web.viewer.browser import drag, middle, opened, shown_slice, until
from tests.web.viewer.results import SAMPLES

pytestmark = chromium.MARKS


@pytest.fixture
def server(tmp_path):
    import uvicorn

    from strokeseg.web.app import create_app
    from strokeseg.web.settings import ServerSettings

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = ServerSettings(
        port=port,
        database=f"sqlite:///{tmp_path}/studies.db",
        storage=str(tmp_path / "data"),
        audit=tmp_path / "audit.jsonl",
        formats=("json", "nifti", "mesh", "report"),
    )
    config = uvicorn.Config(create_app(settings), port=port, log_level="error", timeout_graceful_shutdown=1)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    end = time.monotonic() + 60
    while not running.started and time.monotonic() < end:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}/"
    running.should_exit = True
    thread.join(20)


def test_from_a_dropped_scan_to_a_corrected_version(browser, server):
    with opened(browser, server) as page:
        page.context.set_default_timeout(120_000)
        page.wait_for_selector(".drop-place.large")
        page.set_input_files("#choose-files", sorted((SAMPLES / "ctich_081").glob("*.jpg")))
        page.wait_for_selector(".stage")
        assert shown_slice(page) == 7
        page.wait_for_selector(".verdict.positive")
        assert page.locator(".title .state").inner_text() == "Done"
        assert "pixel spacing" in page.locator(".remarks").inner_text()
        page.click("[data-lesion='1'] .lesion")
        page.click("text=Correct the outline")
        page.click("[aria-label='Reject lesion 1']")
        drag(page, middle(page), 30, 0)
        page.click("text=Save as a new version")
        page.fill("dialog [name=author]", "A reader")
        page.click("dialog button:has-text('Save')")
        page.wait_for_selector(".panel[data-version='1']")
        assert "A reader" in page.locator(".versions").inner_text()
        assert "A person corrected the outline" in page.locator(".remarks").inner_text()
        page.click('.version:has-text("Network\'s result")')
        page.wait_for_selector(".panel[data-version='0']")
        page.goto(f"{server}#/")
        page.click("[aria-label^=Delete]")
        page.click("dialog button:has-text('Delete')")
        page.wait_for_selector(".drop-place.large")
        until(page, "document.querySelectorAll('tbody tr').length === 0")
