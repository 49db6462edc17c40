"""Synthetic head CT with a known bleed: an analytic head, sampled at each pixel's place in the patient, as files.

The head is a shell of bone (1000 HU) around brain (35 HU) with an ellipsoid bleed (65 HU), in LPS mm. Nothing here uses
strokeseg: the truth is the ellipsoid's own volume and centre.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    RLELossless,
    generate_uid,
)

SKULL_MM = (74.0, 92.0, 95.0)
BRAIN_MM = (66.0, 84.0, 87.0)
LESION_MM = (18.0, 22.0, 21.0)
LESION_CENTRE_MM = (24.0, -14.0, 9.0)
LESION_ML = 4 / 3 * np.pi * np.prod(LESION_MM) / 1000

# Encoded by gdcm, which the package itself does not use.
GDCM_SYNTAXES = {
    "jpeg-ls": "JPEGLSLossless",
    "jpeg-2000": "JPEG2000Lossless",
    "jpeg-lossless": "JPEGLosslessProcess14",
    "jpeg-lossless-sv1": "JPEGLosslessProcess14_1",
    "deflated": "DeflatedExplicitVRLittleEndian",
    "big-endian": "ExplicitVRBigEndian",
}


def inside_ellipsoid(points, semiaxes, centre=(0.0, 0.0, 0.0)):
    return (((points - np.asarray(centre)) / np.asarray(semiaxes)) ** 2).sum(axis=-1) <= 1


def head_hu(points):
    """Compute the head's Hounsfield units at points (..., 3), LPS mm."""
    hu = np.full(points.shape[:-1], -1000, dtype=np.int16)
    hu[inside_ellipsoid(points, SKULL_MM)] = 1000
    hu[inside_ellipsoid(points, BRAIN_MM)] = 35
    hu[inside_ellipsoid(points, LESION_MM, LESION_CENTRE_MM)] = 65
    return hu


@dataclass(frozen=True)
class Geometry:
    """Slices through the head: ``z_mm`` are places of the slices' centres along the table."""

    z_mm: tuple[float, ...] = tuple(np.arange(-48.0, 63.0, 3.0))
    tilt_deg: float = 0.0
    row_sign: int = 1
    column_sign: int = 1
    shape: tuple[int, int] = (180, 160)
    spacing_mm: tuple[float, float] = (1.1, 1.05)

    @property
    def row_cosine(self):
        return np.array([float(self.row_sign), 0, 0])

    @property
    def column_cosine(self):
        angle = np.radians(self.tilt_deg)
        return self.column_sign * np.array([0, np.cos(angle), np.sin(angle)])

    def position(self, z):
        """Return the LPS position of the first pixel of the slice whose centre is at (0, 0, z)."""
        rows, columns = self.shape
        return (
            np.array([0, 0, z])
            - (columns - 1) / 2 * self.spacing_mm[1] * self.row_cosine
            - (rows - 1) / 2 * self.spacing_mm[0] * self.column_cosine
        )

    def plane_hu(self, z):
        rows, columns = np.meshgrid(*(np.arange(n) for n in self.shape), indexing="ij")
        down = (rows * self.spacing_mm[0])[..., None] * self.column_cosine
        along = (columns * self.spacing_mm[1])[..., None] * self.row_cosine
        return head_hu(self.position(z) + down + along)

    def but(self, **changes):
        return replace(self, **changes)


def ct_dataset(hu, position, geometry, *, series="1.2.3", instance=1, slope=1.0, intercept=-1024.0, signed=False):
    """Make one CT slice as pydicom's dataset, uncompressed."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[series, str(instance)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID = CTImageStorage
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.Modality = "CT"
    data.PatientName = "SECRET^NAME"
    data.PatientID = "SECRET-ID"
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    data.StudyInstanceUID = "1.2"
    data.StudyDate, data.StudyTime = "20200101", "120000"  # gdcm writes the present ones where there are none
    data.SeriesInstanceUID = series
    data.InstanceNumber = instance
    data.SliceThickness = 3.0
    data.ImagePositionPatient = [f"{v:.6f}" for v in position]
    data.ImageOrientationPatient = [f"{v:.8f}" for v in (*geometry.row_cosine, *geometry.column_cosine)]
    data.PixelSpacing = list(geometry.spacing_mm)
    data.Rows, data.Columns = hu.shape
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit = 15
    data.PixelRepresentation = int(signed)
    data.RescaleSlope, data.RescaleIntercept = slope, intercept
    stored = np.rint((hu.astype(np.float64) - intercept) / slope)
    data.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()
    return data


def make_datasets(geometry=None, **options):
    """Make one dataset a slice, inferior first."""
    geometry = geometry or Geometry()
    return [
        ct_dataset(geometry.plane_hu(z), geometry.position(z), geometry, instance=number, **options)
        for number, z in enumerate(geometry.z_mm, start=1)
    ]


def write(data, path, syntax="explicit"):
    """Write a dataset: explicit, implicit, rle, no-preamble, no-meta, or one of gdcm's encodings."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if syntax == "implicit":
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    if syntax == "rle":
        data.compress(RLELossless, generate_instance_uid=False)
    if syntax == "no-meta":  # the data set alone, as old exports have it
        plain = Dataset(data)
        plain.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)
        return path
    data.save_as(path, enforce_file_format=True)
    if syntax == "no-preamble":
        path.write_bytes(path.read_bytes()[132:])
    if syntax in GDCM_SYNTAXES:
        transcode(path, GDCM_SYNTAXES[syntax])
    if syntax == "htj2k":
        write_encapsulated(path, [encode_htj2k(data)], "1.2.840.10008.1.2.4.201")
    return path


def transcode(path, name):
    import gdcm

    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, name)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


def encode_htj2k(data):
    """Encode with OpenJPH; the package decodes with OpenJPEG."""
    import imagecodecs

    return bytes(imagecodecs.htj2k_encode(data.pixel_array))


def write_encapsulated(path, frames, uid, *, fragments=1, table=True):
    """Put code streams into a file, each in a number of fragments, with or without the basic table of offsets."""
    data = dcmread(path)
    data.file_meta.TransferSyntaxUID = uid
    data.PixelData = encapsulate(frames, fragments_per_frame=fragments, has_bot=table)
    data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
    data.save_as(path)
    return path


def write_series(folder, slices=None, syntax="explicit", order=None):
    """Write slices as IM0001.dcm ...; ``order`` permutes the file names."""
    slices = make_datasets() if slices is None else slices
    order = range(len(slices)) if order is None else order
    for number, index in enumerate(order, start=1):
        write(slices[index], folder / f"IM{number:04}.dcm", syntax)
    return folder


def make_group(**values):
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return [item]


def make_enhanced(slices, *, shared=True, stacks=None, legacy=False):
    """Make one multi-frame CT of single slices; ``shared`` puts what is alike into the shared functional groups.

    ``stacks`` gives a StackID for each frame. The classic tags of place and rescale are gone from the file itself.
    """
    data = deepcopy(slices[0])
    kind = "1.2.840.10008.5.1.4.1.1.2.2" if legacy else EnhancedCTImageStorage
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = kind
    data.NumberOfFrames = len(slices)
    data.PixelData = b"".join(item.PixelData for item in slices)
    common, own = Dataset(), []
    for number, item in enumerate(slices, start=1):
        groups = Dataset()
        target = common if shared else groups
        groups.PlanePositionSequence = make_group(ImagePositionPatient=item.ImagePositionPatient)
        groups.PixelValueTransformationSequence = make_group(
            RescaleIntercept=item.RescaleIntercept, RescaleSlope=item.RescaleSlope, RescaleType="HU"
        )
        groups.FrameContentSequence = make_group(
            StackID=stacks[number - 1] if stacks else "1", InStackPositionNumber=number
        )
        groups.CTImageFrameTypeSequence = make_group(FrameType=list(item.ImageType))
        target.PixelMeasuresSequence = make_group(PixelSpacing=item.PixelSpacing, SliceThickness=item.SliceThickness)
        target.PlaneOrientationSequence = make_group(ImageOrientationPatient=item.ImageOrientationPatient)
        own.append(groups)
    data.SharedFunctionalGroupsSequence, data.PerFrameFunctionalGroupsSequence = [common], own
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(data, keyword)
    del data.RescaleSlope, data.RescaleIntercept, data.InstanceNumber
    return data


def make_mr(data):
    data.Modality = "MR"
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = MRImageStorage
    del data.RescaleSlope, data.RescaleIntercept
    return data


def make_localizer(series="1.2.3"):
    """Make a sagittal scout of the head."""
    geometry = Geometry(shape=(120, 120), spacing_mm=(2.0, 2.0))
    hu = head_hu(np.stack(np.meshgrid(0.0, np.arange(-120, 120, 2), np.arange(120, -120, -2)), axis=-1)[:, 0])
    data = ct_dataset(
        np.ascontiguousarray(hu.T.reshape(120, 120)), (0, -120, 120), geometry, series=series, instance=99
    )
    data.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    return data


def measure_lesion(scan):
    """Measure the bleed as anyone would: (ml, centroid LPS mm) of pixels between 50 and 100 HU."""
    slices, rows, columns = np.nonzero((scan.hu > 50) & (scan.hu < 100))
    weights = scan.weights_mm[slices]
    volume = weights.sum() * scan.planes.pixel_area_mm2 / 1000
    points = scan.planes.to_lps_mm(np.stack([slices, rows, columns], axis=1))
    return volume, (points * weights[:, None]).sum(axis=0) / weights.sum()
