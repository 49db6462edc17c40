"""Signing in with the hospital's accounts: page, service, back to the page, and signing out."""

import chromium
from sign_in_cases import IdentityProvider
from tests.web.viewer.browser import check_access, opened
from web_process import ServerProcess

pytestmark = chromium.MARKS
RULES = """
[oidc]
issuer = "{issuer}"
client_id = "strokeseg"
client_secret_file = "secret"
public_url = "{page}"
name_claim = "preferred_username"

[[oidc.access]]
member = "neuro"
group = "stroke-unit"
"""


def test_a_person_signs_in_at_the_service_and_out(browser, tmp_path):
    (tmp_path / "secret").write_text("given by the service\n")
    rules = tmp_path / "auth.toml"
    server = ServerProcess(tmp_path, f"sqlite:///{tmp_path / 'a.db'}", "--workers", "0", "--auth-config", str(rules))
    with IdentityProvider(sub="u-17", preferred_username="anna", groups=["neuro"]) as service:
        rules.write_text(RULES.format(issuer=service.url, page=server.base))
        with server, opened(browser, f"{server.base}/") as page:
            page.click("dialog a[href$='auth/login']")
            page.wait_for_selector(".empty:has-text('No study yet')")
            assert page.url.startswith(f"{server.base}/") and "anna" in page.locator("#session").inner_text()
            cookies = {cookie["name"]: cookie for cookie in page.context.cookies()}
            assert cookies["strokeseg_session"]["httpOnly"] and cookies["strokeseg_session"]["sameSite"] == "Strict"
            page.reload()
            page.wait_for_selector(".empty:has-text('No study yet')")
            page.click("#session button")
            page.wait_for_selector("dialog a[href$='auth/login']")
            assert "strokeseg_session" not in {cookie["name"] for cookie in page.context.cookies()}
            service.claims["groups"] = ["gardeners"]
            page.click("dialog a[href$='auth/login']")
            page.wait_for_load_state()
            text = page.locator("main").inner_text()
            assert (
                "Not signed in" in text
                and "None of your groups may use this application" in text
                and "unauthorized" in text
            )
            check_access(page)
            page.screenshot(path=str(tmp_path / "refused.png"))
            page.click("main a")
            page.wait_for_selector("dialog a[href$='auth/login']")
            # The browser says of a refusal, too, that it is one; the service is asked by the browser itself.
            page.seen.errors = [error for error in page.seen.errors if "401" not in error and "403" not in error]
            page.seen.foreign = [url for url in page.seen.foreign if not url.startswith(f"{service.url}/authorize")]
