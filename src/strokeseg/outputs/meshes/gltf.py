"""The 3D scene as `scene.glb`, and packed small for the report's own viewer."""

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
    """Turn LPS mm into glTF's frame: metres, y up, +z to the front.

    x = L (the patient's left), y = S (the head's top), z = -P (the face), so the patient stands upright and faces the
    viewer of +z. The matrix ((1, 0, 0), (0, 0, 1), (0, -1, 0)) / 1000 has a determinant above zero: a turn by -90
    degrees about x, nothing is mirrored.

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
    """Write `scene.glb`: nodes `brain` and `skull` (translucent), `lesion_1`, `lesion_2`, ... (red).

    Returns
    -------
    dict of str to str
        The name of the file; nothing for a scene without any surface, which has no file.
    """
    import trimesh
    from trimesh.visual import TextureVisuals
    from trimesh.visual.material import PBRMaterial

    if not list_surfaces(scene):
        return {}
    whole = trimesh.Scene()
    for name, mesh in list_surfaces(scene):
        glass = name in _TRANSLUCENT_RGBA
        material = PBRMaterial(
            name=name,
            baseColorFactor=_TRANSLUCENT_RGBA.get(name, _LESION_RGBA),
            metallicFactor=0.0,
            roughnessFactor=0.6 if glass else 0.45,
            alphaMode="BLEND" if glass else "OPAQUE",
            doubleSided=False,
        )
        surface = trimesh.Trimesh(
            convert_to_gltf_m(mesh.vertices_mm), mesh.faces, process=False, visual=TextureVisuals(material=material)
        )
        whole.add_geometry(surface, node_name=name, geom_name=name)

    def note(tree: dict[str, Any]) -> None:
        tree["asset"]["extras"] = {
            "frame": "metres; x = patient left, y = up (head), z = front (face)",
            "scale": "to scale" if scene.to_scale else "not to scale: the pixel spacing is not known",
            "note": "research use only",
        }

    data = whole.export(file_type="glb", include_normals=True, tree_postprocessor=note)
    (folder / NAME).write_bytes(data)
    return {"scene": NAME}


def pack_for_viewer(scene: Scene) -> dict[str, Any] | None:
    """Pack brain and lesions for the report: positions as 16-bit fractions of the common box, everything in base64.

    Returns
    -------
    dict of str to object or None
        Dict, ready for JSON: ``low`` and ``span`` of the box (glTF frame, metres), ``meshes`` with name, base64
        uint16 positions and base64 uint32 faces (little endian); None for a scene without any surface.
    """
    parts = [
        (name, convert_to_gltf_m(mesh.vertices_mm), mesh.faces)
        for name, mesh in list_surfaces(scene)
        if name != "skull"
    ]
    if not parts:
        return None
    low = np.min([vertices.min(0) for _, vertices, _ in parts], axis=0).astype(np.float64)
    high = np.max([vertices.max(0) for _, vertices, _ in parts], axis=0).astype(np.float64)
    span = np.maximum(high - low, 1e-6)
    meshes = [
        {
            "name": name,
            "positions": _encode_base64(np.rint((vertices - low) / span * 65535).astype("<u2")),
            "faces": _encode_base64(faces.astype("<u4")),
        }
        for name, vertices, faces in parts
    ]
    return {"low": low.tolist(), "span": span.tolist(), "meshes": meshes}


def list_surfaces(scene: Scene) -> list[tuple[str, Mesh]]:
    """Return the scene's surfaces that have triangles, with their names: brain, skull, lesion_1, lesion_2, ..."""
    whole = [("brain", scene.brain), ("skull", scene.skull)]
    whole += [(f"lesion_{number}", mesh) for number, mesh in enumerate(scene.lesions, 1)]
    return [(name, mesh) for name, mesh in whole if mesh is not None and len(mesh.faces)]


def _encode_base64(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")
