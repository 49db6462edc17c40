"""The report as `report.pdf`: two pages of A4. The same result gives the same bytes: no date and no times are in it."""

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

from strokeseg.result import Remark, ResultDocument
from strokeseg.write import pictures, texts, wording
from strokeseg.write.fonts import BOLD, PLAIN, marked, style
from strokeseg.write.gallery import Gallery
from strokeseg.write.texts import Texts

NAME = "report.pdf"

_INK, _MUTED, _RULE = HexColor("#18212b"), HexColor("#5a6672"), HexColor("#d5dbe1")
_ALERT, _CALM = HexColor("#a3241c"), HexColor("#1d6044")
_WIDTH, _HEIGHT = A4
_MARGIN, _FOOT, _GAP = 36.0, 44.0, 10.0
_INNER = _WIDTH - 2 * _MARGIN
_FIGURES_ACROSS = 4
_MOST_ROWS, _MOST_LETTERS, _MOST_OF_A_FACT, _MOST_BELOW = 12, 600, 120, 300
_MOST_PIXELS = 1400
_BODY, _SMALL, _CELL = style(7.5), style(6.5, _MUTED), style(6.2)
_HEAD, _TITLE = style(6, _MUTED), style(15, bold=True)


@dataclass
class Sheet:
    """A page in the making: everything is put below what is there. ``top`` is the height that is still free."""

    canvas: Canvas
    top: float

    def put(self, item: Any, width: float = _INNER, left: float = _MARGIN, after: float = 4) -> None:
        """Draw a paragraph or table at the left edge, and go below it."""
        _, height = item.wrapOn(self.canvas, width, self.top)
        item.drawOn(self.canvas, left, self.top - height)
        self.top -= height + after

    def heading(self, text: str, width: float = _INNER, left: float = _MARGIN) -> None:
        """Write a heading."""
        self.put(Paragraph(marked(text), style(9, bold=True)), width, left)


def render(document: ResultDocument, gallery: Gallery, language: str = "en") -> bytes:
    """Make the PDF.

    Parameters
    ----------
    document : the result; every figure and sentence comes from it. Its timing and files are not shown
    gallery : the result's pictures
    language : of the words

    Returns
    -------
    The file's bytes
    """
    say, written = texts.load(language), io.BytesIO()
    with _binary():
        canvas = Canvas(written, pagesize=A4, invariant=1, pageCompression=1, lang=language)
        canvas.setTitle(say("page.title.found" if document.findings.hemorrhage else "page.title.none"))
        canvas.setAuthor(document.software)
        canvas.setSubject(say("pdf.subject"))
        _first(_sheet(canvas, document, say, 1), document, gallery, say)
        canvas.showPage()
        _second(_sheet(canvas, document, say, 2), document, gallery, say)
        canvas.showPage()
        canvas.save()
    return written.getvalue()


def _first(sheet: Sheet, document: ResultDocument, gallery: Gallery, say: Texts) -> None:
    """What was found: sentence, figures, table, key pictures."""
    found = document.findings
    sheet.canvas.setFillColor(_ALERT if found.hemorrhage else _CALM)
    sheet.canvas.rect(_MARGIN, sheet.top - 3, 34, 3, stroke=0, fill=1)
    sheet.top -= 10
    sheet.put(Paragraph(marked(wording.summary(document, say)), _TITLE))
    sheet.put(Paragraph(marked(say("lead.found.pdf" if found.hemorrhage else "lead.none")), style(8, _MUTED)), after=8)
    _figures(sheet, document, say)
    if found.lesions:
        _lesions(sheet, document, say)
    captions = [_named(index, document, say) for index in gallery.keys]
    images = list(gallery.keys.values())
    if gallery.midline is not None:
        images.append(gallery.midline)
        captions.append(say("midline"))
    sheet.top -= 4
    sheet.heading(say("pdf.keys" if found.lesions else "pdf.middle"))
    _grid(sheet, images, captions)


def _second(sheet: Sheet, document: ResultDocument, gallery: Gallery, say: Texts) -> None:
    """All of it in pictures, what is to be known, and who answered."""
    views, upper = gallery.views, 250.0
    left = _INNER if views is None else _INNER - upper * 0.86 - _GAP
    titles = [(say("pdf.montage"), gallery.montage, _MARGIN, left)]
    if views is not None:
        titles.append((say("pdf.views"), views, _MARGIN + left + _GAP, upper * 0.86))
    lowest = sheet.top
    for title, image, start, width in titles:
        column = Sheet(sheet.canvas, sheet.top)
        column.heading(title, width, start)
        _picture(column, image, width, upper, start)
        lowest = min(lowest, column.top)
    sheet.top = lowest - 4
    sheet.heading(say("pdf.planes" if document.findings.lesions else "pdf.planes.none"))
    _picture(sheet, gallery.planes[0], _INNER, 200.0, _MARGIN)
    notes = [say("stack.sides"), _window(say)]
    if gallery.scene is not None and not gallery.scene.to_scale:
        notes.append(say("scene.nominal"))
    sheet.put(Paragraph(marked(" ".join(notes)), _SMALL), after=8)
    _remarks(Sheet(sheet.canvas, sheet.top), document, say, _INNER * 0.58)
    _facts(Sheet(sheet.canvas, sheet.top), document, say, _INNER * 0.58 + 2 * _GAP)


def _figures(sheet: Sheet, document: ResultDocument, say: Texts) -> None:
    cells: list[Any] = []
    for figure in wording.figures(document, say):
        if figure.value is None:
            value = Paragraph(marked(say("not_measured")), style(8, _MUTED))
        else:
            unit = f' <font name="{PLAIN}" size="7.5" color="#5a6672">{marked(figure.unit)}</font>'
            value = Paragraph(marked(figure.value) + (unit if figure.unit else ""), style(12, bold=True))
        cells.append([Paragraph(marked(figure.label), _SMALL), value])
    if not cells:
        return
    rows = [cells[start : start + _FIGURES_ACROSS] for start in range(0, len(cells), _FIGURES_ACROSS)]
    lines = TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP")])
    for number in range(len(cells)):
        place = (number % _FIGURES_ACROSS, number // _FIGURES_ACROSS)
        lines.add("BOX", place, place, 0.5, _RULE)
    rows[-1] += [""] * (_FIGURES_ACROSS - len(rows[-1]))
    sheet.put(Table(rows, [_INNER / _FIGURES_ACROSS] * _FIGURES_ACROSS, style=lines), after=8)


def _lesions(sheet: Sheet, document: ResultDocument, say: Texts) -> None:
    found, columns = document.findings, wording.columns(document, say)
    titles = [say("column.region")]
    titles += [f"{column.title} ({column.unit})" if column.unit else column.title for column in columns]
    rows = [[Paragraph(marked(title), _HEAD) for title in titles]]
    for lesion in found.lesions[:_MOST_ROWS]:
        given = [str(lesion.id), *(column.text(lesion) or "–" for column in columns)]
        rows.append([Paragraph(marked(text), _CELL) for text in given])
    # The place is the only cell of several long words.
    shares = [1.5 if column.title == say("column.place") else 1.0 for column in columns]
    unit = _INNER / (0.8 + sum(shares))
    lines = TableStyle([("LINEBELOW", (0, 0), (-1, -1), 0.4, _RULE), ("VALIGN", (0, 0), (-1, -1), "TOP")])
    for side in ("LEFTPADDING", "RIGHTPADDING"):
        lines.add(side, (0, 0), (-1, -1), 2)
    for side in ("TOPPADDING", "BOTTOMPADDING"):
        lines.add(side, (0, 0), (-1, -1), 1.5)
    sheet.put(Table(rows, [0.8 * unit, *(share * unit for share in shares)], style=lines))
    notes = [say("measures.counted"), *wording.reasons(columns, found, say)]
    if (more := len(found.lesions) - _MOST_ROWS) > 0:
        notes.insert(0, say("pdf.rows.more", count=more))
    if found.dropped_specks:
        notes.append(say("measures.dropped", count=found.dropped_specks))
    sheet.put(Paragraph(marked(" ".join(notes)), _SMALL))


def _remarks(sheet: Sheet, document: ResultDocument, say: Texts, width: float) -> None:
    """Write as many remarks as there is room for, warnings first, and how many are left."""
    sheet.heading(say("remarks"), width)
    order = {"warning": 0, "repaired": 1, "info": 2}
    ranked = sorted(document.remarks, key=lambda remark: order[remark.severity])
    room = sheet.top - _FOOT - 10  # a line is kept for what is left
    for written, remark in enumerate(ranked):
        item = Paragraph(_remark(remark, say), _BODY)
        _, height = item.wrapOn(sheet.canvas, width, room)
        if height > room:
            sheet.put(Paragraph(marked(say("pdf.remarks.more", count=len(ranked) - written)), _SMALL), width)
            return
        sheet.put(item, width, after=2.5)
        room -= height + 2.5
    if not ranked:
        sheet.put(Paragraph(marked(say("value.none")), _BODY), width)


def _remark(remark: Remark, say: Texts) -> str:
    message = _short(remark.message, _MOST_LETTERS)
    slices = wording.remarked_slices(remark.slices, say)
    tag = f'<font name="{BOLD}">{marked(str(say.value(remark.severity)))}</font>'
    return f'{tag} {marked(message)} {marked(slices)} <font color="#5a6672">{marked(remark.code)}</font>'


def _facts(sheet: Sheet, document: ResultDocument, say: Texts, left: float) -> None:
    width = _INNER - left
    for title, facts in (("model", wording.model_facts), ("input", wording.input_facts)):
        sheet.heading(say(title), width, _MARGIN + left)
        rows = [
            [Paragraph(marked(name), style(6.8, _MUTED)), Paragraph(marked(_short(value, _MOST_OF_A_FACT)), style(6.8))]
            for name, value in facts(document, say)
        ]
        lines = TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP"), ("LEFTPADDING", (0, 0), (-1, -1), 0)])
        for side in ("TOPPADDING", "BOTTOMPADDING"):
            lines.add(side, (0, 0), (-1, -1), 0.4)
        sheet.put(Table(rows, [width * 0.4, width * 0.6], style=lines), width, _MARGIN + left)


def _sheet(canvas: Canvas, document: ResultDocument, say: Texts, page: int) -> Sheet:
    """Begin a page: what it is above, and what it is not below."""
    canvas.setFillColor(_INK)
    canvas.setFont(BOLD, 9)
    canvas.drawString(_MARGIN, _HEIGHT - 32, say("page.brand"))
    canvas.setFont(PLAIN, 8)
    canvas.setFillColor(_MUTED)
    canvas.drawString(_MARGIN + 56, _HEIGHT - 32, say("page.kind"))
    canvas.drawRightString(_WIDTH - _MARGIN, _HEIGHT - 32, f"{say('research')} {say('pdf.page', page=page)}")
    canvas.setStrokeColor(_RULE)
    canvas.line(_MARGIN, _HEIGHT - 38, _WIDTH - _MARGIN, _HEIGHT - 38)
    said = Paragraph(marked(f"{say('research')} {_short(document.disclaimer, _MOST_BELOW)}"), _SMALL)
    said.wrapOn(canvas, _INNER, _FOOT)
    said.drawOn(canvas, _MARGIN, 18)
    return Sheet(canvas, _HEIGHT - 50)


def _grid(sheet: Sheet, images: Sequence[Image.Image], captions: Sequence[str]) -> None:
    """Lay pictures in rows, as large as the rest of the page lets them be."""
    room, line = sheet.top - _FOOT, 11.0
    tallest = max(image.height / image.width for image in images)

    def width(across: int) -> float:
        rows = -(-len(images) // across)
        wide = (_INNER - (across - 1) * _GAP) / across
        return max(20.0, min(wide, (room / rows - line) / tallest))

    across = max(range(min(2, len(images)), len(images) + 1), key=width)
    for start in range(0, len(images), across):
        bottom = sheet.top
        for place, image in enumerate(images[start : start + across]):
            column, left = Sheet(sheet.canvas, sheet.top), _MARGIN + place * (width(across) + _GAP)
            _picture(column, image, width(across), room, left, after=1)
            column.put(Paragraph(marked(captions[start + place]), _SMALL), width(across), left, after=1)
            bottom = min(bottom, column.top)
        sheet.top = bottom


def _picture(sheet: Sheet, image: Image.Image, width: float, height: float, left: float, after: float = 4) -> None:
    """Draw a picture as large as it fits into a width and a height, at the left edge."""
    scale = min(width / image.width, height / image.height)
    small = image.copy()
    small.thumbnail((_MOST_PIXELS, _MOST_PIXELS), Image.Resampling.BOX)
    packed = io.BytesIO()
    small.save(packed, "JPEG", quality=85)
    wide, high = image.width * scale, image.height * scale
    sheet.canvas.drawImage(ImageReader(packed), left, sheet.top - high, wide, high)
    sheet.top -= high + after


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _named(index: int, document: ResultDocument, say: Texts) -> str:
    inside = [one.id for one in document.findings.lesions if one.slices[0] <= index <= one.slices[1]]
    named = f"{say('slice.caption', number=index + 1)} {say('slice.of', count=document.input.slices)}"
    if not inside:
        return named
    return f"{named}, {say.count('slice.regions', len(inside), regions=', '.join(map(str, inside)))}"


def _window(say: Texts) -> str:
    centre, width = pictures.WINDOW
    return say("pdf.windows", centre=f"{centre:g}", width=f"{width:g}")


@contextmanager
def _binary() -> Iterator[None]:
    """Let reportlab write pictures as they are: as text they are a quarter larger, and take most of the time."""
    before, rl_config.useA85 = rl_config.useA85, 0
    try:
        yield
    finally:
        rl_config.useA85 = before
