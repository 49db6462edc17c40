"""StrokeSeg segments and measures intracranial hemorrhage in head CT. Research use only.

>>> import strokeseg
>>> result = strokeseg.segment("study.zip")  # doctest: +SKIP
>>> result.findings.volume_ml  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from strokeseg.version import __version__

if TYPE_CHECKING:
    from strokeseg import errors
    from strokeseg.errors import StrokesegError
    from strokeseg.followup import Comparison, compare
    from strokeseg.measurements import measure
    from strokeseg.pipeline import Result, segment
    from strokeseg.reading import read
    from strokeseg.result import Findings, Lesion, Remark
    from strokeseg.scan import Planes, Scan

_MODULES = {
    "segment": "pipeline",
    "read": "reading",
    "measure": "measurements",
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
    """Import a public name at its first use, so that `import strokeseg` is fast."""
    if name not in _MODULES:
        raise AttributeError(f"module 'strokeseg' has no attribute {name!r}")
    module = import_module(f"strokeseg.{_MODULES[name]}")
    value = module if name == "errors" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
