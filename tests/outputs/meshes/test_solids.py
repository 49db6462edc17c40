"""STL, PLY, OBJ and GLB as trimesh and VTK read them back; the truth is the shape's own, or the pixels'."""

import re
import struct

import numpy as np
import pytest
import trimesh

from data_sets import find_data_set
from phantoms import shapes
from phantoms.results import make_planes, make_scan, make_scene, make_sphere
from strokeseg import surfaces
from strokeseg.errors import UsageError
from strokeseg.outputs.meshes import gltf, solids
from strokeseg.scan import Scan
from strokeseg.scene import Scene

EVEN = np.arange(20) * 2.5
GRIDS = {
    "usual": shapes.make_planes(EVEN, (0.6, 0.6)),
    "thick": shapes.make_planes(np.arange(10) * 5.0, (0.5, 0.5)),
    "tilted": shapes.make_planes(EVEN, (0.6, 0.6), tilt_deg=20, column=(0, np.cos(0.35), -np.sin(0.35))),
    "uneven": shapes.make_planes([*np.arange(0, 25, 2.5), *np.arange(25, 50, 5.0)], (0.6, 0.6)),
}


def vtk_solid(path):
    """Measure a surface as VTK reads it: (volume mm3, centroid mm, edges that are open or join other than two)."""
    pytest.importorskip("vtkmodules", reason="VTK is a second reader of meshes: make test installs it")
    from vtkmodules.vtkFiltersCore import vtkCleanPolyData, vtkFeatureEdges, vtkMassProperties, vtkTriangleFilter
    from vtkmodules.vtkIOGeometry import vtkOBJReader, vtkSTLReader
    from vtkmodules.vtkIOPLY import vtkPLYReader

    reader = {"stl": vtkSTLReader, "ply": vtkPLYReader, "obj": vtkOBJReader}[path.suffix[1:]]()
    reader.SetFileName(str(path))
    clean, triangles = vtkCleanPolyData(), vtkTriangleFilter()
    clean.SetInputConnection(reader.GetOutputPort())
    clean.SetTolerance(0.0)
    triangles.SetInputConnection(clean.GetOutputPort())
    properties, edges = vtkMassProperties(), vtkFeatureEdges()
    for step in (properties, edges):
        step.SetInputConnection(triangles.GetOutputPort())
    edges.FeatureEdgesOff()
    edges.ManifoldEdgesOff()
    properties.Update()
    edges.Update()
    data = triangles.GetOutput()
    corners = np.array(
        [[data.GetPoint(data.GetCell(cell).GetPointId(k)) for k in range(3)] for cell in range(data.GetNumberOfCells())]
    )
    parts = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    centroid = (parts[:, None] * corners.sum(1) / 4).sum(0) / parts.sum()
    assert parts.sum() > 0  # outward
    return properties.GetVolume(), centroid, edges.GetOutput().GetNumberOfCells()


def save(folder, scene, kind):
    return {name: folder / path for name, path in solids.save(folder, scene, kind).items()}


@pytest.mark.parametrize("kind", ["stl", "ply"])
@pytest.mark.parametrize("name", GRIDS)
def test_lesion_has_its_volume_and_place_for_vtk_and_trimesh(name, kind, tmp_path):
    grid, shape = GRIDS[name], (90, 100)
    centre = shapes.compute_points_mm(grid, shape)[:, 44, 49].mean(0)
    mask = shapes.mark_ellipsoid(grid, shape, centre, (15, 13, 14))
    scene = surfaces.build_scene(shapes.make_scan(grid, shape), mask.astype(np.int32))
    path = save(tmp_path, scene, kind)[f"lesion_1_{kind}"]
    loaded = trimesh.load_mesh(path)
    assert loaded.is_watertight and loaded.is_winding_consistent
    truth = shapes.measure_volume_mm3(mask, grid)
    assert loaded.volume == pytest.approx(truth, rel=0.02)
    volume, centroid, faults = vtk_solid(path)
    assert volume == pytest.approx(truth, rel=0.02)
    assert faults == 0
    for place in (centroid, loaded.center_mass):
        assert np.linalg.norm(place - centre) < 1.0


@pytest.mark.parametrize("kind", ["stl", "ply"])
def test_lesion_on_one_slice_is_a_solid(kind, tmp_path):
    grid, shape = shapes.make_planes([0, 5, 10], (0.5, 0.5)), (60, 60)
    mask = np.zeros((3, *shape), bool)
    mask[1, 10:40, 20:50] = True
    scene = surfaces.build_scene(shapes.make_scan(grid, shape), mask.astype(np.int32))
    volume, centroid, faults = vtk_solid(save(tmp_path, scene, kind)[f"lesion_1_{kind}"])
    assert volume == pytest.approx(15 * 15 * 5, rel=0.02) and faults == 0
    np.testing.assert_allclose(centroid, (-30 + 17.25, -40 + 12.25, 55), atol=0.2)


def test_real_lesions_are_solids_of_their_volume(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.load(find_data_set("lesion_labels_3d/scan_0_segmentation.nii.gz"))
    volume = np.rint(np.asanyarray(image.dataobj)).astype(np.int32).transpose(2, 1, 0)[::5]
    grid = shapes.make_planes(np.arange(len(volume)) * 5.0, (1.0, 1.0))
    scene = surfaces.build_scene(
        shapes.make_scan(grid, volume.shape[1:]), np.where(volume == 4, 3, np.minimum(volume, 3)) % 4
    )
    for number, path in enumerate(save(tmp_path, scene, "stl").values(), 1):
        loaded = trimesh.load_mesh(path)
        labels = (volume == number) if number < 3 else np.isin(volume, (3, 4))
        assert loaded.is_watertight and len(loaded.faces) <= 20_000
        assert loaded.volume == pytest.approx(shapes.measure_volume_mm3(labels, grid), rel=0.02)
        assert surfaces.check_solid(scene.lesions[number - 1]).printable


def test_stl_is_binary_and_says_its_frame(tmp_path):
    paths = save(tmp_path, make_scene(), "stl")
    assert [path.name for path in paths.values()] == ["brain.stl", "lesion_1.stl", "lesion_2.stl"]
    data = paths["brain_stl"].read_bytes()
    (count,) = struct.unpack("<I", data[80:84])
    assert not data.startswith(b"solid") and b"SPACE=LPS" in data[:80] and b"mm" in data[:80]
    assert len(data) == 84 + 50 * count and count == len(make_scene().brain.faces)
    normal = np.frombuffer(data[84:96], "<f4")
    a, b, c = np.frombuffer(data[96:132], "<f4").reshape(3, 3)
    np.testing.assert_allclose(normal, np.cross(b - a, c - a) / np.linalg.norm(np.cross(b - a, c - a)), atol=1e-5)
    # Outward: away from the ball's centre.
    assert normal @ (a - (10, 20, 30)) > 0


def test_ply_is_coloured_and_says_its_frame(tmp_path):
    path = save(tmp_path, make_scene(), "ply")["lesion_1_ply"]
    assert b"comment StrokeSeg; mm; SPACE=LPS" in path.read_bytes()[:200]
    loaded = trimesh.load_mesh(path)
    np.testing.assert_allclose(loaded.center_mass, (50, 0, 40), atol=1e-3)
    red, green, blue = loaded.visual.vertex_colors[0][:3]
    assert red > 150 and green < 80 and blue < 80


def test_obj_holds_every_part_by_name_with_its_colour(tmp_path):
    paths = save(tmp_path, make_scene(), "obj")
    assert [path.name for path in paths.values()] == ["scene.obj", "scene.mtl"]
    text = paths["scene_obj"].read_text("ascii")
    assert "SPACE=LPS" in text.splitlines()[0]
    assert re.findall(r"^o (\S+)$", text, re.M) == ["brain", "lesion_1", "lesion_2"]
    assert re.findall(r"^newmtl (\S+)$", paths["scene_mtl"].read_text(), re.M) == ["brain", "lesion_1", "lesion_2"]
    loaded = trimesh.load(paths["scene_obj"], split_object=True, group_material=False)
    volumes = sorted(part.volume for part in loaded.geometry.values())
    np.testing.assert_allclose(volumes, [4 / 3 * np.pi * r**3 for r in (5, 12, 70)], rtol=0.03)
    volume, _, faults = vtk_solid(paths["scene_obj"])
    assert volume == pytest.approx(sum(volumes), rel=1e-3) and faults == 0


def test_skull_is_a_part_of_its_own(tmp_path):
    scene = Scene(make_sphere((0, 0, 0), 60), (make_sphere((20, 0, 0), 9),), True, make_sphere((0, 0, 0), 70))
    assert set(save(tmp_path, scene, "stl")) == {"brain_stl", "skull_stl", "lesion_1_stl"}
    assert trimesh.load_mesh(tmp_path / "skull.stl").extents[0] == pytest.approx(140, rel=0.01)
    gltf.save(tmp_path, scene)
    assert set(trimesh.load(tmp_path / "scene.glb").geometry) == {"brain", "skull", "lesion_1"}
    assert [part["name"] for part in gltf.pack_for_viewer(scene)["meshes"]] == ["brain", "lesion_1"]


def test_nothing_to_draw_makes_no_file(tmp_path):
    for kind in solids.FORMATS:
        assert solids.save(tmp_path, Scene(None, (), True), kind) == {}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", solids.FORMATS)
def test_no_solid_without_a_scale(kind):
    pictures = Scan.from_array(np.zeros((3, 20, 30)), calibrated=False, kind="pictures")
    with pytest.raises(UsageError, match=kind) as caught:
        solids.check(pictures, ("json", kind))
    assert "--spacing" in caught.value.remedy
    solids.check(pictures, ("json", "mesh"))
    with pytest.raises(UsageError, match="thickness"):
        solids.check(make_scan(make_planes(1, (0, 0, 5))), (kind,))
    solids.check(make_scan(make_planes(2, (0, 0, 5))), (kind,))
