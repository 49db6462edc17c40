"""Attributes that all DICOM objects of one result share: study, UIDs, referenced frames, equipment."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import UID
from pydicom.valuerep import format_number_as_ds

from strokeseg.dicom_source import DicomSource, SourceFrame
from strokeseg.imaging import components
from strokeseg.imaging.components import Labels
from strokeseg.outputs.dicom import codes, uids
from strokeseg.result import ModelInfo, Remark, ResultDocument
from strokeseg.scan import Scan

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
    """Attributes that the DICOM objects of one result share.

    Attributes
    ----------
    source : DicomSource
        Source of the scan, with the UIDs that the objects use.
    study_uid, series_uid : str
        UIDs of the input that the objects use.
    rows, columns : int
        Size of a stored frame.
    seed : tuple of str
        Names from which all new UIDs are derived.
    model : ModelInfo
        The model.
    software : str
        Name and version of the software.
    created : datetime
        Time of creation.
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
        """Derive the UID of a named part of this result."""
        return uids.derive_uid(*self.seed, *parts)

    @property
    def serial_number(self) -> str:
        """The shortened checksum of the model, used as the serial number."""
        return self.model.sha256[:16]

    @property
    def version(self) -> str:
        """The version of StrokeSeg."""
        return self.software.rpartition(" ")[2]

    @property
    def parameters(self) -> dict[str, str]:
        """Further parameters that determine the result."""
        model = self.model
        return {"threshold": str(model.threshold), "precision": model.precision, "sha256": model.sha256}

    def group_frames(self, slices: Sequence[int] | None = None) -> dict[SourceFrame, list[int]]:
        """Group the frames of slices by the DICOM object that holds them.

        Parameters
        ----------
        slices : sequence of int, optional
            Slice indices; by default all.

        Returns
        -------
        dict of SourceFrame to list of int
            For each object its first frame, and the numbers of its frames in order; the list is empty for a
            single-frame object.
        """
        groups: dict[str, tuple[SourceFrame, list[int]]] = {}
        for index in range(len(self.source.frames)) if slices is None else slices:
            frame = self.source.frames[index]
            _, numbers = groups.setdefault(frame.sop_uid, (frame, []))
            if frame.number is not None:
                numbers.append(frame.number)
        return dict(groups.values())

    def make_reference(self, slice_index: int) -> Dataset:
        """Make an item that references the frame of a slice."""
        frame = self.source.frames[slice_index]
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = frame.sop_class, frame.sop_uid
        if frame.number is not None:
            item.ReferencedFrameNumber = frame.number
        return item

    def make_evidence(self) -> list[Dataset]:
        """Make the objects of the input with the attributes that a structured report needs."""
        images = []
        for frame in self.group_frames():
            image = self._make_image()
            image.SOPClassUID, image.SOPInstanceUID = frame.sop_class, frame.sop_uid
            images.append(image)
        return images

    def make_plane_images(self) -> list[Dataset]:
        """Make one single-frame image per slice, whatever its object is, from which highdicom takes the geometry.

        Its UID is 1.1 and the index of the slice; :meth:`make_reference` gives the real one.
        """
        images = []
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
            images.append(image)
        return images

    @property
    def _step_mm(self) -> float:
        """The substitute for an unknown thickness: the median step along the normal, or 1 mm."""
        normal = np.cross(self.source.row_cosine, self.source.column_cosine)
        steps = np.diff([float(np.dot(frame.position_mm, normal)) for frame in self.source.frames])
        return float(np.median(np.abs(steps))) if steps.size else 1.0

    def _make_image(self) -> Dataset:
        """Make an image of the study without patient attributes, which :meth:`stamp` sets in the final object."""
        image = Dataset()
        image.StudyInstanceUID, image.SeriesInstanceUID = self.study_uid, self.series_uid
        for keyword in _REQUIRED_ATTRIBUTES:
            setattr(image, keyword, "")
        return image

    def stamp(self, dataset: Dataset, kind: str, instance: str = "1") -> None:
        """Set patient, study, UIDs, dates and software in an object.

        Parameters
        ----------
        dataset : Dataset
            The object; it is modified.
        kind : str
            Kind of object; each kind has its own series.
        instance : str, default: "1"
            Name of the object within its series.
        """
        dataset.SpecificCharacterSet = "ISO_IR 192"
        attributes = dict(self.source.attributes)
        for keyword in _REQUIRED_ATTRIBUTES:
            setattr(dataset, keyword, attributes.pop(keyword, ""))
        for keyword, text in attributes.items():
            if keyword not in _IMAGE_ATTRIBUTES:
                setattr(dataset, keyword, text)
        dataset.StudyInstanceUID = self.study_uid
        dataset.SeriesInstanceUID, dataset.SOPInstanceUID = (
            self.derive_uid(kind, "series"),
            self.derive_uid(kind, instance),
        )
        dataset.file_meta.MediaStorageSOPInstanceUID = UID(dataset.SOPInstanceUID)
        dataset.file_meta.ImplementationClassUID = _IMPLEMENTATION
        dataset.file_meta.ImplementationVersionName = f"STROKESEG_{self.version}"[:16]
        dataset.SoftwareVersions = [self.version, f"{self.model.name} {self.model.version}"[:64]]
        self._set_dates(dataset)
        if self.source.deidentified:
            dataset.PatientIdentityRemoved = "YES"
            dataset.DeidentificationMethod = "StrokeSeg: UIDs replaced, patient attributes removed"
            dataset.DeidentificationMethodCodeSequence = make_code_items(codes.BASIC_PROFILE)
            dataset.LongitudinalTemporalInformationModified = "REMOVED"
        elif dataset.get("PatientIdentityRemoved") == "YES" and "DeidentificationMethod" not in dataset:
            dataset.DeidentificationMethod = "not stated by the source"

    def _set_dates(self, dataset: Dataset) -> None:
        """Set the dates of creation; after de-identification none, or dummies if required (PS3.15 E.1-1, D)."""
        day, time = (_NO_DATE, _NO_TIME) if self.source.deidentified else self.created.strftime("%Y%m%d %H%M%S").split()
        dataset.InstanceCreationDate, dataset.InstanceCreationTime = day, time
        for keyword, value in (("ContentDate", day), ("ContentTime", time)):
            if keyword in dataset:
                setattr(dataset, keyword, value)
        for item in dataset.get("ContributingEquipmentSequence", []):
            if "ContributionDateTime" in item:
                del item.ContributionDateTime


def make_context(
    scan: Scan, document: ResultDocument, labels: Labels, created: datetime
) -> tuple[ObjectContext, list[Remark]]:
    """Make the context of the DICOM objects of a result.

    Parameters
    ----------
    scan : Scan
        A scan with a DICOM source without fault.
    document : ResultDocument
        The result.
    labels : ndarray of int, shape (slices, rows, columns)
        0 is background, 1 the largest lesion.
    created : datetime
        Time of creation.

    Returns
    -------
    tuple of (ObjectContext, list of Remark)
        The context, and remarks on replaced UIDs and malformed attributes.
    """
    assert scan.source is not None
    source, series = scan.source, scan.series_uid or ""
    study = source.attribute("StudyInstanceUID")
    is_unique = len({(frame.sop_uid, frame.number) for frame in source.frames}) == len(source.frames)
    frames = tuple(
        replace(
            frame,
            sop_class=frame.sop_class if uids.is_usable(frame.sop_class) else CT_IMAGE_STORAGE,
            sop_uid=uids.repair_uid(frame.sop_uid if is_unique else "", series, f"slice {index}"),
        )
        for index, frame in enumerate(source.frames)
    )
    usable = {
        "study": uids.is_usable(study),
        "series": uids.is_usable(series),
        "slices": is_unique and all(uids.is_usable(frame.sop_uid) for frame in source.frames),
        "frame of reference": uids.is_usable(source.frame_of_reference_uid),
    }
    replaced = [name for name, is_usable in usable.items() if not is_usable]
    findings_hash = hashlib.sha256(document.findings.model_dump_json().encode())
    pixels = components.find_labelled_pixels(labels)
    findings_hash.update(pixels.tobytes() + labels.ravel()[pixels].astype(np.int32).tobytes())
    seed = (
        series or study,
        hashlib.sha256("\n".join(frame.sop_uid for frame in source.frames).encode()).hexdigest(),
        document.model.sha256,
        document.software,
        findings_hash.hexdigest(),
    )
    shape = source.to_stored(labels[:1]).shape
    context = ObjectContext(
        source=replace(
            source,
            frames=frames,
            frame_of_reference_uid=uids.repair_uid(
                source.frame_of_reference_uid, series or study, "frame of reference"
            ),
        ),
        study_uid=uids.repair_uid(study, series, "study"),
        series_uid=uids.repair_uid(series, study, "series"),
        rows=shape[1],
        columns=shape[2],
        seed=seed,
        model=document.model,
        software=document.software,
        created=created,
    )
    return context, _make_remarks(replaced, source)


def _make_remarks(replaced: list[str], source: DicomSource) -> list[Remark]:
    remarks = []
    if replaced:
        consequence = (
            "" if replaced == ["frame of reference"] else " An archive may not file the results with the input."
        )
        message = (
            f"UIDs of the input are missing, not unique or invalid ({', '.join(replaced)}); the DICOM outputs use UIDs "
            f"derived from them.{consequence}"
        )
        remarks.append(Remark(code="dicom-uids", severity="warning", message=message))
    if source.malformed:
        message = f"These malformed attributes are empty in the DICOM outputs: {', '.join(source.malformed)}."
        remarks.append(Remark(code="dicom-attributes", severity="warning", message=message))
    return remarks


def make_code_items(*concepts: Code) -> list[CodedConcept]:
    """Make code items."""
    return [CodedConcept.from_code(concept) for concept in concepts]
