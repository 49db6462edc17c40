import pytest

from phantoms import training_sets


@pytest.fixture(scope="session")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    training_sets.write_datasets(root)
    return root


CONFIG = """{sets}
[network]
name = "trial"
encoder_weights = "package"
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


@pytest.fixture
def config_file(tmp_path):
    def write(samples=64, every=8):
        path = tmp_path / "trial.toml"
        path.write_text(CONFIG.format(sets=training_sets.DATA_CONFIG, samples=samples, every=every))
        return path

    return write
