"""Calibration of a network's confidence and of its volume interval."""

from strokeseg.training.calibration.calibrate import calibrate_network

__all__ = ["calibrate_network"]
