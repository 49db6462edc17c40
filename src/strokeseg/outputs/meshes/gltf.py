"""The 3D scene as `scene.glb`, and in compact form for the viewer of the report."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.scene import Mesh, Scene

NAME = "scene.glb"

_TRANSLUCENT_RGBA = {"brain": (0.80, 0.82, 0.86, 0.28), "skull": (0.91, 0.87, 0.77, 0.35)}
_LESION_RGBA = (0.78, 0.05, 0.06, 1.0)


def convert_to_gltf_m(vertices_mm: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert LPS mm to the frame of glTF: metres, y up, +z to the front.

    x = L (the patient's left), y = S (top of the head), z = -P (face), so the patient stands upright and faces a viewer
    on the +z axis. The matrix ((1, 0, 0), (0, 0, 1), (0, -1, 0)) / 1000 has a positive determinant: it is a rotation by
    -90 degrees about x, without mirroring.

    Parameters
    ----------
    vertices_mm : ndarray of float32, shape (n, 3)
        LPS mm.

    Returns
    -------
    ndarray of float32, shape (n, 3)
        Metres.
    """
    x, y, z = np.asarray(vertices_mm, dtype=np.float32).T / 1000
    return np.column_stack([x, z, -y]).astype(np.float32)


def save(folder: Path, scene: Scene) -> dict[str, str]:
    """Write `scene.glb` with the nodes `brain` and `skull` (translucent) and `lesion_1`, `lesion_2`, ... (red).

    Parameters
    ----------
    folder : Path
        Where to write it.
    scene : Scene
        The surfaces.

    Returns
    -------
    dict of str to str
        File name by key of `result.json`; empty for a scene without any surface, which has no file.
    """
    import trimesh
    from trimesh.visual import TextureVisuals
    from trimesh.visual.material import PBRMaterial

    if not list_surfaces(scene):
        return {}
    gltf_scene = trimesh.Scene()
    for name, mesh in list_surfaces(scene):
        is_translucent = name in _TRANSLUCENT_RGBA
        material = PBRMaterial(
            name=name,
            baseColorFactor=_TRANSLUCENT_RGBA.get(name, _LESION_RGBA),
            metallicFactor=0.0,
            roughnessFactor=0.6 if is_translucent else 0.45,
            alphaMode="BLEND" if is_translucent else "OPAQUE",
            doubleSided=False,
        )
        surface = trimesh.Trimesh(
            convert_to_gltf_m(mesh.vertices_mm), mesh.faces, process=False, visual=TextureVisuals(material=material)
        )
        gltf_scene.add_geometry(surface, node_name=name, geom_name=name)

    def add_notes(tree: dict[str, Any]) -> None:
        tree["asset"]["extras"] = {
            "frame": "metres; x = patient left, y = up (head), z = front (face)",
            "scale": "to scale" if scene.to_scale else "not to scale: the pixel spacing is unknown",
            "note": "research use only",
        }

    data = gltf_scene.export(file_type="glb", include_normals=True, tree_postprocessor=add_notes)
    (folder / NAME).write_bytes(data)
    return {"scene": NAME}


def pack_for_viewer(scene: Scene) -> dict[str, Any] | None:
    """Pack brain and lesions for the report: positions as 16-bit fractions of the bounding box, encoded in base64.

    Parameters
    ----------
    scene : Scene
        The surfaces; the skull is left out.

    Returns
    -------
    dict of str to object or None
        Ready for JSON: ``low`` and ``span`` of the box (glTF frame, metres), and ``meshes`` with their name, base64
        uint16 positions and base64 uint32 faces (little endian); None for a scene without any surface.
    """
    surfaces = [
        (name, convert_to_gltf_m(mesh.vertices_mm), mesh.faces)
        for name, mesh in list_surfaces(scene)
        if name != "skull"
    ]
    if not surfaces:
        return None
    low = np.min([vertices.min(0) for _, vertices, _ in surfaces], axis=0).astype(np.float64)
    high = np.max([vertices.max(0) for _, vertices, _ in surfaces], axis=0).astype(np.float64)
    span = np.maximum(high - low, 1e-6)
    meshes = [
        {
            "name": name,
            "positions": _encode_base64(np.rint((vertices - low) / span * 65535).astype("<u2")),
            "faces": _encode_base64(faces.astype("<u4")),
        }
        for name, vertices, faces in surfaces
    ]
    return {"low": low.tolist(), "span": span.tolist(), "meshes": meshes}


def list_surfaces(scene: Scene) -> list[tuple[str, Mesh]]:
    """List the surfaces of a scene that have triangles, with their names: brain, skull, lesion_1, lesion_2, ..."""
    surfaces = [("brain", scene.brain), ("skull", scene.skull)]
    surfaces += [(f"lesion_{number}", mesh) for number, mesh in enumerate(scene.lesions, 1)]
    return [(name, mesh) for name, mesh in surfaces if mesh is not None and len(mesh.faces)]


def _encode_base64(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
