"""How long a person waits: `python -m serve_clock` starts `strokeseg serve` on this machine and uploads the GE sample.

Three studies of 28 slices one after the other; the first finds the server just started.
"""

import sys
import tempfile
import time
from pathlib import Path

from web_process import SAMPLES, TERMINAL_STATUSES, ServerProcess


def measure_waits(client, model="default"):
    """Upload the sample; give the seconds from the upload's end to a slice, and from its start to all files."""
    data, begun = (SAMPLES / "ge_head.zip").read_bytes(), time.perf_counter()
    made = client.post("/studies", files=[("files", ("ge_head.zip", data, "application/zip"))], data={"model": model})
    study, uploaded, slice_s = made.json()["id"], time.perf_counter(), None
    while True:
        if slice_s is None and client.get(f"/studies/{study}/slices/14").status_code == 200:
            slice_s = time.perf_counter() - uploaded
        found = client.get(f"/studies/{study}").json()
        if found["status"] in TERMINAL_STATUSES:
            assert found["status"] == "done", found
            return slice_s, time.perf_counter() - begun
        time.sleep(0.02)


def main():
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with ServerProcess(place, f"sqlite:///{place / 'a.db'}") as server, server.create_client() as client:
            for model in sys.argv[1:] or ("default", "default", "fast"):
                slice_s, result_s = measure_waits(client, model)
                print(
                    f"{model}: first slice {slice_s:.2f} s after the upload, all files {result_s:.2f} s after its start"
                )


if __name__ == "__main__":
    main()
