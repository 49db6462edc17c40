"""The report as `report.pdf`: two A4 pages. It holds no dates or times, so the same result gives the same bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from PIL import Image
from reportlab import rl_config
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph, Table, TableStyle

from strokeseg.outputs.images.result_images import ResultImages
from strokeseg.outputs.report import wording
from strokeseg.outputs.report.pdf_fonts import BOLD, PLAIN, escape_markup, make_style
from strokeseg.outputs.report.texts import Texts, load_texts
from strokeseg.result import Remark, ResultDocument
from strokeseg.scan_options import BRAIN_WINDOW

NAME = "report.pdf"

_INK, _MUTED, _RULE = HexColor("#18212b"), HexColor("#5a6672"), HexColor("#d5dbe1")
_ALERT, _CALM = HexColor("#a3241c"), HexColor("#1d6044")
_WIDTH, _HEIGHT = A4
_MARGIN, _FOOTER_HEIGHT, _GAP = 36.0, 44.0, 10.0
_CONTENT_WIDTH = _WIDTH - 2 * _MARGIN
_FIGURES_PER_ROW = 4
_MAX_ROWS, _MAX_REMARK_LENGTH, _MAX_FACT_LENGTH, _MAX_DISCLAIMER_LENGTH = 12, 600, 120, 300
_MAX_IMAGE_SIDE = 1400
_BODY, _SMALL, _CELL = make_style(7.5), make_style(6.5, _MUTED), make_style(6.2)
_HEAD, _TITLE = make_style(6, _MUTED), make_style(15, bold=True)


@dataclass
class PageColumn:
    """A column of a page that is filled from top to bottom.

    Attributes
    ----------
    canvas : Canvas
        The document.
    free_height : float
        Height above the bottom of the page that is still free, points.
    """

    canvas: Canvas
    free_height: float

    def draw(self, item: Any, width: float = _CONTENT_WIDTH, left: float = _MARGIN, after: float = 4) -> None:
        """Draw a paragraph or table at the left edge and move below it."""
        _, height = item.wrapOn(self.canvas, width, self.free_height)
        item.drawOn(self.canvas, left, self.free_height - height)
        self.free_height -= height + after

    def draw_heading(self, text: str, width: float = _CONTENT_WIDTH, left: float = _MARGIN) -> None:
        """Draw a heading."""
        self.draw(Paragraph(escape_markup(text), make_style(9, bold=True)), width, left)


def render_pdf(document: ResultDocument, images: ResultImages, language: str = "en") -> bytes:
    """Render the report as a PDF.

    Parameters
    ----------
    document : ResultDocument
        The result; every figure and sentence comes from it. Timing and files are not shown.
    images : ResultImages
        The images of the result.
    language : str, default: "en"
        Language tag of the texts.

    Returns
    -------
    bytes
        The content of the file.
    """
    texts, buffer = load_texts(language), io.BytesIO()
    with _binary_images():
        canvas = Canvas(buffer, pagesize=A4, invariant=1, pageCompression=1, lang=language)
        canvas.setTitle(texts("page.title.positive" if document.findings.hemorrhage else "page.title.negative"))
        canvas.setAuthor(document.software)
        canvas.setSubject(texts("pdf.subject"))
        _draw_first_page(_begin_page(canvas, document, texts, 1), document, images, texts)
        canvas.showPage()
        _draw_second_page(_begin_page(canvas, document, texts, 2), document, images, texts)
        canvas.showPage()
        canvas.save()
    return buffer.getvalue()


def _draw_first_page(page: PageColumn, document: ResultDocument, images: ResultImages, texts: Texts) -> None:
    """Draw the summary, the main figures, the lesion table and the key slices."""
    findings = document.findings
    page.canvas.setFillColor(_ALERT if findings.hemorrhage else _CALM)
    page.canvas.rect(_MARGIN, page.free_height - 3, 34, 3, stroke=0, fill=1)
    page.free_height -= 10
    page.draw(Paragraph(escape_markup(wording.summarize(document, texts)), _TITLE))
    page.draw(
        Paragraph(
            escape_markup(texts("lead.positive.pdf" if findings.hemorrhage else "lead.negative")), make_style(8, _MUTED)
        ),
        after=8,
    )
    _draw_figures(page, document, texts)
    if findings.lesions:
        _draw_lesion_table(page, document, texts)
    captions = [_caption_slice(index, document, texts) for index in images.key_slices]
    pictures = list(images.key_slices.values())
    if images.midline is not None:
        pictures.append(images.midline)
        captions.append(texts("midline"))
    page.free_height -= 4
    page.draw_heading(texts("pdf.keys" if findings.lesions else "pdf.middle"))
    _draw_image_grid(page, pictures, captions)


def _draw_second_page(page: PageColumn, document: ResultDocument, images: ResultImages, texts: Texts) -> None:
    """Draw the overview images, the remarks, and the properties of model and input."""
    views, upper = images.views, 250.0
    left = _CONTENT_WIDTH if views is None else _CONTENT_WIDTH - upper * 0.86 - _GAP
    titles = [(texts("pdf.montage"), images.montage, _MARGIN, left)]
    if views is not None:
        titles.append((texts("pdf.views"), views, _MARGIN + left + _GAP, upper * 0.86))
    lowest = page.free_height
    for title, image, start, width in titles:
        column = PageColumn(page.canvas, page.free_height)
        column.draw_heading(title, width, start)
        _draw_image(column, image, width, upper, start)
        lowest = min(lowest, column.free_height)
    page.free_height = lowest - 4
    page.draw_heading(texts("pdf.planes" if document.findings.lesions else "pdf.planes.none"))
    _draw_image(page, images.lesion_planes[0], _CONTENT_WIDTH, 200.0, _MARGIN)
    notes = [texts("stack.sides"), _describe_window(texts)]
    if images.scene is not None and not images.scene.to_scale:
        notes.append(texts("scene.nominal"))
    page.draw(Paragraph(escape_markup(" ".join(notes)), _SMALL), after=8)
    _draw_remarks(PageColumn(page.canvas, page.free_height), document, texts, _CONTENT_WIDTH * 0.58)
    _draw_facts(PageColumn(page.canvas, page.free_height), document, texts, _CONTENT_WIDTH * 0.58 + 2 * _GAP)


def _draw_figures(page: PageColumn, document: ResultDocument, texts: Texts) -> None:
    cells: list[Any] = []
    for figure in wording.list_figures(document, texts):
        if figure.value is None:
            value = Paragraph(escape_markup(texts("not_measured")), make_style(8, _MUTED))
        else:
            unit = f' <font name="{PLAIN}" size="7.5" color="#5a6672">{escape_markup(figure.unit)}</font>'
            value = Paragraph(escape_markup(figure.value) + (unit if figure.unit else ""), make_style(12, bold=True))
        cells.append([Paragraph(escape_markup(figure.label), _SMALL), value])
    if not cells:
        return
    rows = [cells[start : start + _FIGURES_PER_ROW] for start in range(0, len(cells), _FIGURES_PER_ROW)]
    lines = TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP")])
    for number in range(len(cells)):
        cell = (number % _FIGURES_PER_ROW, number // _FIGURES_PER_ROW)
        lines.add("BOX", cell, cell, 0.5, _RULE)
    rows[-1] += [""] * (_FIGURES_PER_ROW - len(rows[-1]))
    page.draw(Table(rows, [_CONTENT_WIDTH / _FIGURES_PER_ROW] * _FIGURES_PER_ROW, style=lines), after=8)


def _draw_lesion_table(page: PageColumn, document: ResultDocument, texts: Texts) -> None:
    findings, columns = document.findings, wording.list_columns(document, texts)
    titles = [texts("column.lesion")]
    titles += [f"{column.title} ({column.unit})" if column.unit else column.title for column in columns]
    rows = [[Paragraph(escape_markup(title), _HEAD) for title in titles]]
    for lesion in findings.lesions[:_MAX_ROWS]:
        cells = [str(lesion.id), *(column.text(lesion) or "–" for column in columns)]
        rows.append([Paragraph(escape_markup(text), _CELL) for text in cells])
    # Only the location has several long words.
    shares = [1.5 if column.title == texts("column.location") else 1.0 for column in columns]
    unit = _CONTENT_WIDTH / (0.8 + sum(shares))
    lines = TableStyle([("LINEBELOW", (0, 0), (-1, -1), 0.4, _RULE), ("VALIGN", (0, 0), (-1, -1), "TOP")])
    for side in ("LEFTPADDING", "RIGHTPADDING"):
        lines.add(side, (0, 0), (-1, -1), 2)
    for side in ("TOPPADDING", "BOTTOMPADDING"):
        lines.add(side, (0, 0), (-1, -1), 1.5)
    page.draw(Table(rows, [0.8 * unit, *(share * unit for share in shares)], style=lines))
    notes = [texts("measures.counted"), *wording.explain_empty_cells(columns, findings, texts)]
    if (more := len(findings.lesions) - _MAX_ROWS) > 0:
        notes.insert(0, texts("pdf.rows.more", count=more))
    if findings.dropped_specks:
        notes.append(texts("measures.dropped", count=findings.dropped_specks))
    page.draw(Paragraph(escape_markup(" ".join(notes)), _SMALL))


def _draw_remarks(page: PageColumn, document: ResultDocument, texts: Texts, width: float) -> None:
    """Draw as many remarks as fit, warnings first, and the number of those left out."""
    page.draw_heading(texts("remarks"), width)
    order = {"warning": 0, "repaired": 1, "info": 2}
    ranked = sorted(document.remarks, key=lambda remark: order[remark.severity])
    room = page.free_height - _FOOTER_HEIGHT - 10  # one line is reserved for the number of remarks left out
    for count, remark in enumerate(ranked):
        item = Paragraph(_format_remark(remark, texts), _BODY)
        _, height = item.wrapOn(page.canvas, width, room)
        if height > room:
            page.draw(Paragraph(escape_markup(texts("pdf.remarks.more", count=len(ranked) - count)), _SMALL), width)
            return
        page.draw(item, width, after=2.5)
        room -= height + 2.5
    if not ranked:
        page.draw(Paragraph(escape_markup(texts("value.none")), _BODY), width)


def _format_remark(remark: Remark, texts: Texts) -> str:
    message = _truncate(remark.message, _MAX_REMARK_LENGTH)
    slices = wording.format_remark_slices(remark.slices, texts)
    tag = f'<font name="{BOLD}">{escape_markup(str(texts.translate_value(remark.severity)))}</font>'
    code = f'<font color="#5a6672">{escape_markup(remark.code)}</font>'
    return f"{tag} {escape_markup(message)} {escape_markup(slices)} {code}"


def _draw_facts(page: PageColumn, document: ResultDocument, texts: Texts, left: float) -> None:
    width = _CONTENT_WIDTH - left
    for title, facts in (("model", wording.list_model_facts), ("input", wording.list_input_facts)):
        page.draw_heading(texts(title), width, _MARGIN + left)
        rows = [
            [
                Paragraph(escape_markup(name), make_style(6.8, _MUTED)),
                Paragraph(escape_markup(_truncate(value, _MAX_FACT_LENGTH)), make_style(6.8)),
            ]
            for name, value in facts(document, texts)
        ]
        lines = TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0)])
        for side in ("TOPPADDING", "BOTTOMPADDING"):
            lines.add(side, (0, 0), (-1, -1), 0.4)
        page.draw(Table(rows, [width * 0.4, width * 0.6], style=lines), width, _MARGIN + left)


def _begin_page(canvas: Canvas, document: ResultDocument, texts: Texts, page: int) -> PageColumn:
    """Begin a page: draw its header and, in its footer, the disclaimer."""
    canvas.setFillColor(_INK)
    canvas.setFont(BOLD, 9)
    canvas.drawString(_MARGIN, _HEIGHT - 32, texts("page.brand"))
    canvas.setFont(PLAIN, 8)
    canvas.setFillColor(_MUTED)
    canvas.drawString(_MARGIN + 56, _HEIGHT - 32, texts("page.kind"))
    canvas.drawRightString(_WIDTH - _MARGIN, _HEIGHT - 32, f"{texts('research')} {texts('pdf.page', page=page)}")
    canvas.setStrokeColor(_RULE)
    canvas.line(_MARGIN, _HEIGHT - 38, _WIDTH - _MARGIN, _HEIGHT - 38)
    footer = Paragraph(
        escape_markup(f"{texts('research')} {_truncate(document.disclaimer, _MAX_DISCLAIMER_LENGTH)}"), _SMALL
    )
    footer.wrapOn(canvas, _CONTENT_WIDTH, _FOOTER_HEIGHT)
    footer.drawOn(canvas, _MARGIN, 18)
    return PageColumn(canvas, _HEIGHT - 50)


def _draw_image_grid(page: PageColumn, images: Sequence[Image.Image], captions: Sequence[str]) -> None:
    """Draw images in rows, as large as the rest of the page allows."""
    room, line = page.free_height - _FOOTER_HEIGHT, 11.0
    tallest = max(image.height / image.width for image in images)

    def width(across: int) -> float:
        rows = -(-len(images) // across)
        wide = (_CONTENT_WIDTH - (across - 1) * _GAP) / across
        return max(20.0, min(wide, (room / rows - line) / tallest))

    across = max(range(min(2, len(images)), len(images) + 1), key=width)
    for start in range(0, len(images), across):
        bottom = page.free_height
        for number, image in enumerate(images[start : start + across]):
            column, left = PageColumn(page.canvas, page.free_height), _MARGIN + number * (width(across) + _GAP)
            _draw_image(column, image, width(across), room, left, after=1)
            column.draw(Paragraph(escape_markup(captions[start + number]), _SMALL), width(across), left, after=1)
            bottom = min(bottom, column.free_height)
        page.free_height = bottom


def _draw_image(
    page: PageColumn, image: Image.Image, width: float, height: float, left: float, after: float = 4
) -> None:
    """Draw an image at the left edge, as large as fits into a width and a height."""
    scale = min(width / image.width, height / image.height)
    small = image.copy()
    small.thumbnail((_MAX_IMAGE_SIDE, _MAX_IMAGE_SIDE), Image.Resampling.BOX)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    wide, high = image.width * scale, image.height * scale
    page.canvas.drawImage(ImageReader(buffer), left, page.free_height - high, wide, high)
    page.free_height -= high + after


def _truncate(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _caption_slice(index: int, document: ResultDocument, texts: Texts) -> str:
    lesions = [lesion.id for lesion in document.findings.lesions if lesion.slices[0] <= index <= lesion.slices[1]]
    caption = f"{texts('slice.caption', number=index + 1)} {texts('slice.of', count=document.input.slices)}"
    if not lesions:
        return caption
    return f"{caption}, {texts.pluralize('slice.lesions', len(lesions), lesions=', '.join(map(str, lesions)))}"


def _describe_window(texts: Texts) -> str:
    centre, width = BRAIN_WINDOW
    return texts("pdf.windows", centre=f"{centre:g}", width=f"{width:g}")


@contextmanager
def _binary_images() -> Iterator[None]:
    """Write images as binary data while the context is open; as text they are larger and take most of the time."""
    before, rl_config.useA85 = rl_config.useA85, 0
    try:
        yield
    finally:
        rl_config.useA85 = before
