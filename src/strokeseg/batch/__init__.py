"""Many studies: on all cores of this machine, or on a Ray cluster; what was done is never done again."""

from strokeseg.batch.runner import Progress, Summary, run

__all__ = ["Progress", "Summary", "run"]
