"""Brain, skull and lesions as STL, PLY and OBJ in LPS millimetres, for printing, measuring and rendering."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import UsageError
from strokeseg.outputs import lesion_labels
from strokeseg.outputs.meshes.gltf import list_surfaces
from strokeseg.scan import Scan
from strokeseg.scene import Mesh, Scene

FORMATS = ("stl", "ply", "obj")

# 3D Slicer looks for this word in the comment of a mesh file; without it, some versions invert x and y.
_SPACE_COMMENT = "SPACE=LPS"
_FILE_COMMENT = f"StrokeSeg; mm; {_SPACE_COMMENT}; research use only"
_BRAIN_RGB, _SKULL_RGB = (204, 209, 219), (233, 221, 196)

_STL = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_VERTEX = np.dtype([("position", "<f4", 3), ("colour", "u1", 3)])
_FACE = np.dtype([("count", "u1"), ("corners", "<i4", 3)])


def check(scan: Scan, formats: Sequence[str]) -> None:
    """Refuse solids of a scan of unknown scale: a printer would use the nominal scale as the true one.

    Parameters
    ----------
    scan : Scan
        The scan.
    formats : sequence of str
        Formats; those not in :data:`FORMATS` are ignored.

    Raises
    ------
    UsageError
        `usage`, if the spacing or the slice thickness is unknown.
    """
    requested = [name for name in formats if name in FORMATS]
    if requested and not scan.spacing_known:
        raise UsageError(
            f"format {', '.join(requested)} is in mm, but the pixel spacing is unknown",
            "Pass it with --spacing SLICE,ROW,COLUMN in mm (spacing_mm in Python), or leave these formats out.",
        )
    if requested and scan.weights_mm is None:
        raise UsageError(
            f"format {', '.join(requested)} is a solid, but the thickness of the only slice is unknown",
            "Leave these formats out.",
        )


def save(folder: Path, scene: Scene, file_format: str) -> dict[str, str]:
    """Write the surfaces of a scene: `brain.stl`, `lesion_1.stl`, ..., the same as PLY, or all of them as `scene.obj`.

    Parameters
    ----------
    folder : Path
        Where to write them.
    scene : Scene
        The surfaces, to scale; their coordinates are written unchanged, LPS mm.
    file_format : str
        One of :data:`FORMATS`.

    Returns
    -------
    dict of str to str
        File names by key of `result.json`; empty for a scene without any surface.
    """
    surfaces = list_surfaces(scene)
    if file_format == "obj":
        return _save_obj(folder, surfaces) if surfaces else {}
    files = {}
    for name, mesh in surfaces:
        files[f"{name}_{file_format}"] = f"{name}.{file_format}"
        content = encode_stl(mesh) if file_format == "stl" else encode_ply(mesh, get_surface_rgb(name))
        (folder / f"{name}.{file_format}").write_bytes(content)
    return files


def get_surface_rgb(name: str) -> tuple[int, int, int]:
    """Return the colour (0 to 255 each) of a surface by its name."""
    if name in ("brain", "skull"):
        return _BRAIN_RGB if name == "brain" else _SKULL_RGB
    return lesion_labels.get_lesion_rgb(int(name.removeprefix("lesion_")))


def encode_stl(mesh: Mesh) -> bytes:
    """Return a surface as binary STL, LPS mm."""
    corners = mesh.vertices_mm[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    rows = np.zeros(len(mesh.faces), dtype=_STL)
    rows["normal"], rows["corners"] = normals / np.maximum(lengths, 1e-12), corners
    # A header that begins with "solid" would be taken for text.
    return _FILE_COMMENT.encode("ascii").ljust(80) + np.uint32(len(rows)).astype("<u4").tobytes() + rows.tobytes()


def encode_ply(mesh: Mesh, rgb: tuple[int, int, int]) -> bytes:
    """Return a surface as binary PLY, LPS mm, all in one colour."""
    vertices, faces = np.zeros(len(mesh.vertices_mm), dtype=_VERTEX), np.zeros(len(mesh.faces), dtype=_FACE)
    vertices["position"], vertices["colour"] = mesh.vertices_mm, rgb
    faces["count"], faces["corners"] = 3, mesh.faces
    header = ["ply", "format binary_little_endian 1.0", f"comment {_FILE_COMMENT}", f"element vertex {len(vertices)}"]
    header += [f"property float {axis}" for axis in "xyz"] + [f"property uchar {c}" for c in ("red", "green", "blue")]
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    return "\n".join(header).encode("ascii") + vertices.tobytes() + faces.tobytes()


def _save_obj(folder: Path, parts: list[tuple[str, Mesh]]) -> dict[str, str]:
    """Write `scene.obj`, an object a part, and `scene.mtl`, their colours; vertices are counted from 1 through all."""
    text, materials, before = [f"# {_FILE_COMMENT}\nmtllib scene.mtl\n"], [f"# {_FILE_COMMENT}\n"], 1
    for name, mesh in parts:
        text.append(f"o {name}\nusemtl {name}\n")
        text.append(_format_lines("v %.4f %.4f %.4f\n", mesh.vertices_mm))
        text.append(_format_lines("f %d %d %d\n", mesh.faces + np.int32(before)))
        before += len(mesh.vertices_mm)
        shade = " ".join(f"{part / 255:.4f}" for part in get_surface_rgb(name))
        opacity = {"brain": 0.3, "skull": 0.4}.get(name, 1.0)
        materials.append(f"newmtl {name}\nKd {shade}\nKs 0.1 0.1 0.1\nNs 20\nd {opacity}\nillum 2\n")
    (folder / "scene.obj").write_text("".join(text), "ascii", newline="\n")
    (folder / "scene.mtl").write_text("".join(materials), "ascii", newline="\n")
    return {"scene_obj": "scene.obj", "scene_mtl": "scene.mtl"}


def _format_lines(form: str, rows: NDArray[np.float32] | NDArray[np.int32]) -> str:
    return form * len(rows) % tuple(rows.ravel().tolist())
