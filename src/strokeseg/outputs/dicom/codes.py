"""Coded concepts of findings and measurements.

A concept has the DICOM or SNOMED CT code that means exactly that. A hemorrhage type without such a code is the general
code with the site that defines the type (PS3.16 combines a finding with its site). Concepts without a public code use
the private scheme that docs/dicom-outputs.md explains.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from strokeseg.result import Lesion, Side

SCHEME = "99STROKESEG"
SCHEME_NAME = "StrokeSeg private codes"

INTRACRANIAL = Code("1386000", "SCT", "Intracranial hemorrhage")
CEREBRAL = Code("274100004", "SCT", "Cerebral hemorrhage")
SUBDURAL = Code("35486000", "SCT", "Subdural intracranial hemorrhage")
SUBARACHNOID = Code("21454007", "SCT", "Subarachnoid intracranial hemorrhage")
ABNORMAL_STRUCTURE = Code("49755003", "SCT", "Morphologically Abnormal Structure")

BRAIN = Code("12738006", "SCT", "Brain")
VENTRICLE = Code("35764002", "SCT", "Brain ventricle")
_HEMISPHERE = Code("372073000", "SCT", "Cerebral hemisphere")
_CEREBELLUM = Code("113305005", "SCT", "Cerebellum")
_BRAINSTEM = Code("119238007", "SCT", "Brain Stem")
_INTRACRANIAL_SITE = Code("128319008", "SCT", "Intracranial structure")
_SUBARACHNOID_SITE = Code("35951006", "SCT", "Subarachnoid space")

PRESENT, ABSENT = codes.SCT.Present, codes.SCT.Absent
LATERALITY = Code("272741003", "SCT", "Laterality")
SIDE_CODES = {
    "left": Code("7771000", "SCT", "Left"),
    "right": Code("24028007", "SCT", "Right"),
    "both": Code("51440002", "SCT", "Right and left"),
    "midline": Code("261129000", "SCT", "Midline"),
}

VOLUME = Code("118565006", "SCT", "Volume")
LONG_AXIS = Code("103339001", "SCT", "Long axis")
ATTENUATION = Code("112031", "DCM", "Attenuation Coefficient")
MEAN = Code("373098007", "SCT", "Mean")
STANDARD_DEVIATION = Code("386136009", "SCT", "Standard Deviation")
SURFACE_AREA = Code("C0JK", "IBSI", "Surface Area of Mesh")
SPHERICITY = Code("QCFX", "IBSI", "Sphericity")
COMMENT = Code("121106", "DCM", "Comment")
HEAD_CT = Code("303653007", "SCT", "Computed tomography of head")
REPORT_TITLE = Code("126000", "DCM", "Imaging Measurement Report")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
DEVICE = Code("121007", "DCM", "Device")
SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
BASIC_PROFILE = Code("113100", "DCM", "Basic Application Confidentiality Profile")

ABC2 = Code("abc2", SCHEME, "Volume by ABC/2")
INTERVAL_LOW = Code("volume-low", SCHEME, "Volume, lower end of its interval")
INTERVAL_HIGH = Code("volume-high", SCHEME, "Volume, upper end of its interval")
INTERVAL_LEVEL = Code("interval-level", SCHEME, "Level of the volume's interval")
MIDLINE_SHIFT = Code("midline-shift", SCHEME, "Midline shift at the septum pellucidum")
VENTRICULAR_VOLUME = Code("ivh-volume", SCHEME, "Volume that lies in the ventricles")
VENTRICULAR_FRACTION = Code("ivh-share", SCHEME, "Share of the ventricles that is blood")
PROBABILITY = Code("probability", SCHEME, "Mean probability given by the network")
CONFIDENCE = Code("confidence", SCHEME, "Probability that there is blood")
TYPE_PROBABILITIES = {
    kind: Code(f"p-{short}", SCHEME, f"Probability of {kind} hemorrhage (experimental)")
    for kind, short in {
        "intraparenchymal": "iph",
        "intraventricular": "ivh",
        "subdural": "sdh",
        "epidural": "edh",
        "subarachnoid": "sah",
    }.items()
}

ML = Code("ml", "UCUM", "ml")
MM = Code("mm", "UCUM", "mm")
MM2 = Code("mm2", "UCUM", "mm2")
HU = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
NO_UNITS = Code("1", "UCUM", "no units")

_CODES_BY_LOCATION = {
    "deep": (CEREBRAL, BRAIN),
    "lobar": (CEREBRAL, _HEMISPHERE),
    "ventricle": (INTRACRANIAL, VENTRICLE),
    "extra-axial": (INTRACRANIAL, _INTRACRANIAL_SITE),
    "cerebellum": (INTRACRANIAL, _CEREBELLUM),
    "brainstem": (INTRACRANIAL, _BRAINSTEM),
}
_CODES_BY_TYPE = {
    "intraparenchymal": (CEREBRAL, BRAIN),
    "intraventricular": (INTRACRANIAL, VENTRICLE),
    "subdural": (SUBDURAL, _INTRACRANIAL_SITE),
    "epidural": (INTRACRANIAL, _INTRACRANIAL_SITE),
    "subarachnoid": (SUBARACHNOID, _SUBARACHNOID_SITE),
}
_TYPE_THRESHOLD = 0.5


@dataclass(frozen=True)
class LesionCodes:
    """Finding, site and side of a lesion; ``side`` is None if it is unknown."""

    finding: Code
    site: Code
    side: Code | None


def choose_lesion_codes(lesion: Lesion) -> LesionCodes:
    """Choose the codes of a lesion.

    A type with a probability above 0.5 decides if types were requested; otherwise the location decides. Without either,
    the lesion is an intracranial hemorrhage of the brain. An intraparenchymal lesion whose location has a code of its
    own keeps the code of the location.

    Parameters
    ----------
    lesion : Lesion
        The lesion.

    Returns
    -------
    LesionCodes
        Its codes.
    """
    finding, site = _CODES_BY_LOCATION.get(lesion.place or "", (INTRACRANIAL, BRAIN))
    likely = [name for name, probability in (lesion.type_probabilities or {}).items() if probability > _TYPE_THRESHOLD]
    if likely and not (likely[0] == "intraparenchymal" and lesion.place in ("cerebellum", "brainstem", "lobar")):
        finding, site = _CODES_BY_TYPE[likely[0]]
    return LesionCodes(finding, site, get_side_code(lesion.side))


def get_side_code(name: Side | None) -> Code | None:
    """Return the code of a side; None if it is unknown."""
    return SIDE_CODES.get(name or "")
