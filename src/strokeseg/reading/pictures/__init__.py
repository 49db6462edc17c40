"""Pictures (PNG, JPEG, TIFF ...) to uncalibrated scans."""
