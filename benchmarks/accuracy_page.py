"""The page of `strokeseg bench accuracy`: docs/results.md, drawn from the stored rows and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.accuracy import Results, TrainedNetwork, get_validation_dice
from strokeseg.segmentation import models
from strokeseg.segmentation.models import Card

PREDECESSOR_FIGURES = {
    "unet-densenet121": (0.474, 0.533, 0.572),
    "unet-resnet34": (0.506, 0.559, 0.587),
    "unet-resnet50-batch-8": (0.744, 0.793, 0.748),
    "unet-resnet50-batch-32": (0.391, 0.458, 0.503),
    "unet-resnext101-32x8d": (0.402, 0.458, 0.564),
    "unet-efficientnet-b0": (0.402, 0.458, 0.564),
    "deeplabv3-resnet101": (0.512, 0.645, 0.608),
    "deeplabv3-resnet50": (0.490, 0.614, 0.572),
}
"""IoU, Dice and mAP that the predecessor printed; of its two ResNet-34 rows (40 epochs: 0.384, 0.442, 0.442) the one
of 100 epochs."""


def render_page(results: Results, shipped: Sequence[Card]) -> str:
    """Draw docs/results.md."""
    zoo, ablation, seeds = (results.select_group(group) for group in ("zoo", "ablation", "seeds"))
    lines = [
        "# Results: the networks, compared",
        "",
        "Drawn by `strokeseg bench accuracy` from `benchmarks/accuracy.json`; do not edit. The same command trains and",
        "scores everything again.",
        "",
        *_how(zoo),
        "",
        "## The shipped networks",
        "",
        *_table(
            ("network", "validation", "test: Dice", "precision", "recall", "pooled Dice", "detection AUC", "quiet"),
            [_shipped(card) for card in shipped],
        ),
        "",
        "Detection AUC: slices of the test set with blood against the validation's slices without. Quiet: the share of",
        "those without blood on which no pixel is answered, before small regions are dropped.",
        "",
        "## The zoo",
        "",
        *_table(
            (
                "network",
                "encoder weights",
                "validation",
                *_sources(zoo),
                "test: Dice",
                "IoU",
                "AP",
                "recall",
                "legacy IoU / Dice",
                "predecessor printed: IoU / Dice / mAP",
            ),
            [_zoo(row, _sources(zoo)) for row in zoo],
        ),
        "",
        *_legacy(zoo),
        "## What each network cost",
        "",
        *_table(
            ("network", "million parameters", "samples", "batch", "seed", "hours", "machine", "trained"),
            [_cost(row) for row in (*zoo, *seeds, *ablation)],
        ),
        "",
    ]
    if seeds:
        name = seeds[0].name.rpartition("-seed-")[0]
        repeated = [row for row in (*zoo, *seeds) if row.name.partition("-seed-")[0] == name]
        values = [get_validation_dice(row.card) for row in repeated]
        lines += [
            "## Several seeds of one network",
            "",
            f"{name}, trained {len(values)} times: validation {', '.join(f'{value:.3f}' for value in values)}; "
            f"from the lowest to the highest {max(values) - min(values):.3f}. Smaller differences between two rows",
            "of a table mean nothing.",
            "",
        ]
    if ablation:
        lines += [*_ablation(ablation), ""]
    return "\n".join(lines)


def _how(zoo: Sequence[TrainedNetwork]) -> list[str]:
    if not zoo:
        return ["No network of the zoo has been trained yet."]
    train, network = zoo[0].card.training["config"]["train"], zoo[0].card.training["config"]["network"]
    test = zoo[0].card.metrics.get("test", {})
    return [
        f"Every network of the zoo was trained on {train['samples']:,} samples of {network['size']} x "
        f"{network['size']} pixels, with the same split by patient: no patient of the test or the validation was",
        "trained on. That is a small budget, which a laptop can repeat: these rows compare architectures at one price,",
        "and none of them shows the best that its architecture can do. The shipped networks had more.",
        "",
        "- **Validation** is the mean over its sources of the mean Dice over patients, at the best common threshold;",
        "  checkpoint and threshold were chosen by it, so it flatters.",
        *_of_test(test),
        "- **Legacy** is the predecessor's own metric on our test patients; what it hides is told in",
        "  [metrics.md](metrics.md). Its printed figures split by slice: the same patients stood on both sides.",
    ]


def _of_test(test: dict[str, Any]) -> list[str]:
    if not test:
        return ["- **Test**: none, the test set was not there."]
    return [
        f"- **Test** is `{test['set']}`: {test['patients']} patients, {test['slices']} slices; the mean over patients",
        "  with a 95 % bootstrap interval. Nothing was chosen by it. Where two intervals overlap, these patients do",
        "  not tell the two networks apart.",
    ]


def _sources(rows: Sequence[TrainedNetwork]) -> list[str]:
    return list(dict.fromkeys(source for row in rows for source in row.card.metrics["validation"]["sources"]))


def _of_sources(row: TrainedNetwork, sources: Sequence[str]) -> list[str]:
    found = row.card.metrics["validation"]["sources"]
    return [f"{found[source]['dice']:.3f}" if source in found else "–" for source in sources]


def _zoo(row: TrainedNetwork, sources: Sequence[str]) -> list[str]:
    test, checked = row.card.metrics.get("test", {}), row.card.metrics["validation"]
    scores = test.get("per_patient", {})
    further = test.get("further", {})
    printed = PREDECESSOR_FIGURES.get(row.name)
    return [
        row.name,
        str(row.card.training["run"]["encoder_weights"]),
        f"{checked['dice']:.3f}",
        *_of_sources(row, sources),
        _shown(scores.get("dice")),
        *(_short(scores.get(metric)) for metric in ("iou", "average_precision", "recall")),
        f"{_short(further.get('seed_legacy_iou'))} / {_short(further.get('seed_legacy_dice'))}",
        " / ".join(f"{value:.3f}" for value in printed) if printed else "",
    ]


def _legacy(zoo: Sequence[TrainedNetwork]) -> list[str]:
    """Say of the predecessor's best row what it becomes here."""
    row = next((row for row in zoo if row.name == "unet-resnet50-batch-8"), None)
    scores = row.card.metrics.get("test") if row else None
    if row is None or not scores:
        return []
    return [
        "The predecessor's best row, a U-Net with ResNet-50 in batches of 8, was printed with Dice 0.793, IoU 0.744.",
        f"On patients whom it has not seen ours has Dice {_short(scores['per_patient']['dice'])} and IoU "
        f"{_short(scores['per_patient']['iou'])},",
        f"and by the predecessor's own metric {_short(scores['further']['seed_legacy_dice'])} and "
        f"{_short(scores['further']['seed_legacy_iou'])}, after {row.card.training['config']['train']['samples']:,} "
        "samples where it had 200 epochs.",
        "",
    ]


def _cost(row: TrainedNetwork) -> list[str]:
    run, train = row.card.training["run"], row.card.training["config"]["train"]
    return [
        row.name,
        f"{run['parameters'] / 1e6:.1f}",
        f"{run['samples_done']:,}",
        str(train["batch"]),
        str(train["seed"]),
        f"{run['hours']:.2f}",
        run["machine"],
        row.date,
    ]


def _ablation(rows: Sequence[TrainedNetwork]) -> list[str]:
    base = next((row for row in rows if row.name == "base"), None)
    names = _sources(rows)
    table = []
    for row in sorted(rows, key=lambda row: (row.name != "base", row.name)):
        checked, test = row.card.metrics["validation"], row.card.metrics.get("test", {}).get("per_patient", {})
        change = "" if base is None or row is base else f"{checked['dice'] - get_validation_dice(base.card):+.3f}"
        table.append(
            [
                row.name,
                f"{checked['dice']:.3f}",
                change,
                *_of_sources(row, names),
                _shown(test.get("dice")),
                _short(test.get("recall")),
            ]
        )
    return [
        "## What each idea gave",
        "",
        "Each row leaves one idea out of `base`, or adds one to it (`configs/ablation/`). One seed each.",
        "",
        *_table(("run", "validation", "change", *names, "test: Dice", "recall"), table),
    ]


def _shipped(card: Card) -> list[str]:
    test = card.metrics.get("test", {})
    scores, further = test.get("per_patient", {}), test.get("further", {})
    return [
        f"`{card.name}` ({card.precision})",
        f"{get_validation_dice(card):.3f}",
        _shown(scores.get("dice")),
        _short(scores.get("precision")),
        _shown(scores.get("recall")),
        _short(test.get("pooled", {}).get("dice")),
        _short(further.get("detection_auc")),
        _short(further.get("quiet")),
    ]


def _shown(score: dict[str, Any] | None) -> str:
    if not score or score["value"] is None:
        return "–"
    if score["low"] is None:
        return f"{score['value']:.3f}"
    return f"{score['value']:.3f} ({score['low']:.3f}–{score['high']:.3f})"


def _short(score: dict[str, Any] | None) -> str:
    return "–" if not score or score["value"] is None else f"{score['value']:.3f}"


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(headings)} |",
        "|" + "---|" * len(headings),
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def read_shipped_cards() -> list[Card]:
    """Read the cards of the networks that StrokeSeg ships, the default first."""
    cards = [models.read_card(path) for path in models.SHIPPED_FOLDER.glob("*.json")]
    return sorted(cards, key=lambda card: (card.name != "default", card.name))
