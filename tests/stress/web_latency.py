"""Time from an upload to its results: `cd tests && python -m stress.web_latency`.

It starts `strokeseg serve` on this machine and uploads the GE sample, 28 slices, three times in a row; the first upload
reaches a server that has just started.
"""

import sys
import tempfile
import time
from pathlib import Path

from web_process import SAMPLES, TERMINAL_STATUSES, ServerProcess


def measure_waits(client, model="default"):
    """Upload the sample; return the seconds from its end to the first slice, and from its start to all files."""
    data, begun = (SAMPLES / "ge_head.zip").read_bytes(), time.perf_counter()
    made = client.post("/studies", files=[("files", ("ge_head.zip", data, "application/zip"))], data={"model": model})
    study, uploaded, slice_s = made.json()["id"], time.perf_counter(), None
    while True:
        if slice_s is None and client.get(f"/studies/{study}/slices/14").status_code == 200:
            slice_s = time.perf_counter() - uploaded
        state = client.get(f"/studies/{study}").json()
        if state["status"] in TERMINAL_STATUSES:
            assert state["status"] == "done", state
            return slice_s, time.perf_counter() - begun
        time.sleep(0.02)


def main():
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        with ServerProcess(data, f"sqlite:///{data / 'a.db'}") as server, server.create_client() as client:
            for model in sys.argv[1:] or ("default", "default", "fast"):
                slice_s, result_s = measure_waits(client, model)
                print(
                    f"{model}: first slice {slice_s:.2f} s after the upload, all files {result_s:.2f} s after its start"
                )


if __name__ == "__main__":
    main()
