"""Pictures of CT slices: PNG, JPEG, BMP, TIFF, WebP."""
