import base64

import numpy as np
import pygltflib
import pytest
import trimesh

from phantoms.results import make_scene, make_sphere
from strokeseg.outputs.meshes import gltf as mesh
from strokeseg.scene import Scene


@pytest.fixture
def written(tmp_path):
    assert mesh.save(tmp_path, make_scene()) == {"scene": "scene.glb"}
    return tmp_path / "scene.glb"


def test_scene_is_in_metres_upright_and_faces_the_viewer(written):
    loaded = trimesh.load(written)
    brain, bleed = loaded.geometry["brain"], loaded.geometry["lesion_1"]
    np.testing.assert_allclose(brain.extents, [0.14] * 3, rtol=0.02)
    # The bleed's centre is 40 mm to the left, 20 mm to the front and 10 mm up of the brain's: +x, +z, +y in glTF.
    np.testing.assert_allclose(bleed.centroid - brain.centroid, (0.040, 0.010, 0.020), atol=1e-4)
    np.testing.assert_allclose(brain.centroid, (0.010, 0.030, -0.020), atol=1e-4)


def test_nothing_is_mirrored(written):
    loaded = trimesh.load(written, process=True)
    for name, radius_m in (("brain", 0.070), ("lesion_1", 0.012), ("lesion_2", 0.005)):
        surface = loaded.geometry[name]
        surface.merge_vertices(merge_norm=True, merge_tex=True)
        assert surface.is_watertight
        # A mirrored surface would be inside out: negative volume.
        assert surface.volume == pytest.approx(4 / 3 * np.pi * radius_m**3, rel=0.03)


def test_nodes_and_materials(written):
    gltf = pygltflib.GLTF2().load(str(written))
    names = {node.name for node in gltf.nodes if node.mesh is not None}
    assert names == {"brain", "lesion_1", "lesion_2"}
    for node in (node for node in gltf.nodes if node.mesh is not None):
        material = gltf.materials[gltf.meshes[node.mesh].primitives[0].material]
        look = material.pbrMetallicRoughness
        assert (look.metallicFactor, bool(material.doubleSided)) == (0, False)
        if node.name == "brain":
            assert material.alphaMode == "BLEND" and look.baseColorFactor[3] < 0.5
        else:
            assert material.alphaMode in (None, "OPAQUE") and look.baseColorFactor[3] == 1
            assert look.baseColorFactor[0] > 0.6 > 0.2 > look.baseColorFactor[1]
    assert gltf.asset.extras["scale"] == "to scale"


def test_unknown_scale_is_said(tmp_path):
    mesh.save(tmp_path, make_scene(to_scale=False))
    assert "not to scale" in pygltflib.GLTF2().load(str(tmp_path / "scene.glb")).asset.extras["scale"]


def test_empty_scene_makes_no_file(tmp_path):
    assert mesh.save(tmp_path, Scene(None, (), True)) == {}
    assert mesh.pack_for_viewer(Scene(None, (), True)) is None
    assert not list(tmp_path.iterdir())


def test_lesions_alone_make_a_file(tmp_path):
    mesh.save(tmp_path, Scene(None, (make_sphere((0, 0, 0), 9),), True))
    assert set(trimesh.load(tmp_path / "scene.glb").geometry) == {"lesion_1"}


def test_packed_scene_is_the_same_scene():
    packed = mesh.pack_for_viewer(make_scene())
    assert [part["name"] for part in packed["meshes"]] == ["brain", "lesion_1", "lesion_2"]
    whole = np.frombuffer(base64.b64decode(packed["meshes"][1]["positions"]), "<u2").reshape(-1, 3)
    points = np.array(packed["low"]) + whole / 65535 * np.array(packed["span"])
    np.testing.assert_allclose(points.mean(0), (0.050, 0.040, 0.0), atol=1e-4)
    faces = np.frombuffer(base64.b64decode(packed["meshes"][1]["faces"]), "<u4")
    assert faces.size % 3 == 0 and faces.max() == len(points) - 1
