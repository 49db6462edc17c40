import pytest

import chromium
from tests.web.viewer import results
from tests.web.viewer.browser import STRANGE, opened


@pytest.fixture(scope="session")
def answers():
    scaled = results.pictures()
    return {
        "scaled": scaled,
        "plain": results.without_scale(scaled),
        "small": results.drawn(scaled, 11),
        "big": results.drawn(scaled, 17),
    }


@pytest.fixture(scope="session")
def mock(answers, tmp_path_factory):
    from tests.web.viewer.mock_api import Running
    from tests.web.viewer.mock_studies import Mock

    mock = Mock({".zip": answers["scaled"], ".jpg": answers["plain"]}, tmp_path_factory.mktemp("viewer"), step_s=0.1)
    mock.seed("Tuesday night", answers["small"], 90000)
    mock.seed("Follow-up", answers["big"], 3600)
    mock.seed("Folder 081", answers["scaled"], 200)
    mock.seed(STRANGE, answers["plain"], 100)
    running = Running(mock)
    mock.url = running.url
    yield mock
    running.stop()


@pytest.fixture(scope="module")
def browser():
    """A browser of each module: Playwright allows one at a time, and other tests need their own."""
    with chromium.launch() as browser:
        yield browser


@pytest.fixture
def page(browser, mock):
    with opened(browser, mock.url) as page:
        yield page
