"""Start from an installed network: read its .onnx back into the layers that it was exported from.

The export folds each batch norm into the convolution before it. Here every such filter gets unit length again, and its
batch norm gets the parameters that restore the output, with means and variances measured on training slices: the
network has the output of the .onnx, and trains like one that was never folded.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from strokeseg.errors import TrainError
from strokeseg.segmentation import models
from strokeseg.segmentation.engines.onnxruntime import OnnxRuntime
from strokeseg.segmentation.models import Card
from strokeseg.training import decoder_rewrite, networks
from strokeseg.training.augmentation import StoredSlice
from strokeseg.training.config import NetworkConfig

_log = logging.getLogger(__name__)
FIELD = "network.start"
MODEL_PREFIX = "model:"
MAX_LOGIT_DIFFERENCE = 1e-2
"""Largest difference of a logit; the export has the same limit."""

SLICE_SOURCES = {"ctich": "ctich_train", "phe_sich_whole": "phe_sich"}
"""Sources of whole patients: the source of their slices with blood, on which a network may have been trained."""

Node = tuple[str, list[Tensor]]
"""Operator and weights of an ONNX node, in their order."""


def start_from_model(table: NetworkConfig, held_out: Iterable[StoredSlice], images: Tensor) -> tuple[nn.Module, str]:
    """Build a network with the weights of the installed network that ``network.start`` names.

    Parameters
    ----------
    table : NetworkConfig
        The settings; architecture, encoder and decoder must be those of the installed network, the size may differ.
    held_out : iterable of StoredSlice
        The validation slices.
    images : Tensor, shape (slices, channels, size, size)
        Some dozens of training slices, -1..1, on which the batch norms are measured.

    Returns
    -------
    network : torch.nn.Module
        The network.
    origin : str
        Where its weights come from, in words.

    Raises
    ------
    UnknownModel, CorruptModel
        `unknown-model`; `model-checksum`, if the file is not the one that its card names.
    TrainError
        `train`, if the network is quantised, has another architecture or another output than its .onnx, or may have
        been trained on a validation patient of this run.
    """
    card, content = models.load_weights((table.start or "").removeprefix(MODEL_PREFIX))
    if card.precision != "fp32":
        raise TrainError(f"{FIELD}: the weights of {card.name} are {card.precision}", "Start from a network in fp32.")
    _check_validation_patients(held_out, card)
    single = table.model_copy(update={"encoder_weights": None, "start": None, "neighbours": 0})
    network = networks.build(single)
    load_onnx_weights(network, content, card)
    restate_batch_norms(network, images[:, table.neighbours : table.neighbours + 1])
    if table.neighbours:
        network = networks.adapt_channels(network, table)
    return network, f"the network {card.name} {card.version}, sha256 {card.sha256}"


def _check_validation_patients(held_out: Iterable[StoredSlice], card: Card) -> None:
    """Refuse validation patients from the card's sources who are not the card's validation patients."""
    rows = card.training.get("sources")
    sources = {row.get("name") for row in rows if isinstance(row, dict)} if isinstance(rows, list) else set()
    unseen = set(card.training.get("validation_patients", ()))
    if not sources:
        unknown = "%s: the card of %s does not name its training patients; figures of such patients are too good"
        _log.warning(unknown, FIELD, card.name)
    samples = list(held_out)
    with_blood = {sample.patient for sample in samples if (sample.mask == 1).any()}
    for sample in samples:
        # A source of slices with blood contains no patient without blood.
        slice_source = SLICE_SOURCES.get(sample.source, "") if sample.patient in with_blood else ""
        if (sample.source in sources or slice_source in sources) and sample.patient not in unseen:
            raise TrainError(
                f"{FIELD}: {card.name} may have been trained on {sample.patient}, a validation patient of this run",
                "Hold out the validation patients of its card, or leave its sources out of data.validation.",
            )


def load_onnx_weights(network: nn.Module, content: bytes, card: Card) -> None:
    """Load the weights of an .onnx file into a network of the same architecture.

    Both hold their layers in the order in which they run. A batch norm without a node was folded.

    Raises
    ------
    TrainError
        `train`, if layers, shapes or outputs differ.
    """
    nodes, layers = iter([*_read_nodes(content), ("", [])]), _layers_in_order(network, card.size)
    (kind, values), gone = next(nodes), None
    for layer, after in zip(layers, [*layers[1:], None], strict=True):
        if isinstance(layer, nn.Conv2d):
            if kind != "Conv" or not values or values[0].shape != layer.weight.shape:
                raise _mismatch(card)
            filled, (kind, values) = values, next(nodes)
            # What was folded gave the convolution a bias; of one that had its own, the next node must tell.
            folded = len(filled) > 1 if layer.bias is None else kind != "BatchNormalization"
            gone = after if folded and isinstance(after, nn.BatchNorm2d) else None
            _fill_convolution(layer, gone, *filled)
        elif layer is not gone:
            if kind != "BatchNormalization" or [value.shape for value in values] != [layer.weight.shape] * 4:
                raise _mismatch(card)
            layer.weight.data, layer.bias.data, layer.running_mean, layer.running_var = values
            kind, values = next(nodes)
    if kind:
        raise _mismatch(card)
    _check_equal_output(network, content, card)


def _read_nodes(content: bytes) -> list[Node]:
    """List the convolutions and batch norms of a graph with their weights; split convolutions are restored."""
    graph = onnx.load_from_string(content).graph
    known = {item.name: torch.from_numpy(numpy_helper.to_array(item).astype(np.float32)) for item in graph.initializer}
    nodes: list[Node] = []
    interleaved = {node.input[0] for node in graph.node if node.op_type == "DepthToSpace"}
    four: Tensor | None = None
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in known:  # equal weights are stored once
            known[node.output[0]] = known[node.input[0]]
        if node.op_type not in ("Conv", "BatchNormalization"):
            continue
        values = [known[name] for name in node.input if name in known]
        if node.op_type == "Conv" and node.output[0] in interleaved:
            four, *bias = values
            if not bias:  # that of what it was joined with comes next, and has the bias of both
                continue
            values = [_merge_kernels(four), bias[0][: len(four) // 4]]
        elif four is not None:
            values = [_merge_kernels(four, values[0]), *values[1:]]
        four = None
        nodes.append((node.op_type, values))
    return nodes


def _merge_kernels(four: Tensor, beside: Tensor | None = None) -> Tensor:
    return torch.from_numpy(decoder_rewrite.restore_kernel(four.numpy(), None if beside is None else beside.numpy()))


def _layers_in_order(network: nn.Module, size: int) -> list[nn.Conv2d | nn.BatchNorm2d]:
    """List the layers with weights in the order in which they run."""
    run: list[Any] = []
    hooks = [
        module.register_forward_hook(lambda module, *_: run.append(module))
        for module in network.modules()
        if list(module.parameters(recurse=False))
    ]
    with torch.no_grad():
        network.eval()(torch.zeros(1, 1, size, size))
    for hook in hooks:
        hook.remove()
    if strange := [layer for layer in run if not isinstance(layer, nn.Conv2d | nn.BatchNorm2d)]:
        raise TrainError(
            f"{FIELD}: a network with a {type(strange[0]).__name__} cannot be read back from an .onnx",
            "Go on from the run itself, or start from a network of convolutions and batch norms alone.",
        )
    return run


def _fill_convolution(
    layer: nn.Conv2d, norm: nn.BatchNorm2d | None, weight: Tensor, bias: Tensor | None = None
) -> None:
    """Load the weights of a convolution; if a batch norm was folded into it, with filters of unit length.

    The length of a folded filter includes the scale of the batch norm, which does not suit the step size of the
    optimiser.
    """
    bias = torch.zeros(len(weight)) if bias is None else bias
    if norm is None:
        layer.weight.data.copy_(weight)
        if layer.bias is not None:
            layer.bias.data.copy_(bias)
        return
    length = weight.flatten(1).norm(dim=1)
    length = torch.where(length > 0, length, torch.ones_like(length))
    layer.weight.data.copy_(weight / length[:, None, None, None])
    if layer.bias is not None:
        layer.bias.data.zero_()
    norm.weight.data.copy_(length)
    norm.bias.data.copy_(bias)
    norm.running_mean, norm.running_var = torch.zeros_like(length), torch.full_like(length, 1 - norm.eps)


@torch.no_grad()
def restate_batch_norms(network: nn.Module, images: Tensor) -> None:
    """Set the means and variances of every batch norm to those of some images, and its scale and shift to undo it.

    The output stays the same. In training, which uses the statistics of the batch, the output at the start is nearly
    the same too.

    Parameters
    ----------
    network : Module
        The network; changed in place.
    images : Tensor, shape (slices, 1, size, size)
        Training slices, -1..1.
    """

    def measure(norm: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
        slope = norm.weight / (norm.running_var + norm.eps).sqrt()
        variance, mean = torch.var_mean(inputs[0], (0, 2, 3), correction=0)
        norm.bias.add_(slope * (mean - norm.running_mean))
        norm.weight.copy_(slope * (variance + norm.eps).sqrt())
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)

    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    network.eval()(images)
    for hook in hooks:
        hook.remove()


def _check_equal_output(network: nn.Module, content: bytes, card: Card) -> None:
    image = torch.rand(1, 1, card.size, card.size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        logits = network(image)[0, 0].numpy()
    expected = OnnxRuntime(card, content, 0).logits(image.numpy())
    if logits.shape != expected.shape or not np.abs(logits - expected).max() <= MAX_LOGIT_DIFFERENCE:
        raise _mismatch(card)


def _mismatch(card: Card) -> TrainError:
    return TrainError(
        f"{FIELD}: {card.name} is another network than [network] describes",
        f"Its card says: {card.architecture}. Only what `strokeseg train --export` wrote can be started from.",
    )
