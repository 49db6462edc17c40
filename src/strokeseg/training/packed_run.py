"""A packed run: its averaged network as a small file, with what the network was trained on.

The file is a .safetensors with weights in 16-bit floats; its metadata hold the configuration of the run and its
validation patients. ``network.start = "file:PATH"`` starts from it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from strokeseg import atomic_write
from strokeseg.errors import TrainError
from strokeseg.training import networks, run_folder
from strokeseg.training.augmentation import StoredSlice
from strokeseg.training.config import Config, NetworkConfig

FIELD = "network.start"
METADATA_KEY = "strokeseg"
OVERLAPPING_SOURCES = {"ctich": ("ctich_train", "ctich_boxes"), "phe_sich_whole": ("phe_sich",)}
"""Sources of whole patients: the sources that hold slices of the same patients."""


def pack_run(run: Path, file: Path, checkpoint: str = run_folder.BEST) -> str:
    """Write the averaged network of a run to a file.

    Parameters
    ----------
    run : Path
        The folder of the run, with the checkpoint and `split.json`.
    file : Path
        The .safetensors to write.
    checkpoint : str, default: "best.ckpt"
        The checkpoint: that of the best validation, or `last.ckpt`.

    Returns
    -------
    str
        SHA-256 of the file, 64 hex digits.
    """
    from safetensors.torch import save

    record = json.loads((run / run_folder.RECORD).read_text(encoding="utf-8"))
    state = torch.load(run / checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    average = {key.removeprefix("average."): value for key, value in state.items() if key.startswith("average.")}
    halved = {key: _halve_precision(value).contiguous() for key, value in average.items()}
    metadata = {"config": record["config"], "validation_patients": record["validation_patients"]}
    content = save(halved, {METADATA_KEY: json.dumps(metadata)})
    atomic_write.replace_file(file, content)
    return hashlib.sha256(content).hexdigest()


def _halve_precision(value: torch.Tensor) -> torch.Tensor:
    # The variance of a batch norm may be outside of the range of 16-bit floats.
    return value.half() if value.is_floating_point() and value.ndim > 1 else value


def start_from_file(table: NetworkConfig, held_out: Iterable[StoredSlice]) -> tuple[nn.Module, str]:
    """Build a network with the weights of the packed run that ``network.start`` names.

    The number of neighbours may differ; see :func:`strokeseg.training.networks.adapt_channels`.

    Parameters
    ----------
    table : NetworkConfig
        The settings; architecture, encoder and decoder must be those of the packed run.
    held_out : iterable of StoredSlice
        The validation slices.

    Returns
    -------
    network : torch.nn.Module
        The network.
    origin : str
        Where its weights come from, in words.

    Raises
    ------
    TrainError
        `train`, if the file is missing or holds another network, or the network may have been trained on a validation
        patient of this run.
    """
    path = table.start_file
    assert path is not None
    state, metadata, digest = _read_packed(path)
    packed = Config.model_validate(metadata["config"])
    _check_validation_patients(held_out, packed, frozenset(metadata["validation_patients"]), path.name)
    network = networks.build(
        table.model_copy(update={"encoder_weights": None, "start": None, "neighbours": packed.network.neighbours})
    )
    try:
        network.load_state_dict(
            {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
        )
    except RuntimeError:
        raise TrainError(
            f"{FIELD}: {path.name} is another network than [network] describes",
            f"It is {packed.network.architecture} with {packed.network.encoder}.",
        ) from None
    return networks.adapt_channels(network, table), f"the file {path.name}, sha256 {digest}"


def _read_packed(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any], str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as opened:
            metadata = json.loads((opened.metadata() or {})[METADATA_KEY])
            state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 # no dict
    except FileNotFoundError:
        raise TrainError(f"{FIELD}: {path}: no such file") from None
    except (SafetensorError, KeyError, json.JSONDecodeError):
        raise TrainError(f"{FIELD}: {path.name} is not a packed run") from None
    return state, metadata, hashlib.sha256(path.read_bytes()).hexdigest()


def _check_validation_patients(
    held_out: Iterable[StoredSlice], packed: Config, unseen: frozenset[str], name: str
) -> None:
    """Refuse validation patients from the sources of the packed run who were not its validation patients."""
    sources = set(packed.data.sources)
    sources |= {other for source in sources for other in OVERLAPPING_SOURCES.get(source, ())}
    sources |= {whole for whole, others in OVERLAPPING_SOURCES.items() if sources.intersection(others)}
    for sample in held_out:
        if sample.source in sources and sample.patient not in unseen:
            raise TrainError(
                f"{FIELD}: {name} may have been trained on {sample.patient}, a validation patient of this run",
                "Hold out its validation patients: use the same data.split.",
            )
