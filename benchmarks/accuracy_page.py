"""Page docs/results.md, rendered from the stored figures alone."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.accuracy import Results, TrainedNetwork, get_validation_dice
from benchmarks.page import render_template
from strokeseg.evaluation.scan_tables import name_class
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
"""IoU, Dice and mAP published in github.com/fifaak/BrainStroke_Segmentation; ResNet-34 with 100 epochs."""


def render_page(results: Results, shipped: Sequence[Card]) -> str:
    """Render docs/results.md.

    Parameters
    ----------
    results : Results
        The stored figures.
    shipped : sequence of Card
        Cards of the shipped networks.

    Returns
    -------
    str
        The page.
    """
    zoo, ablation, seeds = (results.select_group(group) for group in ("zoo", "ablation", "seeds"))
    repeated_name = seeds[0].name.rpartition("-seed-")[0] if seeds else None
    repeated = [row for row in (*zoo, *seeds) if row.name.partition("-seed-")[0] == repeated_name]
    class_names = [name_class(each) for stored in results.whole_scans[:1] for each in stored.scores.lesions]
    base = next((row for row in ablation if row.name == "base"), None)
    return render_template(
        "results.md.j2",
        shipped=shipped,
        zoo=zoo,
        zoo_sources=_list_sources(zoo),
        test=zoo[0].card.metrics.get("test") if zoo else None,
        all_rows=[*zoo, *seeds, *ablation],
        repeated_name=repeated_name,
        repeated_dice=[get_validation_dice(row.card) for row in repeated],
        ablation=sorted(ablation, key=lambda row: (row.name != "base", row.name)),
        ablation_sources=_list_sources(ablation),
        base_dice=None if base is None else get_validation_dice(base.card),
        tests=[each.model_dump() for each in results.whole_scans if each.is_test],
        validations=[each.model_dump() for each in results.whole_scans if not each.is_test],
        class_names=class_names,
        published=[(row, PREDECESSOR_FIGURES[row.name]) for row in zoo if row.name in PREDECESSOR_FIGURES],
    )


def _list_sources(rows: Sequence[TrainedNetwork]) -> list[str]:
    return list(dict.fromkeys(source for row in rows for source in row.card.metrics["validation"]["sources"]))


def read_shipped_cards() -> list[Card]:
    """Read the cards of the shipped networks, the default first."""
    cards = [models.read_card(path) for path in models.SHIPPED_FOLDER.glob("*.json")]
    return sorted(cards, key=lambda card: (card.name != "default", card.name))
