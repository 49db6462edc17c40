"""DICOM series to scans: headers, grouping into series, pixel data."""
