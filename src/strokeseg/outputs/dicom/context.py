"""What all DICOM objects of one result share: the study, valid UIDs, the frames they refer to, and who made them."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID
from pydicom.valuerep import format_number_as_ds

from strokeseg.imaging import components
from strokeseg.imaging.components import Labels
from strokeseg.outputs.dicom import codes, uids
from strokeseg.result import ModelInfo, Remark, ResultDocument
from strokeseg.scan import DicomSource, Scan, SourceFrame

MANUFACTURER = MODEL_NAME = "StrokeSeg"
RESEARCH_NOTE = "research use only"
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
_IMPLEMENTATION = UID(uids.derive_uid("implementation"))
_NO_DATE, _NO_TIME = "19000101", "000000"
_REQUIRED_ATTRIBUTES = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_IMAGE_ATTRIBUTES = ("LossyImageCompression",)


@dataclass(frozen=True, repr=False)
class ObjectContext:
    """What the objects of one result share.

    Parameters
    ----------
    source : DicomSource
        Of the scan; its UIDs are those that stand in the objects.
    study_uid, series_uid : str
        Of the input, as they stand in the objects.
    rows, columns : int
        Of a stored frame.
    seed : tuple of str
        What all new UIDs follow from.
    model, software : ModelInfo
        Who answered.
    made : object
        When.
    """

    source: DicomSource
    study_uid: str
    series_uid: str
    rows: int
    columns: int
    seed: tuple[str, ...]
    model: ModelInfo
    software: str
    created: datetime

    def derive_uid(self, *parts: str) -> str:
        """Return the UID of a part of this result."""
        return uids.derive_uid(*self.seed, *parts)

    @property
    def serial_number(self) -> str:
        """What stands for a serial number: the network's check sum, shortened."""
        return self.model.sha256[:16]

    @property
    def version(self) -> str:
        """StrokeSeg's version."""
        return self.software.rpartition(" ")[2]

    @property
    def parameters(self) -> dict[str, str]:
        """What else decides an answer."""
        model = self.model
        return {"threshold": str(model.threshold), "precision": model.precision, "sha256": model.sha256}

    def group_frames(self, slices: Sequence[int] | None = None) -> dict[SourceFrame, list[int]]:
        """Return the objects that hold slices (all where None), each with the numbers of its frames, in their order.

        The list is empty for an object of a single frame.
        """
        found: dict[str, tuple[SourceFrame, list[int]]] = {}
        for index in range(len(self.source.frames)) if slices is None else slices:
            frame = self.source.frames[index]
            _, numbers = found.setdefault(frame.sop_uid, (frame, []))
            if frame.number is not None:
                numbers.append(frame.number)
        return dict(found.values())

    def make_reference(self, slice_index: int) -> Dataset:
        """Return an item that refers to the frame of a slice."""
        frame = self.source.frames[slice_index]
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = frame.sop_class, frame.sop_uid
        if frame.number is not None:
            item.ReferencedFrameNumber = frame.number
        return item

    def make_evidence(self) -> list[Dataset]:
        """Return the input's objects as far as a structured report looks at them."""
        found = []
        for frame in self.group_frames():
            image = self._make_image()
            image.SOPClassUID, image.SOPInstanceUID = frame.sop_class, frame.sop_uid
            found.append(image)
        return found

    def make_plane_images(self) -> list[Dataset]:
        """Return one single-frame image for each slice, whatever its object is: what highdicom takes geometry from.

        Its UID is the slice's index below 1.1, to be replaced by :meth:`reference`.
        """
        made = []
        cosines = [format_number_as_ds(v) for v in (*self.source.row_cosine, *self.source.column_cosine)]
        for index, frame in enumerate(self.source.frames):
            image = self._make_image()
            image.SOPClassUID, image.SOPInstanceUID, image.Modality = CT_IMAGE_STORAGE, f"1.1.{index}", "CT"
            image.FrameOfReferenceUID, image.PositionReferenceIndicator = self.source.frame_of_reference_uid, ""
            image.Rows, image.Columns = self.rows, self.columns
            image.ImagePositionPatient = [format_number_as_ds(v) for v in frame.position_mm]
            image.ImageOrientationPatient = cosines
            image.PixelSpacing = [format_number_as_ds(v) for v in self.source.pixel_spacing_mm]
            image.SliceThickness = format_number_as_ds(self.source.thickness_mm or self._step_mm)
            made.append(image)
        return made

    @property
    def _step_mm(self) -> float:
        """What stands for a thickness that is not known: the usual step along the normal, or 1 mm."""
        normal = np.cross(self.source.row_cosine, self.source.column_cosine)
        steps = np.diff([float(np.dot(frame.position_mm, normal)) for frame in self.source.frames])
        return float(np.median(np.abs(steps))) if steps.size else 1.0

    def _make_image(self) -> Dataset:
        """Return an image of the study without a patient: :meth:`stamp` names one in what is made of it."""
        image = Dataset()
        image.StudyInstanceUID, image.SeriesInstanceUID = self.study_uid, self.series_uid
        for keyword in _REQUIRED_ATTRIBUTES:
            setattr(image, keyword, "")
        return image

    def stamp(self, made: Dataset, kind: str, instance: str = "1") -> None:
        """Say in an object whose it is, when it was made and which it is.

        Parameters
        ----------
        made : Dataset
            The object; changed.
        kind : str
            Of object; each is a series of its own.
        instance : str, default: "1"
            Which one of its series.
        """
        made.SpecificCharacterSet = "ISO_IR 192"
        attributes = dict(self.source.attributes)
        for keyword in _REQUIRED_ATTRIBUTES:
            setattr(made, keyword, attributes.pop(keyword, ""))
        for keyword, text in attributes.items():
            if keyword not in _IMAGE_ATTRIBUTES:
                setattr(made, keyword, text)
        made.StudyInstanceUID = self.study_uid
        made.SeriesInstanceUID, made.SOPInstanceUID = self.derive_uid(kind, "series"), self.derive_uid(kind, instance)
        made.file_meta.MediaStorageSOPInstanceUID = UID(made.SOPInstanceUID)
        made.file_meta.ImplementationClassUID = _IMPLEMENTATION
        made.file_meta.ImplementationVersionName = f"STROKESEG_{self.version}"[:16]
        made.SoftwareVersions = [self.version, f"{self.model.name} {self.model.version}"[:64]]
        self._set_dates(made)
        if self.source.deidentified:
            made.PatientIdentityRemoved = "YES"
            made.DeidentificationMethod = "StrokeSeg: UIDs replaced, all else of the patient left out"
            made.DeidentificationMethodCodeSequence = make_code_items(codes.BASIC_PROFILE)
            made.LongitudinalTemporalInformationModified = "REMOVED"
        elif made.get("PatientIdentityRemoved") == "YES" and "DeidentificationMethod" not in made:
            made.DeidentificationMethod = "not stated by the source"

    def _set_dates(self, made: Dataset) -> None:
        """Set when it was made; without identity there is no date, and a dummy where one must be (PS3.15 E.1-1, D)."""
        day, time = (_NO_DATE, _NO_TIME) if self.source.deidentified else self.created.strftime("%Y%m%d %H%M%S").split()
        made.InstanceCreationDate, made.InstanceCreationTime = day, time
        for keyword, value in (("ContentDate", day), ("ContentTime", time)):
            if keyword in made:
                setattr(made, keyword, value)
        for item in made.get("ContributingEquipmentSequence", []):
            if "ContributionDateTime" in item:
                del item.ContributionDateTime


def make_context(
    scan: Scan, document: ResultDocument, labels: Labels, made: datetime
) -> tuple[ObjectContext, list[Remark]]:
    """Say what the objects of a result share.

    Parameters
    ----------
    scan : Scan
        With a source without fault.
    labels : Labels
        (slices, rows, columns).
    made : datetime
        When the objects are made.

    Returns
    -------
    tuple of (ObjectContext, list of Remark)
        And what the reader must know of it.
    """
    assert scan.source is not None
    source, series = scan.source, scan.series_uid or ""
    given = source.attribute("StudyInstanceUID")
    alone = len({(frame.sop_uid, frame.number) for frame in source.frames}) == len(source.frames)
    frames = tuple(
        replace(
            frame,
            sop_class=frame.sop_class if uids.is_usable(frame.sop_class) else CT_IMAGE_STORAGE,
            sop_uid=uids.repair_uid(frame.sop_uid if alone else "", series, f"slice {index}"),
        )
        for index, frame in enumerate(source.frames)
    )
    checked = {
        "study": uids.is_usable(given),
        "series": uids.is_usable(series),
        "slices": alone and all(uids.is_usable(frame.sop_uid) for frame in source.frames),
        "frame of reference": uids.is_usable(source.frame_of_reference_uid),
    }
    replaced = [name for name, fits in checked.items() if not fits]
    findings = hashlib.sha256(document.findings.model_dump_json().encode())
    places = components.find_labelled_pixels(labels)
    findings.update(places.tobytes() + labels.ravel()[places].astype(np.int32).tobytes())
    seed = (
        series or given,
        hashlib.sha256("\n".join(frame.sop_uid for frame in source.frames).encode()).hexdigest(),
        document.model.sha256,
        document.software,
        findings.hexdigest(),
    )
    shape = source.to_stored(labels[:1]).shape
    shared = ObjectContext(
        source=replace(
            source,
            frames=frames,
            frame_of_reference_uid=uids.repair_uid(
                source.frame_of_reference_uid, series or given, "frame of reference"
            ),
        ),
        study_uid=uids.repair_uid(given, series, "study"),
        series_uid=uids.repair_uid(series, given, "series"),
        rows=shape[1],
        columns=shape[2],
        seed=seed,
        model=document.model,
        software=document.software,
        created=made,
    )
    return shared, _make_remarks(replaced, source)


def _make_remarks(replaced: list[str], source: DicomSource) -> list[Remark]:
    remarks = []
    if replaced:
        apart = "" if replaced == ["frame of reference"] else " An archive may not file the results with the input."
        message = (
            f"UIDs of the input are missing, not unique, or cannot stand in a DICOM object ({', '.join(replaced)}); "
            f"the DICOM outputs have others that follow from them.{apart}"
        )
        remarks.append(Remark(code="dicom-uids", severity="warning", message=message))
    if source.malformed:
        message = f"Left empty in the DICOM outputs, because their form is wrong: {', '.join(source.malformed)}."
        remarks.append(Remark(code="dicom-attributes", severity="warning", message=message))
    return remarks


def make_code_items(*concepts: Code) -> list[CodedConcept]:
    """Give code items."""
    return [CodedConcept.from_code(concept) for concept in concepts]


@contextmanager
def suppress_dicom_warnings() -> Iterator[None]:
    """Keep pydicom and highdicom from warning and logging while it lasts: their words may quote a patient's name."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
            warnings.filterwarnings("ignore", module=rf"{logger.name}(\.|$)")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
