"""A user's own network among the installed ones: looked at, tried once, and copied with its card."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np

from strokeseg.errors import CorruptModel, UnreadableFile, UsageError
from strokeseg.segmentation import models
from strokeseg.segmentation.engines.onnxruntime import OnnxRuntime
from strokeseg.segmentation.models import SHIPPED_FOLDER, Card

_PLACEHOLDER = "to be filled in"
_MAX_BYTES = 2**31
"""Protobuf's, and so a whole .onnx file's."""
_DEFAULT_SIZE = 320
"""Where the file does not tell one."""


def install_model(weights: Path, card: Path | None = None) -> Card:
    """Copy a network and its card to the user's models (:func:`strokeseg.segmentation.models.list_folders`).

    The network takes one grey channel, float32 (1, 1, size, size) in -1..1: the square around the head in the window
    0..80 HU; and gives as many logits.

    Parameters
    ----------
    weights : Path
        NAME.onnx.
    card : Path, optional
        Its card; NAME.json beside the network where not given.

    Raises
    ------
    UnreadableFile
        `unreadable`, if there is no such file.
    CorruptModel
        `model-checksum`, if the card is missing, incomplete or of other bytes, or the network cannot be run.
    UsageError
        `usage`, if a network of that name is installed already.
    NotWritable, DiskFull
        `not-writable`, `disk-full`.
    """
    data = _read_weights(weights)
    place = card or weights.with_suffix(".json")
    try:
        found = models.read_card(place)
    except CorruptModel as error:
        raise CorruptModel(
            error.message, f"`strokeseg models card {weights.name}` prints a card to be filled in."
        ) from None
    if empty := [name for name, value in found if value in (_PLACEHOLDER, [_PLACEHOLDER])]:
        raise CorruptModel(f"the card {place.name} says nothing in {', '.join(empty)}", "Fill it in.")
    digest = hashlib.sha256(data).hexdigest()
    if digest != found.sha256:
        raise CorruptModel(
            f"{weights.name}: SHA-256 is {digest[:12]}…, its card says {found.sha256[:12]}…",
            "Get network and card again from where they come.",
        )
    _test_run(found, data)
    if found.name in models.list_names():
        raise UsageError(
            f"a network named {found.name!r} is installed already",
            "Give it another name in its card, or remove yours first: `strokeseg models remove NAME`.",
        )
    models.save_model(found, data, models.list_folders()[-1])
    return found


def remove_model(name: str) -> None:
    """Delete a network that the user installed.

    Raises
    ------
    UnknownModel
        `unknown-model`.
    UsageError
        `usage`, if it is one of StrokeSeg's own.
    """
    folder = models.find_folder(name)
    if folder == SHIPPED_FOLDER:
        raise UsageError(f"the network {name!r} is a part of StrokeSeg", "Leave it; another one can stand beside it.")
    # The card goes first: without it the rest is no model.
    for end in ("json", "onnx", "md"):
        (folder / f"{name}.{end}").unlink(missing_ok=True)


def make_card_template(weights: Path) -> Card:
    """Make a card with what the file itself tells; the rest is to be filled in.

    Raises
    ------
    UnreadableFile, CorruptModel
        `unreadable`, `model-checksum`.
    """
    data = _read_weights(weights)
    card = Card(
        name=re.sub(r"[^A-Za-z0-9._-]+", "-", weights.stem).lstrip("._-")[:64] or "mine",
        version="1",
        sha256=hashlib.sha256(data).hexdigest(),
        precision="fp32",
        architecture=_PLACEHOLDER,
        size=32,
        threshold=0.5,
        smallest_mm3=100.0,
        smallest_share=4e-4,
        licence=_PLACEHOLDER,
        limits=[_PLACEHOLDER],
        training={},
        metrics={},
    )
    return card.model_copy(update={"size": _input_size(_load(card, data).session.get_inputs()[0].shape)})


def _read_weights(weights: Path) -> bytes:
    try:
        if (size := weights.stat().st_size) > _MAX_BYTES:
            raise UnreadableFile(f"{weights}: {size / 1e9:.1f} GB, an .onnx file has 2 at most", "Name an .onnx file.")
        return weights.read_bytes()
    except OSError as error:
        raise UnreadableFile(f"{weights}: cannot be read ({error.strerror})", "Name an .onnx file.") from None


def _input_size(shape: list[Any]) -> int:
    """Return the side of the input; a dynamic axis is a name or None."""
    rows, columns = (None, None, *shape)[-2:]
    return rows if isinstance(rows, int) and rows == columns and 32 <= rows <= 4096 else _DEFAULT_SIZE


def _load(card: Card, data: bytes) -> OnnxRuntime:
    try:
        return OnnxRuntime(card, data, 0)
    except CorruptModel as error:
        raise CorruptModel(error.message, "Export it to ONNX again.") from error


def _test_run(card: Card, data: bytes) -> None:
    """Run the network once, on an empty picture."""
    engine = _load(card, data)
    wanted = (1, 1, card.size, card.size)
    try:
        answer = np.asarray(engine.session.run(None, {engine.input_name: np.zeros(wanted, np.float32)})[0])
    except Exception as error:  # ONNX Runtime's own exceptions share no base class but this
        raise CorruptModel(
            f"model {card.name!r} does not take {wanted} float32: {str(error).splitlines()[0][:200]}",
            "Export it for one grey channel of the card's size.",
        ) from error
    if answer.shape != wanted or not np.isfinite(answer).all():
        raise CorruptModel(
            f"model {card.name!r} answers {answer.shape}{'' if np.isfinite(answer).all() else ' with NaN'}, "
            f"expected are {wanted} finite logits",
            "Export it with one output channel of the card's size, before the sigmoid.",
        )
