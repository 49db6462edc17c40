"""All text of the report, the PDF and the notebook view: `templates/texts.LANGUAGE.json`.

To add a language, add a file with the same keys; no other file contains sentences. Text from `result.json` (remarks,
the disclaimer) is shown unchanged.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class Texts:
    """The texts of one language.

    Attributes
    ----------
    language : str
        Language tag as in HTML, such as "en".
    entries : dict of str to str
        Text by key; ``{name}`` in a text is a placeholder.
    """

    language: str
    entries: dict[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """Return a text with its placeholders filled in.

        Raises
        ------
        KeyError
            If the language has no such key, or a value is missing.
        """
        return self.entries[key].format(**values)

    def pluralize(self, key: str, count: int, **values: object) -> str:
        """Return the text for one thing (`KEY.one`) or for any other number of things (`KEY.other`)."""
        return self(f"{key}.one" if count == 1 else f"{key}.other", count=count, **values)

    def translate_value(self, name: str | None) -> str | None:
        """Return the word for a value of `result.json` such as "left"; None for None."""
        return None if name is None else self(f"value.{name}")


@cache
def load_texts(language: str = "en") -> Texts:
    """Load the texts of a language."""
    source = resources.files("strokeseg.outputs.report") / "templates" / f"texts.{language}.json"
    return Texts(language, json.loads(source.read_text("utf-8")))
