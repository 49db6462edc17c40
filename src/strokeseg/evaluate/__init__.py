"""How good a network is: metrics with one definition each, pairs of images and masks, intervals over patients."""

from strokeseg.evaluate.benchmark import Evaluation, evaluate, table
from strokeseg.evaluate.pairs import Pair, find_pairs

__all__ = ["Evaluation", "Pair", "evaluate", "find_pairs", "table"]
