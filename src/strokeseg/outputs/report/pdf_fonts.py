"""Fonts of the PDF: which font has a letter, and what replaces a letter that no font has.

Bitstream Vera, which comes with reportlab, is embedded; it has the letters of Western Europe. Chinese, Japanese and
Korean use the fonts that the PDF format names for them (Adobe's Asian font packs), which PDF viewers supply. Any other
letter, such as "ő", loses its diacritic or becomes a question mark.
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
    """Return the style of a paragraph; words longer than a line are broken."""
    _register_vera()
    font = BOLD if bold else PLAIN
    return ParagraphStyle(f"{font} {size}", fontName=font, fontSize=size, leading=size * 1.28, textColor=colour)


def escape_markup(text: str) -> str:
    """Escape a text for reportlab's markup, and set every letter in a font that has it."""
    runs, end = [], 0
    for asian in _ASIAN.finditer(text):
        font = _KOREAN if _HANGUL.search(asian[0]) else _JAPANESE if _KANA.search(text) else _CHINESE
        _register_asian_font(font)
        runs += [
            _replace_missing_letters(text[end : asian.start()]),
            f'<font name="{font}">{escape(asian[0])}</font>',
        ]
        end = asian.end()
    return "".join([*runs, _replace_missing_letters(text[end:])])


def _replace_missing_letters(text: str) -> str:
    letters = _register_vera()
    replaced = []
    for letter in text:
        plain = "".join(part for part in unicodedata.normalize("NFKD", letter) if ord(part) in letters)
        replaced.append(letter if ord(letter) in letters else " " if letter.isspace() else plain or "?")
    return escape("".join(replaced))


@cache
def _register_vera() -> frozenset[int]:
    """Register the regular and bold Vera fonts and return the code points that both have."""
    fonts = [TTFont(PLAIN, "Vera.ttf"), TTFont(BOLD, "VeraBd.ttf")]
    for font in fonts:
        pdfmetrics.registerFont(font)
    return frozenset(set(fonts[0].face.charToGlyph) & set(fonts[1].face.charToGlyph))


@cache
def _register_asian_font(name: str) -> None:
    pdfmetrics.registerFont(UnicodeCIDFont(name))
