import pytest

from phantoms import training_sets
from tools import encoder_weights


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    training_sets.write_datasets(root)
    return root


CONFIG = """{sets}
[network]
name = "trial"
encoder_weights = "file:{weights}"
decoder_channels = [32, 24, 16, 12, 8]
size = 96

[train]
samples = {samples}
batch = 8
ema = 0.8
validate_every = {every}
workers = 0
precision = "32-true" # 16-bit floats take many times as long on a processor without instructions for them

[synthesis]
paste = 0.1
crescent = 0.1
"""


@pytest.fixture(scope="session")
def encoder_file(tmp_path_factory):
    """The ImageNet weights of the shipped network's encoder."""
    file = tmp_path_factory.mktemp("encoders") / "lite0.pt"
    encoder_weights.write_weights("tu-tf_efficientnet_lite0", file)
    return file


@pytest.fixture
def config_file(tmp_path, encoder_file):
    def write(samples=64, every=8):
        path = tmp_path / "trial.toml"
        sets = training_sets.DATA_CONFIG
        path.write_text(CONFIG.format(sets=sets, weights=encoder_file, samples=samples, every=every))
        return path

    return write
