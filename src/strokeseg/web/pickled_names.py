"""Class names in existing databases.

DBOS stores the error of a failed step as a pickle, which names its class by module. A workflow that was interrupted
right after such an error is replayed from it, also by a later version of this package: classes that have moved since
must stay loadable under their old names. Everything else that DBOS stores consists of built-in types.
"""

from __future__ import annotations

import sys
from types import ModuleType

from strokeseg.web.worker_pool import StepCancelled, WorkerDied

_OLD_NAMES: dict[str, dict[str, type[Exception]]] = {
    "strokeseg.serve.crew": {"Crashed": WorkerDied, "Stopped": StepCancelled},  # 0.1.0
}


def register_old_names() -> None:
    """Make the old names of moved classes importable for pickle."""
    for module_name, classes in _OLD_NAMES.items():
        module = ModuleType(module_name, "Old names of classes, for pickles in existing databases.")
        vars(module).update(classes)
        sys.modules.setdefault(module_name, module)
