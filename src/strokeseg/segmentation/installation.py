"""Install and remove a user's own network; each network is checked and run once before it is copied."""

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
"""Largest .onnx file: the limit of Protobuf."""
_DEFAULT_SIZE = 320
"""Input size if the file does not state one, pixels."""


def install_model(weights: Path, card: Path | None = None) -> Card:
    """Copy a network and its card to the user's models (:func:`strokeseg.segmentation.models.list_folders`).

    The network's input is one grey channel, float32 (1, 1, size, size), -1 to 1: the square around the head in the
    window 0..80 HU. Its output are logits of the same shape.

    Parameters
    ----------
    weights : Path
        NAME.onnx.
    card : Path, optional
        The card; default is NAME.json beside the network.

    Returns
    -------
    Card
        The card of the installed network.

    Raises
    ------
    UnreadableFile
        `unreadable`, if the file does not exist or cannot be read.
    CorruptModel
        `model-checksum`, if the card is missing, incomplete or for another file, or the network cannot be run.
    UsageError
        `usage`, if a network of this name is already installed.
    NotWritable, DiskFull
        `not-writable`, `disk-full`.
    """
    data = _read_weights(weights)
    card_path = card or weights.with_suffix(".json")
    try:
        installed = models.read_card(card_path)
    except CorruptModel as error:
        raise CorruptModel(
            error.message, f"`strokeseg models card {weights.name}` prints a template for a card."
        ) from None
    if empty := [name for name, value in installed if value in (_PLACEHOLDER, [_PLACEHOLDER])]:
        raise CorruptModel(f"the card {card_path.name} has empty fields: {', '.join(empty)}", "Fill in these fields.")
    digest = hashlib.sha256(data).hexdigest()
    if digest != installed.sha256:
        raise CorruptModel(
            f"{weights.name}: SHA-256 is {digest[:12]}…, the card states {installed.sha256[:12]}…",
            "Get the network and its card again from their source.",
        )
    _test_run(installed, data)
    if installed.name in models.list_names():
        raise UsageError(
            f"a network named {installed.name!r} is already installed",
            "Change the name in the card, or remove the installed network first: `strokeseg models remove NAME`.",
        )
    models.save_model(installed, data, models.list_folders()[-1])
    return installed


def remove_model(name: str) -> None:
    """Delete a network that the user installed.

    Parameters
    ----------
    name : str
        Name of the network.

    Raises
    ------
    UnknownModel
        `unknown-model`.
    UsageError
        `usage`, if the network is shipped with StrokeSeg.
    """
    folder = models.find_folder(name)
    if folder == SHIPPED_FOLDER:
        raise UsageError(f"the model {name!r} is part of StrokeSeg", "Shipped models cannot be removed.")
    # The card is deleted first: without a card the other files are not a model.
    for suffix in ("json", "onnx", "md"):
        (folder / f"{name}.{suffix}").unlink(missing_ok=True)


def make_card_template(weights: Path) -> Card:
    """Create a card with the fields that the file itself states; the user fills in the others.

    Parameters
    ----------
    weights : Path
        NAME.onnx.

    Returns
    -------
    Card
        The template.

    Raises
    ------
    UnreadableFile
        `unreadable`.
    CorruptModel
        `model-checksum`.
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
            raise UnreadableFile(
                f"{weights}: {size / 1e9:.1f} GB, the limit of an .onnx file is 2 GB", "Pass an .onnx file."
            )
        return weights.read_bytes()
    except OSError as error:
        raise UnreadableFile(f"{weights}: cannot be read ({error.strerror})", "Pass an .onnx file.") from None


def _input_size(shape: list[Any]) -> int:
    """Return the side of the input, pixels; a dynamic axis is a name or None."""
    rows, columns = (None, None, *shape)[-2:]
    return rows if isinstance(rows, int) and rows == columns and 32 <= rows <= 4096 else _DEFAULT_SIZE


def _load(card: Card, data: bytes) -> OnnxRuntime:
    try:
        return OnnxRuntime(card, data, 0)
    except CorruptModel as error:
        raise CorruptModel(error.message, "Export the network to ONNX again.") from error


def _test_run(card: Card, data: bytes) -> None:
    """Run the network once, on an empty image."""
    engine = _load(card, data)
    shape = (1, 1, card.size, card.size)
    try:
        logits = np.asarray(engine.session.run(None, {engine.input_name: np.zeros(shape, np.float32)})[0])
    except Exception as error:  # ONNX Runtime's own exceptions share no base class but Exception
        raise CorruptModel(
            f"model {card.name!r} does not accept float32 of shape {shape}: {str(error).splitlines()[0][:200]}",
            "Export the network with one grey input channel of the size on the card.",
        ) from error
    if logits.shape != shape or not np.isfinite(logits).all():
        raise CorruptModel(
            f"model {card.name!r} returns {logits.shape}{'' if np.isfinite(logits).all() else ' with NaN'}, "
            f"expected are finite logits of shape {shape}",
            "Export the network with one output channel of the size on the card, before the sigmoid.",
        )
