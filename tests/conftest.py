import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from data_sets import find_data_set

# A shell starts background processes with SIGINT ignored, and children inherit that; the tests need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def shared_data():
    """Return the folder of the data sets."""
    return find_data_set()


@pytest.fixture
def plain_user():
    """Yield a working folder, and a function that drops root's rights, for root may write anywhere."""
    folder = Path(tempfile.mkdtemp(prefix="strokeseg-test-"))
    folder.chmod(0o755)
    is_root = os.geteuid() == 0
    yield folder, (lambda: os.seteuid(65534)) if is_root else (lambda: None)
    if is_root:
        os.seteuid(0)
    for path in folder.rglob("*"):
        path.chmod(0o700)
    shutil.rmtree(folder)
