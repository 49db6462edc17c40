"""Values of one frame: in its own functional groups, in the shared groups, or in the file itself (PS3.3 A.38)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset

Lookup = Callable[..., Any]
"""Returns the value of the first of some keywords that the frame has; None if it has none of them."""

_PER_FRAME_KEYWORDS = ("ImagePositionPatient",)


def make_frame_lookup(data: Dataset, frame_count: int) -> Callable[[int], Lookup]:
    """Return a function that maps a frame's index to the lookup of its values.

    A multi-frame CT stores values that differ from frame to frame in per-frame functional groups, and common values in
    shared groups; each group is a sequence of one item. If a file of several frames has no such groups, the position in
    the file itself is not the position of any frame.

    Parameters
    ----------
    data : Dataset
        The file's header.
    frame_count : int
        Number of frames.
    """
    single = frame_count == 1 and "PerFrameFunctionalGroupsSequence" not in data
    shared_items = _map_keywords((data.get("SharedFunctionalGroupsSequence") or [None])[0])
    per_frame_groups = data.get("PerFrameFunctionalGroupsSequence") or []

    def make_lookup(frame_index: int) -> Lookup:
        in_range = frame_index < len(per_frame_groups)
        frame_items = _map_keywords(per_frame_groups[frame_index]) if in_range else {}

        def look_up(*keywords: str) -> Any:
            for items in (frame_items, shared_items):
                for keyword in keywords:
                    if keyword in items:
                        return items[keyword].get(keyword)
            if not single and keywords[0] in _PER_FRAME_KEYWORDS:
                return None
            return next((data.get(keyword) for keyword in keywords if keyword in data), None)

        return look_up

    return make_lookup


def _map_keywords(groups: Dataset | None) -> dict[str, Dataset]:
    """Map each keyword of any functional group to the item that holds it."""
    items: dict[str, Dataset] = {}
    for element in groups or ():
        if element.VR == "SQ" and len(element.value) > 0:
            item = element.value[0]
            items.update({keyword: item for keyword in item.dir()})
    return items
