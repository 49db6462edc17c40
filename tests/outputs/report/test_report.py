"""The page: what it says, that all of it is in `result.json` or the one file of texts, and that it fetches nothing."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from phantoms.results import (
    RESULTS,
    find_unknown_numbers,
    list_known_numbers,
    make_document,
    make_lesion,
    make_planes,
    make_report_images,
    make_scan,
    make_scene,
)
from strokeseg.outputs.images import slice_images, slice_stack
from strokeseg.outputs.report import html_report
from strokeseg.outputs.report.texts import Texts, load_texts
from strokeseg.result import InputInfo, Midline, ModelInfo, Remark
from strokeseg.scan import Scan
from strokeseg.scene import Scene


class Page(HTMLParser):
    """All tags and visible texts of a page, by the standard library's own parser."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.inside, self.data = [], [], [], {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th", "dt", "dd", "li", "div"):
            self.texts.append(" ")
        if tag in ("script", "style"):
            self.inside.append(dict(attrs).get("id", tag))

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside:
            self.texts.append(data)
        else:
            self.data[self.inside[-1]] = self.data.get(self.inside[-1], "") + data

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.texts))

    @property
    def spoken(self):
        """What a screen reader says beside the text."""
        return [attrs[name] for _, attrs in self.tags for name in ("alt", "aria-label", "title") if attrs.get(name)]

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture
def case():
    scan = make_scan(make_planes(12, (0, 0, 5)), 48, 48)
    mask = np.zeros(scan.shape, dtype=bool)
    mask[3:8, 10:20, 10:20] = True
    return scan, mask


def page(scan, mask, document, meshes=None):
    return Page(html_report.render_html(document, make_report_images(scan, mask, document, meshes)))


def test_says_what_was_found_and_measured(case):
    shown_page = page(
        *case, make_document(case[0], [make_lesion(1, 3, 7), make_lesion(2, 4, 4, volume_ml=0.021)]), make_scene()
    )
    assert "Hemorrhage was detected: 2 lesions on slices 4 to 8 of 12, 12.4 ml in total." in shown_page.text
    for text in ("12.3", "13.1", "0.021", "31", "62", "0.81", "The gantry is tilted by 12 degrees."):
        assert text in shown_page.text
    for text in ("default 1.2", "5ca1ab1e5ca1", "0.42", "onnxruntime", "0.5 × 0.5 mm", "5 mm", "Research use only."):
        assert text in shown_page.text
    assert "5 of 12" in shown_page.text and "5ca1ab1e" * 2 not in shown_page.text


def test_every_slice_with_bleeding_has_its_outline_and_alternative_text(case):
    shown_page = page(*case, make_document(case[0], [make_lesion(1, 3, 7)]), make_scene())
    images = shown_page.all("img")
    assert [image["alt"].split()[2] for image in images] == ["4", "5", "6", "7", "8"]
    assert all(image["alt"].endswith("hemorrhage outlined") for image in images)
    assert [bool(path["d"]) for path in shown_page.all("path")][1:] == [True] * 5


def test_no_bleeding_is_said_with_what_it_does_not_mean(case):
    scan, mask = case
    shown_page = page(scan, mask & False, make_document(scan), Scene(None, (), True))
    assert "No hemorrhage was detected on 12 slices." in shown_page.text
    assert "This result does not exclude hemorrhage." in shown_page.text
    assert "6 of 12 slices are shown" in shown_page.text
    assert len(shown_page.all("img")) == 6 and not any(path["d"] for path in shown_page.all("path"))
    assert "No surface could be computed" in shown_page.text and [one["id"] for one in shown_page.all("canvas")] == [
        "stack-canvas"
    ]
    assert "outline-toggle" not in [one.get("id") for one in shown_page.all("input")]


def test_what_was_not_measured_has_a_dash_and_a_reason():
    scan = Scan.from_array(np.zeros((3, 40, 40)), calibrated=False, kind="pictures")
    mask = np.zeros(scan.shape, dtype=bool)
    mask[1, 5:9, 5:9] = True
    nothing = {"volume_ml": None, "abc2_ml": None, "max_diameter_mm": None, "mean_hu": None}
    shown_page = page(scan, mask, make_document(scan, [make_lesion(1, 1, 1, **nothing)]), make_scene(to_scale=False))
    assert "Hemorrhage was detected: 1 lesion on slice 2 of 3." in shown_page.text
    assert "Volume, ABC/2, Longest diameter, Sphericity: the pixel spacing is unknown." in shown_page.text
    assert "Mean density, SD of density: the grey levels of pictures are not Hounsfield units." in shown_page.text
    assert "not to scale" in shown_page.text
    assert not re.search(r"\d ?(ml|mm)\b", re.sub("30 ml or more|ABC/2 ml", "", shown_page.text))


def test_left_out_slices_are_counted():
    scan = make_scan(make_planes(80, (0, 0, 1)), 16, 16)
    shown_page = page(scan, np.ones(scan.shape, dtype=bool), make_document(scan, [make_lesion(1, 0, 79)]), None)
    assert "24 of 80 slices with hemorrhage are shown, evenly spaced; 56 are left out." in shown_page.text
    assert len(json.loads(shown_page.data["stack-data"])["pngs"]) == 80


def test_all_slices_are_there_with_their_outlines_and_words(case):
    scan, mask = case
    data = json.loads(page(scan, mask, make_document(scan, [make_lesion(1, 3, 7)]), make_scene()).data["stack-data"])
    assert [bool(path) for path in data["paths"]] == mask.any((1, 2)).tolist()
    assert data["positive"] == [3, 4, 5, 6, 7] and data["first"] in data["positive"]
    assert data["captions"][2] == "Slice 3 of 12" and data["captions"][3] == "Slice 4 of 12, lesion 1"
    table = np.array(data["hu"])
    for index, png in enumerate(data["pngs"]):
        shown = table[np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))]
        near = np.abs(scan.hu[index] - 50) <= 70
        assert np.abs(shown - scan.hu[index])[near].max() <= 0.5


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ["40.0,80.0", "75.0,280.0", "40.0,40.0", "600.0,2800.0"]),
        ({"calibrated": False, "kind": "pictures", "window": (40.0, 120.0)}, ["40.0,80.0", "40.0,120.0"]),
        ({"calibrated": False, "kind": "pictures", "window": (40.0, 80.0)}, ["40.0,80.0"]),
    ],
)
def test_pictures_have_only_the_windows_that_they_have(case, fields, expected):
    scan = make_scan(make_planes(12, (0, 0, 5)), 48, 48, **fields)
    shown_page = page(scan, case[1], make_document(scan, [make_lesion(1, 3, 7)]))
    assert [one["data-window"] for one in shown_page.all("button") if "data-window" in one] == expected
    (group,) = [one for one in shown_page.all("div") if one.get("id") == "stack-windows"]
    assert ("hidden" in group) == (len(expected) == 1)


def test_many_slices_are_drawn_smaller_and_odd_pixels_keep_their_shape(monkeypatch):
    monkeypatch.setattr(slice_stack, "_MAX_PIXELS", 40 * 64 * 128 // 4)
    scan = Scan.from_array(np.repeat(np.arange(128.0), 64 * 41).reshape(128, 64, 41).T, (1.0, 1.0, 0.5))
    mask = np.zeros(scan.shape, bool)
    mask[3, 20:30, 60:80] = True
    packed = slice_stack.encode_stack(scan, mask)
    assert packed.reduction == 3 and packed.size == (42, 21) and len(packed.pngs) == 41
    assert packed.aspect == pytest.approx(1.0)
    levels = np.asarray(Image.open(io.BytesIO(packed.pngs[3])))
    assert levels.shape == (21, 42) and packed.level_hu[levels[5, :40]] == pytest.approx(np.arange(40) * 3 + 1, abs=0.5)
    (line,) = packed.outlines[3]
    np.testing.assert_allclose(line.min(0), (60 / 3, 20 / 3), atol=0.5)


def test_the_midline_is_shown_where_it_was_measured(case):
    scan, mask = case
    document = make_document(scan, [make_lesion(1, 3, 7)])
    points = {"front_lps_mm": (-50, -65, 40), "back_lps_mm": (-50, -50, 40), "septum_lps_mm": (-48, -58, 40)}
    findings = document.findings.model_copy(
        update={"midline": Midline(slice=4, **points), "midline_shift_mm": 2.0, "midline_shift_side": "left"}
    )
    shown_page = page(scan, mask, document.model_copy(update={"findings": findings}))
    assert "2.0 mm to the left" in shown_page.text and "Slice 5. Blue: the ideal midline" in shown_page.text
    assert len(shown_page.all("figure")) == 1 and not page(scan, mask, document).all("figure")


@pytest.mark.parametrize("name", RESULTS)
def test_every_number_on_the_page_is_in_the_json(name):
    scan, mask, document = RESULTS[name]()
    shown_page = page(scan, mask, document, make_scene())
    assert not find_unknown_numbers(shown_page.text + " ".join(shown_page.spoken), document)
    assert find_unknown_numbers(shown_page.text + " 97.31", document) == ["97.31"]
    assert len(list_known_numbers(document)) > 20


def test_every_word_of_the_page_is_in_the_file_of_texts(case, monkeypatch):
    """With another language's file (every text between brackets) no word is left outside of brackets but the data's."""
    foreign = Texts("xx", {key: f"⟦{text}⟧" for key, text in load_texts().entries.items()})
    monkeypatch.setattr(html_report, "load_texts", lambda language="en": foreign)
    document = make_document(case[0], [make_lesion(1, 3, 7, side="left", place="lobar", tentorium="supratentorial")])
    shown_page = page(
        *case, document.model_copy(update={"files": {"report": "report.html", "result": "result.json"}}), make_scene()
    )
    for text in [shown_page.text, *shown_page.spoken]:
        while (shorter := re.sub(r"⟦[^⟦⟧]*⟧", " ", text)) != text:
            text = shorter
        for known in (
            document.disclaimer,
            document.remarks[0].message,
            "gantry-tilt",
            "default 1.2",
            "onnxruntime",
            "float32",
        ):
            text = text.replace(known, " ")
        for known in ("strokeseg 0.1.0", "array", "sha256", "result.json", "O", "RL", "ml", "mm", "HU"):
            text = re.sub(rf"\b{re.escape(known)}\b", " ", text)
        assert not re.search(r"[^\W\d_]", text), text


def test_every_text_is_used_and_every_language_has_them_all():
    sources = "".join(path.read_text("utf-8") for path in Path(str(report_folder().parents[1])).rglob("*.py"))
    sources += "".join(path.read_text("utf-8") for path in report_folder().glob("*.j2"))
    english = load_texts().entries
    for key in english:
        stem = re.sub(r"\.(one|other)$", "", key)
        used = f'"{key}"' in sources or f"'{key}'" in sources or f'"{stem}"' in sources
        assert used or key.startswith(("value.", "stack.window.", "time.")), key
    for path in report_folder().glob("texts.*.json"):
        other = json.loads(path.read_text("utf-8"))
        assert other.keys() == english.keys()
        for key, text in other.items():
            assert sorted(re.findall(r"{\w+}", text)) == sorted(re.findall(r"{\w+}", english[key])), key


def report_folder():
    from importlib import resources

    return resources.files("strokeseg.outputs.report") / "templates"


def test_asks_for_nothing(case):
    document = make_document(case[0], [make_lesion(1, 3, 7)])
    text = html_report.render_html(document, make_report_images(*case, document, make_scene()))
    shown_page = Page(text)
    for tag, attrs in shown_page.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            assert str(attrs.get(name, "data:")).startswith("data:"), (tag, name)
    assert not shown_page.all("link") and not shown_page.all("iframe")
    code = re.sub(r'"[A-Za-z0-9+/=]{60,}"', "", text)  # a picture's base64 may spell anything
    assert not re.search(r"https?:|//[a-z0-9-]+\.[a-z]|@import|url\(|fetch\(|XMLHttpRequest|WebSocket|sendBeacon", code)
    policy = next(meta["content"] for meta in shown_page.all("meta") if "http-equiv" in meta)
    assert "default-src 'none'" in policy


def test_whatever_the_document_holds_is_escaped(case):
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}{0}"
    info = make_document(case[0]).input
    document = make_document(
        case[0],
        [make_lesion(1, 3, 7)],
        remarks=[Remark(code=evil, severity="warning", message=evil)],
        software=evil,
        input=InputInfo(**(info.model_dump() | {"series_uid": evil})),
        model=ModelInfo(name=evil, version=evil, sha256=evil, engine=evil, precision=evil, threshold=0.5),
        files={"report": "report.html", "odd": evil},
        disclaimer=evil,
    )
    scan, mask = case
    plain = page(scan, mask, make_document(scan, [make_lesion(1, 3, 7)]), make_scene())
    shown_page = page(scan, mask, document, make_scene())
    assert len(shown_page.all("script")) == len(plain.all("script"))
    assert len(shown_page.all("img")) == len(plain.all("img"))
    assert shown_page.text.count(evil) >= 8


@pytest.mark.parametrize(("code", "mark"), [("assumed-sides", "?"), ("no-orientation", "?"), ("gantry-tilt", "")])
def test_letters_of_sides_that_are_only_assumed_carry_a_question_mark(case, code, mark):
    remark = Remark(code=code, severity="info", message="Of the sides.")
    shown_page = page(*case, make_document(case[0], [make_lesion(1, 3, 7)], remarks=[remark]), make_scene())
    assert f"R{mark}L{mark}" in shown_page.text.replace(" ", "")
    assert ("an assumption" in shown_page.text) == bool(mark)
    assert (
        shown_page.all("div")[[attrs.get("id") for attrs in shown_page.all("div")].index("scene-labels")][
            "data-uncertain"
        ]
        == mark
    )
    drawn, plain = (
        np.asarray(slice_images.draw_key_slice(scan, case[1], 5)) for scan in (case[0].with_remarks(remark), case[0])
    )
    assert np.array_equal(drawn, plain) == (not mark)
