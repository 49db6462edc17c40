import io
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.request
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from streamlit.testing.v1 import AppTest

import chromium

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "samples"
PICTURES = sorted((SAMPLES / "ctich_081").glob("*.jpg"))[::3]


@pytest.fixture
def page(monkeypatch):
    monkeypatch.chdir(ROOT)
    return AppTest.from_file(str(ROOT / "app.py"), default_timeout=120).run()


def upload(page, *files):
    sent = [(file.name, file.read_bytes(), "") if isinstance(file, Path) else (*file, "") for file in files]
    page.file_uploader(key="files_of_scan").set_value(sent)
    return page.run()


def read_text(page):
    """Everything that the page writes, without the signs that keep it from being read as Markdown."""
    kinds = (page.warning, page.success, page.info, page.error, page.caption, page.markdown)
    return re.sub(r"\\(.)", r"\1", "\n".join(each.value for kind in kinds for each in kind))


def test_waits_for_a_scan_and_says_what_it_is_not(page):
    assert not page.exception and not page.error
    assert "not a medical device" in read_text(page)
    assert not page.metric


@pytest.mark.slow
def test_a_zip_is_answered_as_the_command_line_answers_it(page, tmp_path):
    upload(page, SAMPLES / "ge_head.zip")
    assert not page.exception
    command = [
        sys.executable,
        "-m",
        "strokeseg",
        "segment",
        SAMPLES / "ge_head.zip",
        "-o",
        tmp_path,
        "--formats",
        "json",
        "--json",
    ]
    document = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    findings = document["findings"]
    metrics = {metric.label: metric.value for metric in page.metric}
    assert metrics["Probability of hemorrhage"] == f"{findings['confidence']:.2f}"
    if findings["hemorrhage"]:
        assert metrics["Volume"] == f"{findings['volume_ml']:.1f} ml"
    for remark in document["remarks"]:
        assert remark["message"] in read_text(page)
    assert page.slider(key="slice").max == document["input"]["slices"]
    # All windows of a CT, none of which raises.
    for preset in page.get_by_key("window_4").options:
        page.get_by_key("window_4").set_value(preset)
        assert not page.run().exception


def test_pictures_have_their_slices_outline_lesions_and_remarks(page):
    upload(page, *PICTURES)
    assert not page.exception
    assert page.slider(key="slice").max == len(PICTURES)
    lesions = page.dataframe[0].value
    assert len(lesions) >= 1
    assert "Not to scale" in read_text(page)
    page.slider(key="slice").set_value(3).run()
    page.toggle(key="outline").set_value(False).run()
    assert not page.exception


@pytest.mark.slow
def test_a_known_scale_gives_millilitres_and_a_new_one_is_answered_anew(page):
    upload(page, *PICTURES)
    assert "ml" not in {m.label: m.value for m in page.metric}.get("Volume", "unknown")
    page.toggle(key="scale_known").set_value(True).run()
    first = volume(page)
    page.number_input(key="spacing_Slices").set_value(10.0).run()
    assert volume(page) == pytest.approx(2 * first, rel=0.02)


def volume(page):
    return float({m.label: m.value for m in page.metric}["Volume"].removesuffix(" ml"))


def test_the_next_scan_takes_the_first_ones_place(page):
    upload(page, *PICTURES)
    page.slider(key="slice").set_value(len(PICTURES)).run()
    upload(page, *PICTURES[:3])
    assert not page.exception
    assert page.slider(key="slice").max == 3


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("notes.txt", b"no scan at all", "unreadable"),
        ("broken.zip", b"PK\x03\x04 cut off", "unreadable"),
        ("![x](http://example.org/x.png)<b>.txt", b"", None),
        ("../../escape.nii.gz", b"\x1f\x8b", None),
    ],
)
def test_what_cannot_be_used_is_refused_in_our_words(page, name, content, code):
    upload(page, (name, content))
    assert not page.exception
    assert len(page.error) == 1
    shown = page.error[0].value
    assert "What to do:" in shown
    assert code is None or f"Code: {code}" in read_text(page)
    assert tempfile.gettempdir() not in read_text(page), "where it lay is nobody's business"
    # A file's name is text: no picture is fetched and no tag is drawn.
    assert not re.search(r"(?<!\\)[<\[!]", shown)
    assert not page.metric


def test_a_refused_scan_can_be_followed_by_a_good_one(page):
    upload(page, ("notes.txt", b"no scan at all"))
    upload(page, *PICTURES[:3])
    assert not page.error and not page.exception


def test_requirements_hold_all_that_the_page_imports():
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    lines = [line for line in lines if line]
    assert "." in lines and "-r requirements/runtime.txt" in lines
    pinned = {Requirement(line).name for line in lines if "==" in line}
    imported = set(re.findall(r"^(?:import|from) (\w+)", (ROOT / "app.py").read_text(), re.M)) - {"strokeseg", "PIL"}
    assert {name for name in imported if name not in sys.stdlib_module_names} <= pinned | {"__future__"}


def test_nothing_is_sent_elsewhere_and_only_this_machine_gets_in():
    read_text = tomllib.loads((ROOT / ".streamlit/config.toml").read_text())
    assert read_text["browser"]["gatherUsageStats"] is False
    assert read_text["server"]["address"] == "127.0.0.1"


@pytest.fixture(scope="module")
def address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app.py", f"--server.port={port}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{url}/_stcore/health", timeout=1)
                break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        server.terminate()
        server.wait(20)


@pytest.mark.browser
@pytest.mark.slow
def test_a_person_uploads_looks_and_downloads(address, tmp_path):
    from playwright.sync_api import expect

    asked = []
    with chromium.launch() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 1500})
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        page.locator("input[type=file]").set_input_files([str(path) for path in PICTURES])
        expect(page.get_by_text("Hemorrhage was detected")).to_be_visible(timeout=120_000)
        picture = page.locator("[data-testid=stImage] img").first
        first = picture.get_attribute("src")
        page.get_by_role("slider").press("ArrowRight")
        expect(picture).not_to_have_attribute("src", first, timeout=30_000)
        expect(page.locator(".js-plotly-plot canvas").first).to_be_visible(timeout=30_000)
        with page.expect_download(timeout=60_000) as download:
            page.get_by_role("button", name="Download as a zip").click()
        download.value.save_as(tmp_path / "all.zip")
        if folder := os.environ.get("STROKESEG_TEST_PICTURES"):
            page.screenshot(path=f"{folder}/app.png", full_page=True)
    with zipfile.ZipFile(io.BytesIO((tmp_path / "all.zip").read_bytes())) as archive:
        assert archive.testzip() is None
        assert {"result.json", "report.html", "mask.nii.gz"} <= set(archive.namelist())
        assert json.loads(archive.read("result.json"))["findings"]["hemorrhage"] is True
    foreign = [url for url in asked if not url.startswith((address, address.replace("http", "ws"), "data:", "blob:"))]
    assert not foreign
