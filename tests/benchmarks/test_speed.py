"""The benchmark of speed: counts against sums by hand, the page, and the minimum ratio to the reference network."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks import speed_figures, speed_page, synthetic_series
from benchmarks.__main__ import main
from benchmarks.speed_figures import Durations, ScanSpeed
from strokeseg.errors import TrainError
from strokeseg.reading import read_one

ROOT = Path(__file__).parents[2]
STORED, PAGE = ROOT / "benchmarks/speed.json", ROOT / "docs/speed.md"
SAMPLE = ROOT / "samples/ge_head.zip"


def test_the_page_shows_the_stored_figures():
    """`python -m benchmarks speed --page-only` writes it again."""
    assert PAGE.read_text() == speed_page.render_page(speed_figures.read_figures(STORED))


def test_the_command_writes_the_page(tmp_path, capfd):
    page = tmp_path / "page.md"
    assert main(["speed", "--page-only", "--results", str(STORED), "--page", str(page)]) == 0
    assert page.read_text() == PAGE.read_text() and capfd.readouterr().out.strip() == str(page)


def test_figures_that_cannot_be_read(tmp_path, capfd):
    (tmp_path / "speed.json").write_text("{}")
    with pytest.raises(TrainError, match="no figures"):
        speed_figures.read_figures(tmp_path / "speed.json")
    arguments = ["--page-only", "--results", str(tmp_path / "speed.json"), "--page", str(tmp_path / "page.md")]
    assert main(["speed", *arguments]) == 3
    assert not (tmp_path / "page.md").exists() and "remedy" in capfd.readouterr().err


def test_a_sample_that_is_not_there(tmp_path, capfd):
    arguments = ["--sample", str(tmp_path / "no.zip"), "--results", str(tmp_path / "a"), "--page", str(tmp_path / "b")]
    assert main(["speed", *arguments]) == 3
    assert "error[unreadable]" in capfd.readouterr().err and list(tmp_path.iterdir()) == []


def test_operations_are_counted_as_by_hand():
    """3 x 3 from 1 to 4 channels on 16 x 16, then each channel alone with steps of two on 8 x 8."""
    from benchmarks.network_speed import count_gflop

    first, second = np.zeros((4, 1, 3, 3), np.float32), np.zeros((4, 1, 3, 3), np.float32)
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["image", "first"], ["between"], **pads),
        helper.make_node("Conv", ["between", "second"], ["out"], group=4, strides=[2, 2], **pads),
    ]
    ends = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 16, 16]),
        helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 4, 8, 8]),
    ]
    weights = [numpy_helper.from_array(first, "first"), numpy_helper.from_array(second, "second")]
    graph = helper.make_graph(nodes, "two", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    by_hand = 2 * 4 * 16 * 16 * 9 + 2 * 4 * 8 * 8 * 9
    assert count_gflop(model.SerializeToString()) * 1e9 == pytest.approx(by_hand)


def test_several_runs_are_summed_up_as_by_hand():
    from benchmarks.network_speed import summarize_runs

    runs = [Durations(clock=c, clock_median=c, processor=p) for c, p in ((4.0, 6.0), (2.0, 8.0), (9.0, 7.0))]
    assert summarize_runs(runs, 2) == Durations(clock=1.0, clock_median=2.0, processor=3.0)


def a_way(slices, processor):
    seconds = Durations(clock=processor / 2, clock_median=processor / 2, processor=processor)
    return ScanSpeed(model="fast", engine="onnxruntime", slices=slices, seconds=seconds, steps={})


def test_a_straight_line_is_one_and_a_bent_one_is_not():
    straight = [a_way(count, 0.5 + 0.02 * count) for count in (20, 40, 80, 160)]
    assert speed_page.compute_line_deviation(straight) < 1e-6
    bent = [a_way(count, 0.5 + 0.0002 * count**2) for count in (20, 40, 80, 160)]
    assert speed_page.compute_line_deviation(bent) > 0.1


def test_a_scan_is_compared_with_the_reference_on_as_many_slices():
    stored = speed_figures.read_figures(STORED)
    yardstick = stored.yardstick.model_copy(update={"slice_s": Durations(clock=0.5, clock_median=1, processor=1.0)})
    changed = stored.model_copy(update={"yardstick": yardstick})
    assert speed_page.compute_speedups(changed, a_way(40, 2.0)) == (pytest.approx(20.0), pytest.approx(20.0))


def test_scans_of_any_number_of_slices(tmp_path):
    """Read by pydicom and by our own reader: one series, evenly stepped over the head's height."""
    folder = synthetic_series.write_series(SAMPLE, 12, tmp_path / "scan")
    files = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
    assert len(files) == 12 and len({data.SOPInstanceUID for data in files}) == 12
    assert len({data.SeriesInstanceUID for data in files}) == 1
    heights = [float(data.ImagePositionPatient[2]) for data in files]
    assert np.diff(heights) == pytest.approx(synthetic_series.HEAD_HEIGHT_MM / 12, abs=1e-3)
    scan = read_one(folder)
    assert scan.shape == (12, 512, 512) and not any(remark.code == "missing-slices" for remark in scan.remarks)


def test_the_drawn_lesion_has_an_ellipsoids_volume():
    data = pydicom.Dataset()
    data.PixelSpacing, data.RescaleSlope, data.RescaleIntercept = [0.5, 0.5], 1, -1024
    count = 0
    for above_mm in np.arange(-30, 30, 1.0):
        pixels = np.zeros((512, 512), np.int16)
        synthetic_series._draw_lesion(pixels, above_mm, data)
        count += np.count_nonzero(pixels)
        assert set(np.unique(pixels)) <= {0, 68 - 30}
    by_hand_ml = 4 / 3 * np.pi * np.prod(synthetic_series._LESION_HALF_AXES_MM) / 1000
    assert count * 0.25 / 1000 == pytest.approx(by_hand_ml, rel=0.01)


def test_every_precision_has_its_matrix_product():
    from benchmarks.network_speed import _MATRIX_SIZE, make_matrix_products

    products = make_matrix_products()
    assert {"fp32", "int8"} <= set(products)
    for name in ("fp32", "int8"):
        assert products[name]()[0].shape == (_MATRIX_SIZE, _MATRIX_SIZE)


LEAST_TIMES = 8


@pytest.mark.slow
@pytest.mark.parametrize("model", ["default", "fast"])
def test_a_whole_scan_is_many_times_as_fast_as_the_reference_network_alone(model, tmp_path):
    """From reading 40 slices to result.json against the reference network on as many slices, by processor time.

    Other programs on the machine hardly change processor times; the fastest run of each side counts. The reference
    network has one thread, so that it loses no time to waiting.
    """
    from benchmarks.network_speed import make_reference_network, time_reference_slice
    from benchmarks.scan_speed import time_scan

    scan, network = synthetic_series.write_series(SAMPLE, 40, tmp_path / "scan"), make_reference_network()
    time_reference_slice(network, 1)
    time_scan(scan, model)
    slices, scans = [], []
    for _ in range(2):
        slices += [time_reference_slice(network, 1).processor for _ in range(2)]
        scans.append(time_scan(scan, model).seconds.processor)
    assert 40 * min(slices) / min(scans) >= LEAST_TIMES
