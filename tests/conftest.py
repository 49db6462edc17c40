import ctypes
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


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilitySet(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


_CAPABILITY_VERSION = 0x20080522
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1 << 1, 1 << 2


def _set_file_override(allowed):
    """Set whether root overrides file permissions in this thread (capabilities(7))."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = _CapabilityHeader(_CAPABILITY_VERSION, 0), (_CapabilitySet * 2)()
    assert libc.capget(ctypes.byref(header), sets) == 0
    override = sets[0].permitted & (_DAC_OVERRIDE | _DAC_READ_SEARCH)
    sets[0].effective = sets[0].effective | override if allowed else sets[0].effective & ~override
    assert libc.capset(ctypes.byref(header), sets) == 0, os.strerror(ctypes.get_errno())


@pytest.fixture
def plain_user():
    """Yield a working folder, and a function after which its permissions hold for root as for anybody else.

    The process stays root: as another user it could not read Python or the clone below a home of mode 0700.
    """
    folder = Path(tempfile.mkdtemp(prefix="strokeseg-test-"))
    folder.chmod(0o755)
    is_root = os.geteuid() == 0
    yield folder, (lambda: _set_file_override(False)) if is_root else (lambda: None)
    if is_root:
        _set_file_override(True)
    for path in folder.rglob("*"):
        path.chmod(0o700)
    shutil.rmtree(folder)
