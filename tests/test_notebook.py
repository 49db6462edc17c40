"""A result in a notebook: its own small page, rows of pandas, a widget; and the example notebook, run cell by cell."""

import builtins
import gzip
import json
import re
import runpy
from html.parser import HTMLParser
from pathlib import Path

import nibabel
import numpy as np
import pytest

from phantoms.results import RESULTS, TIMING, find_unknown_numbers, make_document, make_lesion
from strokeseg.errors import UsageError
from strokeseg.pipeline import Result
from strokeseg.result import Remark

ROOT = Path(__file__).parents[1]


def result(name="whole"):
    scan, labels, document = RESULTS[name]()
    probability = (labels > 0).astype(np.float16)
    return Result(scan, probability, labels > 0, document.findings, document.model, TIMING)


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data + " "


@pytest.mark.parametrize("name", RESULTS)
def test_shows_sentence_numbers_and_one_slice(name):
    shown = result(name)
    page = shown._repr_html_()
    tags = Tags(page)
    assert len(page) < 100_000
    assert [tag for tag, _ in tags.tags].count("img") == 1
    assert ("Hemorrhage was detected" in tags.text) == shown.findings.hemorrhage
    assert shown.document.disclaimer in tags.text
    assert not find_unknown_numbers(tags.text, shown.document)
    for tag, attrs in tags.tags:
        assert tag not in ("script", "link", "iframe", "style")
        assert not [key for key in attrs if key.startswith("on")]
        assert attrs.get("src", "data:image/jpeg").startswith("data:image/jpeg")
    assert re.search(r"slice \d+ of \d+", next(attrs["alt"] for tag, attrs in tags.tags if tag == "img"))


def test_what_the_result_holds_is_escaped():
    plain = result()
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{0}"
    scan = plain.scan.with_remarks(Remark(code="evil", severity="warning", message=evil))
    shown = Result(scan, plain.probability, plain.mask, plain.findings, plain.model, plain.timing)
    tags = Tags(shown._repr_html_())
    assert evil in tags.text and [tag for tag, _ in tags.tags].count("img") == 1
    assert "script" not in [tag for tag, _ in tags.tags]


def test_a_row_a_lesion():
    pandas = pytest.importorskip("pandas")
    frame = result().to_frame()
    assert frame.index.tolist() == [1, 2] and frame.index.name == "id"
    assert frame.loc[1, "volume_ml"] == 12.34 and frame.loc[2, "volume_ml"] == 0.213
    assert frame[["first_slice", "last_slice"]].values.tolist() == [[3, 7], [9, 9]]
    assert frame.loc[1, "p_subdural"] == 0.71 and pandas.isna(frame.loc[2, "p_subdural"])
    assert frame.loc[1, "side"] == "left" and pandas.isna(frame.loc[2, "mean_hu"]) == (
        result().findings.lesions[1].mean_hu is None
    )


def test_no_lesion_no_row_but_the_columns():
    pytest.importorskip("pandas")
    frame = result("none").to_frame()
    assert len(frame) == 0 and {"volume_ml", "first_slice", "centroid_z_mm"} <= set(frame.columns)


def test_places_are_told_by_axis():
    pytest.importorskip("pandas")
    scan, labels, _ = RESULTS["whole"]()
    document = make_document(scan, [make_lesion(1, 3, 7, centroid_lps_mm=(1.0, -2.0, 3.5))])
    frame = Result(scan, labels.astype(np.float16), labels > 0, document.findings, document.model, TIMING).to_frame()
    assert frame.filter(like="centroid").iloc[0].to_dict() == {
        "centroid_x_mm": 1.0,
        "centroid_y_mm": -2.0,
        "centroid_z_mm": 3.5,
    }


def test_the_widget_holds_the_scan_and_its_lesions():
    pytest.importorskip("ipyniivue")
    shown = result()
    widget = shown.view()
    ct, lesions = (nibabel.Nifti1Image.from_bytes(gzip.decompress(one.data)) for one in widget.volumes)
    assert ct.shape == lesions.shape == shown.scan.shape[::-1]
    np.testing.assert_array_equal(np.asarray(ct.dataobj).T, shown.scan.hu)
    np.testing.assert_array_equal(np.asarray(lesions.dataobj).T > 0, shown.mask)
    assert (widget.volumes[0].cal_min, widget.volumes[0].cal_max) == (0, 80)


@pytest.mark.parametrize(("package", "call"), [("pandas", "to_frame"), ("ipyniivue", "view")])
def test_a_missing_package_is_named_with_what_to_do(monkeypatch, package, call):
    whole = builtins.__import__

    def without(name, *arguments, **options):
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return whole(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError) as caught:
        getattr(result(), call)()
    assert package in caught.value.message and "pip install 'strokeseg[notebook]'" in caught.value.remedy


@pytest.mark.slow
def test_the_example_notebook_runs_and_shows_what_it_shows(monkeypatch):
    pytest.importorskip("pandas")
    pytest.importorskip("ipyniivue")
    path = ROOT / "examples/notebook.ipynb"
    assert path.stat().st_size < 300_000
    stored, again = (json.loads(path.read_text("utf-8")) for _ in range(2))
    assert stored["nbformat"] == 4
    monkeypatch.chdir(path.parent)
    space = runpy.run_path(str(ROOT / "tools/run_notebook.py"))["run"](again)
    assert space["result"].findings.hemorrhage and len(space["table"]) > 0
    for before, now in zip(stored["cells"], again["cells"], strict=True):
        # The numbers that are shown are those of this run, but for a rounding of the processor's.
        document, numbers_now = (numbers(json.dumps(cell.get("outputs", []))) for cell in (before, now))
        assert document == pytest.approx(numbers_now, rel=0.02, abs=0.02), before["source"]


def numbers(text):
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]
