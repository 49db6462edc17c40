"""Mesh files of a result: GLB, STL, PLY, OBJ."""
