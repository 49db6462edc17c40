"""Calibration of a network's confidence and of its volume interval."""
