"""Segment many studies on the cores of this machine or on a Ray cluster; finished studies are not repeated."""

from strokeseg.batch.runner import Progress, Summary, run

__all__ = ["Progress", "Summary", "run"]
