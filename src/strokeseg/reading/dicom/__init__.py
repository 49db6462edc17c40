"""DICOM series: headers, grouping into series, choice of a series, pixel data."""
