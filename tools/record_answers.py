"""Record the answers for six scans: `python -m tools.record_answers`.

`tests/test_answers.py` compares every later version with them, so that a change of the code that is not meant to change
an answer does not. Run it again only when an answer is meant to change, such as with a new network, and say so in
CHANGELOG.md. The answers that stand in the repository were first recorded with version 0.1.0.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import strokeseg
from strokeseg.segmentation.engines.cpu_features import detect_hardware

ROOT = Path(__file__).parent.parent
ANSWERS = ROOT / "tests/data/answers"
SCALE = {"window": (40, 120), "spacing_mm": (5, 0.45, 0.45)}


@dataclass(frozen=True)
class RecordedScan:
    """A scan whose answer is recorded.

    Attributes
    ----------
    path : str
        File or folder, relative to the repository.
    options : dict of str to object
        Keyword arguments of :func:`strokeseg.segment`.
    """

    path: str
    options: dict[str, Any]


SCANS = {
    "ctich_081": RecordedScan("samples/ctich_081", {}),
    "ctich_081_scaled": RecordedScan("samples/ctich_081", SCALE),
    "ge_head": RecordedScan("samples/ge_head.zip", {}),
    "rsna_volume": RecordedScan("../shared/data/rsna_volume/series.zip", {}),
    "cranium": RecordedScan("../shared/data/cranium/cranium_hu.nii.gz", {}),
    "phe_stack": RecordedScan("../shared/data/phe_sich_stacks/0024/images", {**SCALE, "window": (40, 80)}),
}


def segment_recorded(scan: RecordedScan) -> strokeseg.Result:
    """Segment one of the scans as it was recorded: ONNX Runtime on one thread, with experimental measurements."""
    return strokeseg.segment(ROOT / scan.path, engine="onnxruntime", threads=1, experimental=True, **scan.options)


def summarize(result: strokeseg.Result) -> dict[str, Any]:
    """Return `result.json` without wording, version and timing: what must not change by accident."""
    document = result.document.model_dump(mode="json")
    for key in ("software", "timing_s", "files", "disclaimer"):
        document.pop(key, None)
    for remark in document["remarks"]:
        del remark["message"]
    return document


def describe_cpu() -> list[str]:
    """Return the processor's vector instructions: other ones may round the network's answer differently."""
    return sorted({"avx2", "avx512f", "asimd"} & set(detect_hardware().flags))


def main() -> None:
    """Segment every scan and write its mask and figures to `tests/data/answers`."""
    ANSWERS.mkdir(parents=True, exist_ok=True)
    for name, scan in SCANS.items():
        result = segment_recorded(scan)
        np.savez_compressed(ANSWERS / f"{name}.npz", mask=np.packbits(result.mask), shape=result.mask.shape)
        record = {"cpu": describe_cpu(), "document": summarize(result)}
        (ANSWERS / f"{name}.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
        print(f"{name}: {np.count_nonzero(result.mask)} pixels, {result.findings.volume_ml} ml")


if __name__ == "__main__":
    main()
