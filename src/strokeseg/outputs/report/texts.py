"""Every word of ours on the report, in the PDF and in a notebook, in one place: `templates/texts.LANGUAGE.json`.

A language is added by a further file with the same keys; nothing else holds a sentence. What stands in `result.json`
(remarks, the disclaimer) is shown as it stands there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True)
class Texts:
    """The words of one language.

    Parameters
    ----------
    language : str
        Its tag as in HTML, such as "en".
    entries : dict of str to str
        (key, text) pairs; ``{name}`` in a text is filled in.
    """

    language: str
    entries: dict[str, str]

    def __call__(self, key: str, **values: object) -> str:
        """Return a text with its values filled in.

        Raises
        ------
        KeyError
            For a key that the language's file lacks, or a value that was not given.
        """
        return self.entries[key].format(**values)

    def pluralize(self, key: str, count: int, **values: object) -> str:
        """Return the text for one (`KEY.one`) or for any other number of things (`KEY.other`)."""
        return self(f"{key}.one" if count == 1 else f"{key}.other", count=count, **values)

    def translate_value(self, name: str | None) -> str | None:
        """Return the word for a value of `result.json` such as "left"; None for None."""
        return None if name is None else self(f"value.{name}")


@cache
def load_texts(language: str = "en") -> Texts:
    """Load a language's words."""
    source = resources.files("strokeseg.outputs") / "templates" / f"texts.{language}.json"
    return Texts(language, json.loads(source.read_text("utf-8")))
