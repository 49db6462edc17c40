"""Evaluate a network on pairs of images and masks: metrics with intervals over patients."""

from strokeseg.evaluation.pairs import Normal, Pair, find_normals, find_pairs
from strokeseg.evaluation.schema import Evaluation
from strokeseg.evaluation.scoring import evaluate
from strokeseg.evaluation.terminal_table import render_table

__all__ = ["Evaluation", "Normal", "Pair", "evaluate", "find_normals", "find_pairs", "render_table"]
