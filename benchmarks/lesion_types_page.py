"""docs/types.md, drawn from the figures in `measure/types.json`."""

from __future__ import annotations

from typing import Any

from benchmarks.annotated_slices import ABBREVIATIONS, CODES

_NAMES = {code: name for name, code in ABBREVIATIONS.items()}

_HEAD = """# Types of bleeding

`strokeseg.measurements.lesion.types` tells for each lesion how likely it is intraparenchymal (IPH), intraventricular (IVH),
subdural (SDH), epidural (EDH) or subarachnoid (SAH). **It is experimental and off unless asked for**: on patients that
it has not seen its macro-F1 is {macro}, where 0.7 was asked for, and it does not tell EDH from SDH well.

`python -m benchmarks.lesion_types --test` writes this page, its figures and the parameters (`measure/types.json`).

## What is measured

Each slice of a lesion (up to three, evenly spread) is cut into connected pieces, and each piece of 0.1 % of the inside
of the skull or more is told by itself; the answer is the mean weighted by area. Lengths are shares of the head's radius
on that slice and grey levels are held against the brain's median, so that pictures without spacing and without
Hounsfield units are measured like any CT.

- Place: distance to the skull (least, median, most), share of the edge in contact with it and of the area near it;
  distance from the midline and, along it, from the middle.
- Form: area, thickness (largest inscribed circle), slenderness, solidity, roughness, elongation; whether it lies along
  the skull or along the midline.
- Unrolled along the skull: length, thickness, their ratio, depth at the ends, and the curve of the inner border: a lens
  bulges, a crescent follows the skull.
- Around it: dark (oedema or fluid) and fluid pixels in a ring of about 4 mm, fluid farther out, skull in the ring.
- Itself: density above the brain's median.

A multinomial logistic regression (L2) gives the probabilities. They hold as if the five types were equally frequent:
where most bleeds are of one type, it is more likely than said here. Nothing is said (null) where no head is found,
where every piece is too small, and where the mask fills the head.
"""

_DATA = """
## What it was learnt from

| | {codes} |
|---|{lines}|
{sources}
| **patients** | {patients} |
| **pieces** | {pieces} |

`ctich_train` is CT-ICH: masks drawn by radiologists, typed by the slice's diagnosis where there is a single one. The
boxes of `ctich_boxes` lie on slices that are nearly all among these, and were not needed. `phe_sich` holds spontaneous
bleeds: all are taken as IPH. `rsna_hemseg` does not part IPH from IVH and was not used. {lost} times all of a type on a
slice was too small, or the slice shows no head: these count nowhere.

The notes of `mbhseg25_mini` leave open which of two colours is IVH and which SAH. A fit without this set puts {ivh}
pieces of the one nearer to IVH and {sah} of the other nearer to SAH, and a look at the pictures agrees: the colours
are what they seem. Without these pieces the macro-F1 is {certain:.2f}.

Some truths are wrong: one patient with EDH in `bhsd_mini` has, by the look of it, blood in the brain and the
ventricles. It was left as it is.
"""

_JUDGED = """
## On patients that it has not seen

{folds}-fold, all slices of a patient in one fold, {repeats} times; the figures are means over these. Every patient's
type weighs the same, however many its pieces; intervals are 95 % over patients drawn with replacement.

| type | patients | pieces | F1 |
|---|---|---|---|
{rows}
| **macro-F1** | {all_patients} | {all_pieces} | **{macro}** |

Accuracy {accuracy:.0%}. With every piece of the same weight the macro-F1 is {of_pieces:.2f}; without `phe_sich`, which
lends IPH much of its F1, {without_phe:.2f}; with SDH and EDH as one type, {joined:.2f}.

Told (columns) and true (rows), sums over patients:

| | {codes} |
|---|{lines}|
{confusion}

Volumes of `bhsd_mini` and `mbhseg25_mini` count as different patients; that some are the same person cannot be
excluded. Where no piece of the one is judged by a fit that has seen the other, the macro-F1 is {apart:.2f}.

### A source that it has not seen

Learnt from the other three sources: macro-F1 over the types that the source holds, and accuracy.

| source left out | logistic regression | random forest |
|---|---|---|
{others}

On unseen patients of the same sources a random forest has a macro-F1 of {forest:.2f} and boosted trees of
{boosted:.2f}; where a whole source is new the forest's accuracy is below that of the regression, which is therefore
shipped. Most EDH come from CT-ICH and nearly all SDH from elsewhere: what parts these two is in part the source, and
without CT-ICH there are {edh_left} patients with EDH to learn from.

### Probabilities

Expected calibration error {error:.3f}, all types of the same weight:

| probability of the told type | right | share of answers |
|---|---|---|
{calibration}
"""

_TEST = """
## On the test patients

CT-ICH patients {first} to {last}, whom no choice was made by: slices with a single diagnosis, whole drawn mask.
{right} of {slices} slices right ({share:.0%}); mean over the {patients} patients {by_patient:.0%}; {untold} slices were
not told.

| | {codes} |
|---|{lines}|
{confusion}
"""


def render_page(content: dict[str, Any]) -> str:
    """Draw the page from what `types.json` holds."""
    figures, test = content["figures"], content.get("test")
    low, high = figures["intervals"][-1]
    macro = f"{figures['macro_f1']:.2f} ({low:.2f}–{high:.2f})"
    page = _HEAD.format(macro=macro) + _data(figures) + _judged(figures, macro)
    if test:
        page += _TEST.format(
            **{name: test[name] for name in ("first", "last", "right", "slices", "patients", "by_patient", "untold")},
            share=test["right"] / test["slices"],
            codes=" | ".join(CODES),
            lines="---|" * (len(CODES) - 1) + "---",
            confusion=_matrix(test["confusion"], "{:.0f}"),
        )
    return page


def _data(figures: dict[str, Any]) -> str:
    return _DATA.format(
        codes=" | ".join(CODES),
        lines="---|" * (len(CODES) - 1) + "---",
        sources="\n".join(f"| `{name}`, patients | {_cells(row)} |" for name, row in figures["by_source"].items()),
        patients=_cells(figures["patients"]),
        pieces=_cells(figures["pieces"]),
        lost=figures["lost"],
        ivh="{} of {}".format(*figures["colours"]["IVH"]),
        sah="{} of {}".format(*figures["colours"]["SAH"]),
        certain=figures["macro_f1_certain_colours"],
        edh=figures["patients"][CODES.index("EDH")],
    )


def _judged(figures: dict[str, Any], macro: str) -> str:
    rows = [
        f"| {_NAMES[code]} ({code}) | {patients} | {pieces} | {f1:.2f} ({low:.2f}–{high:.2f}) |"
        for code, patients, pieces, f1, (low, high) in zip(
            CODES, figures["patients"], figures["pieces"], figures["f1"], figures["intervals"][:-1], strict=True
        )
    ]
    others = [
        f"| `{name}` | " + " | ".join("{:.2f}, {:.0%}".format(*both[kind]) for kind in ("logistic", "forest")) + " |"
        for name, both in figures["other_sources"].items()
    ]
    edh = CODES.index("EDH")
    return _JUDGED.format(
        folds=figures["folds"],
        repeats=figures["repeats"],
        rows="\n".join(rows),
        all_patients=figures["all_patients"],
        all_pieces=sum(figures["pieces"]),
        macro=macro,
        accuracy=figures["accuracy"],
        of_pieces=figures["macro_f1_of_pieces"],
        without_phe=figures["macro_f1_without_phe"],
        joined=figures["macro_f1_one_extra_axial"],
        apart=figures["macro_f1_apart"],
        codes=" | ".join(CODES),
        lines="---|" * (len(CODES) - 1) + "---",
        confusion=_matrix(figures["confusion"], "{:.1f}"),
        others="\n".join(others),
        forest=figures["forest"],
        boosted=figures["boosted"],
        edh_left=figures["patients"][edh] - figures["by_source"]["ctich_train"][edh],
        error=figures["calibration_error"],
        calibration="\n".join("| {:.2f} | {:.2f} | {:.0%} |".format(*row) for row in figures["calibration"]),
    )


def _cells(row: list[int]) -> str:
    return " | ".join(str(value) for value in row)


def _matrix(rows: list[list[float]], form: str) -> str:
    return "\n".join(
        f"| **{code}** | " + " | ".join(form.format(value) for value in row) + " |"
        for code, row in zip(CODES, rows, strict=True)
    )
