"""Benchmarks behind the figures of the documentation: `python -m benchmarks NAME` in a clone of the repository.

The figures are stored as JSON in this folder; the pages in docs/ are rendered from them by the templates in templates/.
"""
