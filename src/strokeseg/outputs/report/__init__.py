"""The HTML and PDF report, and their texts."""
