"""SOP classes and transfer syntaxes that the node accepts and sends; docs/conformance.md is generated from them."""

from __future__ import annotations

from pydicom import uid
from pynetdicom import sop_class

ACCEPTED_CLASSES: dict[str, str] = {
    name: str(getattr(sop_class, name))
    for name in ("CTImageStorage", "EnhancedCTImageStorage", "LegacyConvertedEnhancedCTImageStorage")
}

# Compressed instances are stored compressed.
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

# SOP class of each format that the node sends.
CLASS_OF_FORMAT = {
    "seg": "SegmentationStorage",
    "seg-labelmap": "LabelMapSegmentationStorage",
    "seg-probability": "SegmentationStorage",
    "sr": "ComprehensiveSRStorage",
    "capture": "SecondaryCaptureImageStorage",
    "pdf": "EncapsulatedPDFStorage",
}
SENT_CLASSES: dict[str, str] = {name: str(getattr(sop_class, name)) for name in dict.fromkeys(CLASS_OF_FORMAT.values())}
SENT_SYNTAXES: dict[str, str] = {
    name: str(getattr(uid, name)) for name in ("ExplicitVRLittleEndian", "ImplicitVRLittleEndian")
}
