"""Volume files to scans: NIfTI, NRRD, MetaImage."""
