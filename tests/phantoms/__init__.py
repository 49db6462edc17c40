"""Synthetic heads, series and networks that tests share."""
