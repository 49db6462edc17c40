"""The output files of a result: `formats` lists them, `saving` writes them, one subpackage per kind of file."""

from strokeseg.outputs.formats import ALL_FORMATS, DEFAULT_FORMATS, MESH_FORMATS, SOLID_FORMATS, check, check_formats
from strokeseg.outputs.saving import save

__all__ = ["ALL_FORMATS", "DEFAULT_FORMATS", "MESH_FORMATS", "SOLID_FORMATS", "check", "check_formats", "save"]
