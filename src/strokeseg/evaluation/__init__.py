"""Evaluate a network on pairs of images and masks: metrics with intervals over patients."""

from strokeseg.evaluation.pairs import Normal, Pair, find_normals, find_pairs
from strokeseg.evaluation.scans import ScanCase, find_scans, find_scans_without_blood
from strokeseg.evaluation.schema import Evaluation
from strokeseg.evaluation.scoring import evaluate
from strokeseg.evaluation.terminal_table import render_table
from strokeseg.evaluation.whole_scans import evaluate_scans

__all__ = [
    "Evaluation",
    "Normal",
    "Pair",
    "ScanCase",
    "evaluate",
    "evaluate_scans",
    "find_normals",
    "find_pairs",
    "find_scans",
    "find_scans_without_blood",
    "render_table",
]
