"""Volumes: NIfTI, NRRD, MetaImage."""
