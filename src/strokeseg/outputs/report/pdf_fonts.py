"""The letters of the PDF: which font has a letter, and what stands for one that none has.

Bitstream Vera, which comes with reportlab, is embedded and holds the letters of Western Europe. Chinese, Japanese and
Korean are written in the fonts that PDF itself names for them (Adobe's Asian font packs): a reader's program brings
these. A letter of neither, such as "ő", loses its mark, or becomes a question mark.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from xml.sax.saxutils import escape

from reportlab.lib.colors import Color, HexColor
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont

PLAIN, BOLD = "Vera", "VeraBd"
_JAPANESE, _KOREAN, _CHINESE = "HeiseiKakuGo-W5", "HYGothic-Medium", "STSong-Light"
_ASIAN = re.compile(r"[\u1100-\u11ff\u3000-\u30ff\u3130-\u318f\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]+")
_KANA, _HANGUL = re.compile(r"[\u3040-\u30ff]"), re.compile(r"[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af]")
_TEXT_COLOUR = HexColor("#18212b")


def make_style(size: float, colour: Color = _TEXT_COLOUR, *, bold: bool = False) -> ParagraphStyle:
    """Return a paragraph's style; a word that is longer than the line is broken."""
    _register_vera()
    font = BOLD if bold else PLAIN
    return ParagraphStyle(f"{font} {size}", fontName=font, fontSize=size, leading=size * 1.28, textColor=colour)


def escape_markup(text: str) -> str:
    """Return a text as reportlab's markup: nothing in it is read as such, and every letter is in a font that has it."""
    pieces, end = [], 0
    for asian in _ASIAN.finditer(text):
        font = _KOREAN if _HANGUL.search(asian[0]) else _JAPANESE if _KANA.search(text) else _CHINESE
        _register_asian_font(font)
        pieces += [
            _replace_missing_letters(text[end : asian.start()]),
            f'<font name="{font}">{escape(asian[0])}</font>',
        ]
        end = asian.end()
    return "".join([*pieces, _replace_missing_letters(text[end:])])


def _replace_missing_letters(text: str) -> str:
    letters = _register_vera()
    shown = []
    for letter in text:
        plain = "".join(part for part in unicodedata.normalize("NFKD", letter) if ord(part) in letters)
        shown.append(letter if ord(letter) in letters else " " if letter.isspace() else plain or "?")
    return escape("".join(shown))


@cache
def _register_vera() -> frozenset[int]:
    """Register both cuts of Vera, and give the letters that they have."""
    found = [TTFont(PLAIN, "Vera.ttf"), TTFont(BOLD, "VeraBd.ttf")]
    for font in found:
        pdfmetrics.registerFont(font)
    return frozenset(set(found[0].face.charToGlyph) & set(found[1].face.charToGlyph))


@cache
def _register_asian_font(name: str) -> None:
    pdfmetrics.registerFont(UnicodeCIDFont(name))
