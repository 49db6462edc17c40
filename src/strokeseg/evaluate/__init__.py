"""How good a network is: metrics with one definition each, pairs of images and masks, intervals over patients."""

from strokeseg.evaluate.benchmark import evaluate
from strokeseg.evaluate.evaluation import Evaluation
from strokeseg.evaluate.pairs import Normal, Pair, find_normals, find_pairs
from strokeseg.evaluate.table import table

__all__ = ["Evaluation", "Normal", "Pair", "evaluate", "find_normals", "find_pairs", "table"]
