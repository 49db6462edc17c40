"""Measurements of the head: skull, midline, ventricles, atlas, lesion location."""
