"""Sign-in, lost connections, text from users, and accessibility."""

import pytest

import chromium
from tests.web.viewer.browser import (
    DESKTOP,
    PHONE,
    STRANGE,
    TABLET,
    check_access,
    go,
    opened,
    shown_slice,
    until,
)

pytestmark = chromium.MARKS


def test_a_lost_connection_is_said_and_comes_back(page, mock, answers):
    page.wait_for_selector("tbody tr")
    page.context.set_offline(True)
    page.wait_for_selector("#banner:has-text('No connection')")
    mock.seed("Came meanwhile", answers["small"])
    page.context.set_offline(False)
    page.wait_for_selector("tr:has-text('Came meanwhile')")
    assert not page.locator("#banner").is_visible()
    page.seen.errors = [error for error in page.seen.errors if "ERR_INTERNET_DISCONNECTED" not in error]


def test_what_others_wrote_is_shown_as_text(page, mock):
    page.wait_for_selector("tbody tr")
    assert STRANGE in page.locator("tbody").inner_text()
    go(page, mock, "#/studies/s4")
    assert page.locator("h1").inner_text() == STRANGE and page.locator("h1 img").count() == 0


def test_a_token_is_asked_for_and_a_wrong_one_refused(browser, answers, tmp_path):
    from tests.web.viewer.mock_api import Running
    from tests.web.viewer.mock_studies import Mock

    mock = Mock({}, tmp_path, token="right")
    mock.login = "api/v1/auth/login"
    running = Running(mock)
    with opened(browser, running.url) as page:
        check_access(page)
        assert page.locator("dialog a").get_attribute("href") == "api/v1/auth/login"
        page.fill("dialog [name=token]", "wrong")
        page.click("dialog button:has-text('Sign in')")
        page.wait_for_selector("dialog .problem:has-text('not known')")
        page.fill("dialog [name=token]", "right")
        page.click("dialog button:has-text('Sign in')")
        page.wait_for_selector(".empty:has-text('No study yet')")
        assert "tester" in page.locator("#session").inner_text()
        page.seen.errors = [error for error in page.seen.errors if "401" not in error]
    running.stop()


def test_studies_are_found_and_filtered(page, mock):
    page.wait_for_selector("tbody tr")
    page.fill("input[type=search]", "tuesday")
    until(page, "document.querySelectorAll('tbody tr').length === 1")
    page.fill("input[type=search]", "")
    page.click("[data-filter=refused]")
    # Other tests leave studies on the same server: refused ones, and such as failed or were cancelled.
    ended = "[data-status=refused], [data-status=failed], [data-status=cancelled]"
    until(page, f"document.querySelectorAll('tbody tr:not({ended})').length === 0")
    page.click("[data-filter='']")
    until(page, f"document.querySelectorAll('tbody tr:not({ended})').length > 1")


@pytest.mark.parametrize(("size", "scheme"), [(PHONE, "dark"), (TABLET, "light"), (DESKTOP, "dark")])
def test_axe_finds_nothing(browser, mock, size, scheme):
    with opened(browser, mock.url, size, color_scheme=scheme) as page:
        page.wait_for_selector("tbody tr")
        check_access(page)
        go(page, mock, "#/studies/s3")
        shown_slice(page)
        page.click("text=Correct the outline")
        check_access(page)
        page.click("[aria-label='Accept lesion 1']")
        page.click("text=Save as a new version")
        check_access(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
