"""Headers of instances as they arrive and as they are stored, read within limits.

A deflated instance of 2 MB may inflate to gigabytes. It is inflated up to its pixels only, and refused if all of it
would exceed the node's limit for one object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset

from strokeseg.pacs.spool import ReceivedInstance
from strokeseg.reading.dicom import deflate
from strokeseg.reading.input_file import InputFile

# What the spool needs to know of an instance.
_IDENTITY_TAGS = [
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "NumberOfSeriesRelatedInstances",
]
_MAX_HEADER_BYTES = 32 * 2**20  # per-frame attributes of 1,000 frames take about 4 MiB


def read_header(file: InputFile, tags: Sequence[str]) -> Dataset:
    """Read some attributes of a DICOM file.

    Parameters
    ----------
    file : InputFile
        The file, with preamble and group 0002.
    tags : sequence of str
        Keywords of the attributes.

    Returns
    -------
    Dataset
        Those of the attributes that the file has.

    Raises
    ------
    TooLarge
        `too-large`, if the file is deflated and its header inflates to more than 32 MiB.
    Exception
        Whatever pydicom raises for a file that it cannot parse.
    """
    with deflate.open_header(file, _MAX_HEADER_BYTES) as stream:
        return dcmread(stream, stop_before_pixels=True, specific_tags=list[Any](tags))


def parse_instance(content: bytes, sender: str, max_bytes: int, *, prior: bool = False) -> ReceivedInstance:
    """Read who an instance is, and check its size.

    Parameters
    ----------
    content : bytes
        The file with preamble and group 0002.
    sender : str
        Name of the peer or DICOMweb server.
    max_bytes : int
        The node's limit for one object, also for what a deflated one inflates to.
    prior : bool, default: False
        Whether it was fetched for comparison only.

    Returns
    -------
    ReceivedInstance
        The instance.

    Raises
    ------
    TooLarge
        `too-large`.
    Exception
        Whatever pydicom raises for a file that it cannot parse.
    """
    file = InputFile("the instance", data=content)
    file.check_bytes(max_bytes)
    header = read_header(file, _IDENTITY_TAGS)
    deflate.check_inflated_size(file, max_bytes)
    return ReceivedInstance(content, header, sender, prior)
