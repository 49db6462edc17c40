"""StrokeSeg: a head CT goes in, the measured and outlined intracranial hemorrhage comes out. Research use only.

>>> import strokeseg
>>> result = strokeseg.segment("study.zip")  # doctest: +SKIP
>>> result.findings.volume_ml  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# At once, though light: these functions share their names with the packages that hold them, and a package that is
# imported later would take the name for itself.
from strokeseg.measurements import measure
from strokeseg.reading import read
from strokeseg.version import __version__

if TYPE_CHECKING:
    from strokeseg import errors
    from strokeseg.errors import StrokesegError
    from strokeseg.followup.comparison import Comparison, compare
    from strokeseg.pipeline import Result, segment
    from strokeseg.result import Findings, Lesion, Remark
    from strokeseg.scan import Planes, Scan

_LAZY_NAMES = {
    "segment": "pipeline",
    "compare": "followup",
    "Comparison": "followup",
    "Result": "pipeline",
    "Scan": "scan",
    "Planes": "scan",
    "Findings": "result",
    "Lesion": "result",
    "Remark": "result",
    "StrokesegError": "errors",
    "errors": "errors",
}

__all__ = [
    "Comparison",
    "Findings",
    "Lesion",
    "Planes",
    "Remark",
    "Result",
    "Scan",
    "StrokesegError",
    "__version__",
    "compare",
    "errors",
    "measure",
    "read",
    "segment",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import strokeseg` is quick."""
    if name not in _LAZY_NAMES:
        raise AttributeError(f"module 'strokeseg' has no attribute {name!r}")
    home = import_module(f"strokeseg.{_LAZY_NAMES[name]}")
    value = home if name == "errors" else getattr(home, name)
    globals()[name] = value
    return value
