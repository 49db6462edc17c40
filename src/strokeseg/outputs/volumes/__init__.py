"""Volume files of a result: NIfTI, NRRD."""
