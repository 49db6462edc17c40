"""`report.pdf`: read back by pypdf and drawn by pdfium, neither of which made it."""

import io
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import pypdf
import pypdfium2
import pytest

from phantoms import dicom_series
from phantoms.results import (
    RESULTS,
    TIMING,
    find_unknown_numbers,
    make_document,
    make_lesion,
    make_planes,
    make_report_images,
    make_scan,
    make_scene,
)
from strokeseg import outputs
from strokeseg.outputs import dicom
from strokeseg.outputs.report import pdf_fonts, pdf_report
from strokeseg.result import Remark

_FOOT = pdf_report._FOOTER_HEIGHT


@cache
def make_pdf(name):
    scan, labels, document = RESULTS[name]()
    return document, pdf_report.render_pdf(
        document, make_report_images(scan, labels, document, make_scene(to_scale=scan.spacing_known))
    )


def text(data):
    pages = pypdf.PdfReader(io.BytesIO(data)).pages
    return re.sub(r"\s+", " ", " ".join(page.extract_text() for page in pages))


@pytest.mark.parametrize("name", RESULTS)
def test_two_pages_say_what_the_json_says_and_no_other_number(name):
    document, data = make_pdf(name)
    assert len(pypdf.PdfReader(io.BytesIO(data)).pages) == 2
    words = text(data)
    start = "Hemorrhage was detected" if document.findings.hemorrhage else "No hemorrhage was detected"
    assert start in words and words.count(document.disclaimer) == 2
    assert document.model.sha256[:12] in words and "default 1.2" in words
    assert not find_unknown_numbers(words, document)
    for remark in document.remarks[:1]:
        assert remark.message[:40] in words


@pytest.mark.parametrize("name", RESULTS)
def test_nothing_runs_into_the_foot_or_off_the_page(name):
    document, data = make_pdf(name)
    foot = document.disclaimer.split()[-1]
    for page in pypdfium2.PdfDocument(data):
        letters, (width, height) = page.get_textpage(), page.get_size()
        assert letters.get_text_range().rstrip().endswith(foot) or foot in letters.get_text_range()
        boxes = np.array([letters.get_charbox(index) for index in range(letters.count_chars())])
        inside = boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
        assert (inside[:, 0] >= 35).all() and (inside[:, 2] <= width - 30).all() and (inside[:, 3] < height - 20).all()
        assert not ((inside[:, 1] < _FOOT - 6) & (inside[:, 3] > _FOOT - 6)).any()
        # The disclaimer is all that stands below: no remark, caption or cell of a table.
        below = inside[inside[:, 3] <= _FOOT - 6]
        assert 0 < len(below) <= len(f"Research use only. {document.disclaimer}")
        for picture in page.get_objects(filter=[3]):
            left, bottom, right, top = picture.get_bounds()
            assert left >= 35 and right <= width - 35 and bottom >= _FOOT - 10 and top < height - 40


def test_the_same_result_gives_the_same_bytes_in_another_process_too():
    document, data = make_pdf("whole")
    later = document.model_copy(update={"timing_s": document.timing_s.model_copy(update={"total": 99.0})})
    scan, labels, _ = RESULTS["whole"]()
    assert pdf_report.render_pdf(later, make_report_images(scan, labels, document, make_scene())) == data
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]\n"
        "from phantoms.results import RESULTS, make_report_images, make_scene\n"
        "from strokeseg.outputs.report import pdf_report\n"
        "scan, labels, document = RESULTS['whole']()\n"
        "images = make_report_images(scan, labels, document, make_scene())\n"
        "sys.stdout.buffer.write(pdf_report.render_pdf(document, images))"
    )
    folder = str(Path(__file__).parents[2])
    again = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, check=True).stdout
    assert again == data


def test_more_than_fits_is_counted():
    _, data = make_pdf("many")
    words = text(data)
    assert "12 more in result.json." in words  # of 24 lesions
    (left,) = re.findall(r"(\d+) more in result\.json", words.split("Remarks")[1])
    assert words.count("long-") + int(left) == 9 and int(left) > 0
    assert "…" in words


def test_letters_of_all_kinds_are_right():
    _, data = make_pdf("many")
    words = text(data)
    for word in ("頭部", "Zürich", "<b>", "</b>", "출혈" if "출혈" in words else "두부", "出血", "&"):
        assert word in words, word
    assert pdf_fonts.escape_markup("<b>&") == "&lt;b&gt;&amp;"
    assert pdf_fonts.escape_markup("ő → \x07") == "o ? ?"
    assert (
        "STSong" in pdf_fonts.escape_markup("头部")
        and "Heisei" in pdf_fonts.escape_markup("頭のCT")
        and "HYGothic" in pdf_fonts.escape_markup("두부")
    )


def test_the_fonts_of_western_letters_are_embedded():
    _, data = make_pdf("whole")
    embedded = {}
    for page in pypdf.PdfReader(io.BytesIO(data)).pages:
        for font in page["/Resources"]["/Font"].values():
            name, described = font["/BaseFont"], font.get("/FontDescriptor", {})
            embedded[name.partition("+")[2] or name] = "/FontFile2" in described
    used = {name: there for name, there in embedded.items() if "Vera" in name}
    assert len(used) == 2 and all(used.values())


def test_what_has_no_scale_says_so_and_gives_no_millimetres():
    _, data = make_pdf("pictures")
    words = text(data)
    assert "Not to scale" in words and not re.search(r"\d ?(ml|mm)\b", words.replace("30 ml or more", ""))


def yellow(picture):
    red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB")).astype(int), -1, 0)
    return (red > 170) & (green > 130) & (blue < 110)


def test_the_pages_show_the_outline_where_there_is_bleeding():
    grey = np.full((12, 96, 96), 30, np.int16)
    scan = make_scan(make_planes(12, (0, 0, 5)), 96, 96)
    scan.hu[:] = grey
    labels = np.zeros(scan.shape, np.int32)
    labels[3:8, 40:60, 40:60] = 1
    for mask, lesions in ((labels, [make_lesion(1, 3, 7)]), (labels * 0, [])):
        document = make_document(scan, lesions)
        data = pdf_report.render_pdf(document, make_report_images(scan, mask, document, make_scene()))
        for page in pypdfium2.PdfDocument(data):
            assert yellow(page.render(scale=2).to_pil()).any() == bool(lesions)


def test_a_huge_disclaimer_and_endless_words_stay_on_the_page():
    scan, labels, document = RESULTS["whole"]()
    document = document.model_copy(
        update={
            "remarks": [Remark(code="c" * 90, severity="warning", message="W" * 3000)],
            "disclaimer": "d " * 2000,
            "model": document.model.model_copy(update={"name": "M" * 900, "version": "頭" * 300}),
            "software": "s" * 500,
        }
    )
    assert (
        len(
            pypdf.PdfReader(
                io.BytesIO(pdf_report.render_pdf(document, make_report_images(scan, labels, document)))
            ).pages
        )
        == 2
    )


@pytest.mark.parametrize("blood", [True, False])
def test_as_a_dicom_object_it_is_the_same_file_in_the_same_study(tmp_path, blood):
    _, scan = dicom_series.read_cached("tilted")
    labels = dicom_series.label_lesion(scan) * blood
    document = dicom_series.make_document(scan, labels)
    uids = []
    for out in (tmp_path / "1", tmp_path / "2"):
        formats = ("pdf", "pdf-dicom", "seg", "sr")
        done = outputs.save(
            out, document, scan, labels > 0, labels, lambda: (make_scene(), []), formats, lambda: TIMING
        )
        assert {"report.pdf", "report_pdf.dcm"} <= {path.name for path in out.iterdir()} == set(done.files.values())
        held = pydicom.dcmread(out / "report_pdf.dcm")
        data = (out / "report.pdf").read_bytes()
        assert held.EncapsulatedDocument[: held.EncapsulatedDocumentLength] == data
        assert dicom_series.list_errors(out / "report_pdf.dcm") == []
        assert held.StudyInstanceUID == pydicom.dcmread(out / "sr.dcm").StudyInstanceUID
        # What is said of the DICOM objects is said in the PDF too.
        assert ("DICOM has no empty segmentation" in text(data)) == (not blood)
        uids.append(held.SOPInstanceUID)
    assert uids[0] == uids[1] and "pdf-dicom" in dicom.FORMATS
