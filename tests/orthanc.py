"""A real archive for tests: Debian's Orthanc with its DICOMweb plug-in."""

import email
import email.policy
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from phantoms import dicom_series

DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Archive:
    """An Orthanc of our own; ``settings`` are added to its configuration."""

    def __init__(self, folder, **settings):
        self.folder = folder
        self.http, self.dimse = free_port(), free_port()
        configuration = {
            "Name": "test",
            "StorageDirectory": str(folder / "store"),
            "IndexDirectory": str(folder / "store"),
            "HttpPort": self.http,
            "DicomPort": self.dimse,
            "DicomAet": "ARCHIVE",
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAlwaysAllowStore": True,
            "UnknownSopClassAccepted": True,
            "OverwriteInstances": False,
            "Plugins": [str(DICOMWEB)] if DICOMWEB.exists() else [],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            **settings,
        }
        (folder / "orthanc.json").write_text(json.dumps(configuration))
        self.start()

    def start(self):
        self.log = (self.folder / "log").open("ab")
        command = [dicom_series.find_program("Orthanc"), str(self.folder / "orthanc.json")]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
        for _ in range(300):
            try:
                self.get("/system")
                return
            except (urllib.error.URLError, ConnectionError):
                assert self.process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.1)
        raise TimeoutError((self.folder / "log").read_text())

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()

    @property
    def dicomweb(self):
        if not DICOMWEB.exists():
            pytest.skip("orthanc-dicomweb is not installed (requirements/debian.txt)")
        return f"http://127.0.0.1:{self.http}/dicom-web"

    def get(self, path, accept="application/json"):
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=30) as answer:
            data = answer.read()
            return json.loads(data) if accept.endswith("json") else (data, answer.headers["Content-Type"])

    def post(self, path, data, kind="application/dicom"):
        request = urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", data, {"Content-Type": kind})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def send(self, *paths):
        """Send files by C-STORE."""
        target = ["-aec", "ARCHIVE", "127.0.0.1", str(self.dimse)]
        run = subprocess.run(
            [dicom_series.find_program("storescu"), "-R", *target, *map(str, paths)], capture_output=True, check=False
        )
        assert run.returncode == 0, run.stdout + run.stderr

    def wado(self, data):
        """Retrieve an instance by DICOMweb."""
        assert self.dicomweb
        path = f"studies/{data.StudyInstanceUID}/series/{data.SeriesInstanceUID}/instances/{data.SOPInstanceUID}"
        body, kind = self.get(f"/dicom-web/{path}", "multipart/related; type=application/dicom")
        message = email.message_from_bytes(
            b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body, policy=email.policy.HTTP
        )
        [part] = message.iter_parts()
        return part.get_payload(decode=True)
