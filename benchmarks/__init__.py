"""Benchmarks that anyone can run again: their figures go into benchmarks/ as data, and into docs/ as pages."""
