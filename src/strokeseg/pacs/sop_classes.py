"""What the node stores: the classes and transfer syntaxes that reading knows. docs/conformance.md is made from it."""

from __future__ import annotations

from pydicom import uid
from pynetdicom import sop_class

ACCEPTED_CLASSES: dict[str, str] = {
    name: str(getattr(sop_class, name))
    for name in ("CTImageStorage", "EnhancedCTImageStorage", "LegacyConvertedEnhancedCTImageStorage")
}

# What came compressed stays so.
ACCEPTED_SYNTAXES: dict[str, str] = {
    name: str(getattr(uid, name))
    for name in (
        "ExplicitVRLittleEndian",
        "ImplicitVRLittleEndian",
        "JPEGLSLossless",
        "JPEGLosslessSV1",
        "JPEGLossless",
        "JPEG2000Lossless",
        "RLELossless",
        "HTJ2KLossless",
        "HTJ2KLosslessRPCL",
        "JPEGLSNearLossless",
        "JPEG2000",
        "HTJ2K",
        "JPEGExtended12Bit",
        "JPEGBaseline8Bit",
        "DeflatedExplicitVRLittleEndian",
        "ExplicitVRBigEndian",
    )
}

# What the node sends, and the class of each format.
CLASS_OF_FORMAT = {
    "seg": "SegmentationStorage",
    "seg-labelmap": "LabelMapSegmentationStorage",
    "seg-probability": "SegmentationStorage",
    "sr": "Comprehensive3DSRStorage",
    "capture": "SecondaryCaptureImageStorage",
    "pdf": "EncapsulatedPDFStorage",
}
SENT_CLASSES: dict[str, str] = {name: str(getattr(sop_class, name)) for name in dict.fromkeys(CLASS_OF_FORMAT.values())}
SENT_SYNTAXES: dict[str, str] = {
    name: str(getattr(uid, name)) for name in ("ExplicitVRLittleEndian", "ImplicitVRLittleEndian")
}
