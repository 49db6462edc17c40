"""Memory and time of reading: `pytest tests/reading/dicom/test_speed.py -s` prints the figures."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

from phantoms import head_series
from phantoms.head_series import Geometry
from slowdown import measure_slowdown
from strokeseg.reading import input_file, read_one
from strokeseg.reading.dicom import header_reader, series, series_decoder

MEASURE = """
import json, sys, threading, time
from strokeseg.reading import read_one
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
read_one(sys.argv[1])  # warm: imports, and nothing of the series
base, peak, going = resident(), [0], [True]
def watch():
    while going[0]:
        peak[0] = max(peak[0], resident())
        time.sleep(0.002)
thread = threading.Thread(target=watch); thread.start()
start = time.perf_counter()
scan = read_one(sys.argv[2])
spent = time.perf_counter() - start
going[0] = False; thread.join()
print(json.dumps({"s": spent, "peak": peak[0] - base, "pixels": scan.hu.nbytes}))
"""


def make_head_slices(count):
    geometry = Geometry(z_mm=tuple(np.linspace(-75, 75, count)), shape=(512, 512), spacing_mm=(0.4, 0.4))
    planes = {z: geometry.plane_hu(z) for z in geometry.z_mm[:: max(1, count // 40)]}
    nearest = np.array(list(planes))
    return [
        head_series.ct_dataset(
            planes[nearest[np.abs(nearest - z).argmin()]], geometry.position(z), geometry, instance=number
        )
        for number, z in enumerate(geometry.z_mm)
    ]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("form", ["files", "enhanced", "zip"])
def test_six_hundred_slices_are_read_in_little_more_than_their_own_memory(tmp_path, form):
    slices = make_head_slices(600)
    warm = head_series.write(slices[300], tmp_path / "warm.dcm")
    if form == "enhanced":
        path = head_series.write(head_series.make_enhanced(slices), tmp_path / "ct.dcm")
    else:
        path = head_series.write_series(tmp_path / "series", slices)
    if form == "zip":
        import zipfile

        with zipfile.ZipFile(tmp_path / "study.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
            for file in path.iterdir():
                target.write(file, file.name)
        path = tmp_path / "study.zip"
    del slices
    result = subprocess.run([sys.executable, "-c", MEASURE, warm, path], check=True, capture_output=True, text=True)
    figures = json.loads(result.stdout)
    ratio = figures["peak"] / figures["pixels"]
    print(f"\n600 slices, {form}: {figures['s']:.2f} s, peak {ratio:.2f} x the pixels")
    assert figures["pixels"] == 600 * 512 * 512 * 2 and ratio < 1.6


def test_forty_uncompressed_slices_are_read_at_once(tmp_path):
    """Headers and pixels, without the gate; the best of ten runs, in CPU time of this process."""
    folder = head_series.write_series(tmp_path, make_head_slices(40))

    def time_reading():
        cpu_start, wall_start = time.process_time(), time.perf_counter()
        headers = [item for file in input_file.list_folder(folder) for item in header_reader.read_headers(file)]
        series_decoder.read_series(series.select_consistent(headers))
        return time.process_time() - cpu_start, time.perf_counter() - wall_start

    cpu_s, wall_s = (min(column) for column in zip(*[time_reading() for _ in range(10)], strict=True))
    print(f"\n40 slices, uncompressed: {wall_s:.3f} s ({cpu_s:.3f} s of the processor)")
    assert cpu_s < 0.3 * measure_slowdown()


def test_progress_is_told_slice_by_slice(tmp_path):
    result = []
    read_one(
        head_series.write_series(tmp_path, head_series.make_datasets()),
        progress=lambda done, whole: result.append((done, whole)),
    )
    assert result == [(n, 37) for n in range(1, 38)]


def test_a_wrong_slice_ends_the_threads_and_names_itself(tmp_path):
    slices = head_series.make_datasets()
    slices[20].PixelData = slices[20].PixelData[:100]
    with pytest.raises(Exception, match="IM0021"):
        read_one(head_series.write_series(tmp_path, slices))
