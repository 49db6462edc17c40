"""Two scans of one patient: registration, matching of lesions, growth, and the page that shows it."""

from strokeseg.followup.comparison import Comparison, compare

__all__ = ["Comparison", "compare"]
