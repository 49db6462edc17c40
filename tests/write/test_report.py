import base64
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from strokeseg.result import InputInfo, ModelInfo, Remark, Scene
from strokeseg.scan import Scan
from strokeseg.write import pictures, report
from write_cases import document, lesion, planes, scan_of, scene


class Page(HTMLParser):
    """All tags and visible texts of a page, by the standard library's own parser."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.inside = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside:
            self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.texts))

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture
def case():
    scan = scan_of(planes(12, (0, 0, 5)), 48, 48)
    mask = np.zeros(scan.shape, dtype=bool)
    mask[3:8, 10:20, 10:20] = True
    return scan, mask


def page(scan, mask, made, meshes=None):
    return Page(report.html(made, pictures.for_report(scan, mask), meshes))


def test_says_what_was_found_and_measured(case):
    seen = page(*case, document(case[0], [lesion(1, 3, 7), lesion(2, 4, 4, volume_ml=0.021)]), scene())
    assert "Bleeding was found: 2 regions on slices 4 to 8 of 12, 12.4 ml in all." in seen.text
    for text in ("12.3", "13.1", "0.021", "31", "62", "0.81", "The gantry is tilted by 12 degrees."):
        assert text in seen.text
    for text in ("default 1.2", "5ca1ab1e5ca1", "0.42", "onnxruntime", "0.5 × 0.5 mm", "5 mm", "Research use only."):
        assert text in seen.text
    assert "5ca1ab1e" * 2 not in seen.text


def test_every_slice_with_bleeding_has_its_outline_and_alternative_text(case):
    seen = page(*case, document(case[0], [lesion(1, 3, 7)]), scene())
    images = seen.all("img")
    assert [image["alt"].split()[2] for image in images] == ["4", "5", "6", "7", "8"]
    assert all(image["alt"].endswith("bleeding outlined") for image in images)
    assert [bool(path["d"]) for path in seen.all("path")] == [True] * 5


def test_no_bleeding_is_said_with_what_it_does_not_mean(case):
    scan, mask = case
    seen = page(scan, mask & False, document(scan), Scene(None, (), True))
    assert "No bleeding was found on 12 slices." in seen.text
    assert "This does not mean that there is none." in seen.text
    assert "6 of 12 slices are shown" in seen.text
    assert len(seen.all("img")) == 6 and not any(path["d"] for path in seen.all("path"))
    assert "No surface could be drawn" in seen.text and not seen.all("canvas")


def test_what_was_not_measured_has_a_dash_and_a_reason():
    scan = Scan.from_array(np.zeros((3, 40, 40)), calibrated=False, kind="pictures")
    mask = np.zeros(scan.shape, dtype=bool)
    mask[1, 5:9, 5:9] = True
    nothing = {"volume_ml": None, "abc2_ml": None, "max_diameter_mm": None, "mean_hu": None}
    seen = page(scan, mask, document(scan, [lesion(1, 1, 1, **nothing)]), scene(to_scale=False))
    assert "Bleeding was found: 1 region on slice 2 of 3." in seen.text
    assert "Volume, ABC/2, Longest diameter: the pixel spacing is not known." in seen.text
    assert "Mean density: the grey levels of pictures are no Hounsfield units." in seen.text
    assert "not to scale" in seen.text
    assert not re.search(r"\d ?(ml|mm)\b", seen.text)


def test_left_out_slices_are_counted():
    scan = scan_of(planes(80, (0, 0, 1)), 16, 16)
    seen = page(scan, np.ones(scan.shape, dtype=bool), document(scan, [lesion(1, 0, 79)]), None)
    assert "60 of 80 slices with bleeding are shown, evenly chosen; 20 are left out." in seen.text


def test_asks_for_nothing(case):
    text = report.html(document(case[0], [lesion(1, 3, 7)]), pictures.for_report(*case), scene())
    seen = Page(text)
    for tag, attrs in seen.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            assert str(attrs.get(name, "data:")).startswith("data:"), (tag, name)
    assert not seen.all("link") and not seen.all("iframe")
    assert not re.search(r"https?:|//[a-z0-9-]+\.[a-z]|@import|url\(|fetch\(|XMLHttpRequest|WebSocket|sendBeacon", text)
    policy = next(meta["content"] for meta in seen.all("meta") if "http-equiv" in meta)
    assert "default-src 'none'" in policy


def test_whatever_the_document_holds_is_escaped(case):
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}"
    info = document(case[0]).input
    made = document(
        case[0],
        [lesion(1, 3, 7)],
        remarks=[Remark(code=evil, severity="warning", message=evil)],
        software=evil,
        input=InputInfo(**(info.model_dump() | {"series_uid": evil})),
        model=ModelInfo(name=evil, version=evil, sha256=evil, engine=evil, precision=evil, threshold=0.5),
        files={"report": "report.html", "odd": evil},
        disclaimer=evil,
    )
    scan, mask = case
    plain = page(scan, mask, document(scan, [lesion(1, 3, 7)]), scene())
    seen = page(scan, mask, made, scene())
    assert len(seen.all("script")) == len(plain.all("script"))
    assert len(seen.all("img")) == len(plain.all("img"))
    assert seen.text.count(evil) >= 8


def test_pictures_are_jpegs_and_the_file_stays_small(case):
    text = report.html(document(case[0], [lesion(1, 3, 7)]), pictures.for_report(*case), scene())
    for uri in (image["src"] for image in Page(text).all("img")):
        assert base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))[:3] == b"\xff\xd8\xff"
    assert len(text) < 2_000_000


@pytest.mark.parametrize(("code", "doubt"), [("assumed-sides", "?"), ("no-orientation", "?"), ("gantry-tilt", "")])
def test_letters_of_sides_that_are_only_assumed_carry_a_question_mark(case, code, doubt):
    remark = Remark(code=code, severity="info", message="Of the sides.")
    seen = page(*case, document(case[0], [lesion(1, 3, 7)], remarks=[remark]), scene())
    assert f"R{doubt}L{doubt}" in seen.text.replace(" ", "")
    assert ("an assumption" in seen.text) == bool(doubt)
    assert seen.all("div")[[attrs.get("id") for attrs in seen.all("div")].index("scene-labels")]["data-doubt"] == doubt
    drawn, plain = (
        np.asarray(pictures.key_picture(scan, case[1], 5)) for scan in (case[0].with_remarks(remark), case[0])
    )
    assert np.array_equal(drawn, plain) == (not doubt)
