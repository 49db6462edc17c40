"""A small deflated instance that would inflate to more than the node's limit is refused on every way into the node."""

import contextlib
import io
import json
import subprocess
import sys
import threading
import zlib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pydicom
import pytest
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import StorageCommitmentPushModel

from node_cases import make_settings, wait_until
from orthanc import free_port
from phantoms import head_series
from strokeseg.errors import NotDelivered, TooLarge
from strokeseg.pacs import dicomweb, priors
from strokeseg.pacs.instance_files import parse_instance
from strokeseg.pacs.node import Node
from strokeseg.pacs.settings import DicomwebServer, Peer
from strokeseg.reading.dicom import deflate
from strokeseg.reading.input_file import InputFile

TESTS = Path(__file__).parents[1]
MAX_MIB = 400
MEBIBYTE = 2**20


def write_bomb(path, pixel_mib=0, header_mib=0, private_mib=0, preamble=True):
    """Write a slice whose data set deflates a thousandfold: zeros as pixels, or in a private element before them.

    ``private_mib`` : size of an element in group 0002, which is not deflated, before the transfer syntax
    """
    data = head_series.make_datasets()[0]
    for name in ("PixelData", "Rows", "Columns"):
        del data[name]
    encoded = DicomBytesIO()
    encoded.is_little_endian, encoded.is_implicit_VR = True, False
    write_dataset(encoded, data)
    body = deflate_block(encoded.getvalue())
    zeros = deflate_block(bytes(MEBIBYTE))
    for tag, mebibytes in ((b"\x51\x00\x01\x10", header_mib), (b"\xe0\x7f\x10\x00", pixel_mib)):
        body += deflate_block(tag + b"OB\0\0" + (mebibytes * MEBIBYTE).to_bytes(4, "little")) + zeros * mebibytes
    private = b"\x02\x00\x02\x01OB\0\0" + (private_mib * MEBIBYTE).to_bytes(4, "little") + bytes(private_mib * MEBIBYTE)
    syntax = b"\x02\x00\x10\x00UI" + (22).to_bytes(2, "little") + DeflatedExplicitVRLittleEndian.encode()
    meta = (private if private_mib else b"") + syntax
    group_length = b"\x02\x00\x00\x00UL\x04\x00" + len(meta).to_bytes(4, "little")
    start = bytes(128) + b"DICM" if preamble else b""
    path.write_bytes(start + group_length + meta + body + zlib.compress(b"", wbits=-zlib.MAX_WBITS))
    return path


def deflate_block(content):
    """Deflate bytes so that blocks can be put one after the other; the last must be an empty, finished one."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return compressor.compress(content) + compressor.flush(zlib.Z_FULL_FLUSH)


def read_data_set(path):
    """Return the SOP instance UID, and what follows group 0002, as a peer sends it."""
    content = path.read_bytes()
    uid = str(head_series.make_datasets()[0].SOPInstanceUID)
    return uid, content[144 + int.from_bytes(content[140:144], "little") :]


def send(port, path):
    """C-STORE the bytes of a file's data set as they are; return the answer."""
    uid, data_set = read_data_set(path)
    caller = AE(ae_title="MODALITY")
    caller.add_requested_context(CTImageStorage, DeflatedExplicitVRLittleEndian)
    association = caller.associate("127.0.0.1", port, ae_title="STROKESEG")
    assert association.is_established
    request = C_STORE()
    request.MessageID, request.Priority = 1, 0
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CTImageStorage, uid
    request.DataSet = io.BytesIO(data_set)
    with answers_read_here(association):
        association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
        _, answer = association.dimse.get_msg(block=True)
    association.release()
    return answer


@contextlib.contextmanager
def answers_read_here(association):
    """Keep pynetdicom's own thread from reading the answers, as its methods for sending do."""
    association._reactor_checkpoint.clear()
    wait_until(lambda: association._is_paused)
    yield
    association._reactor_checkpoint.set()


LISTEN = """
import sys
from pathlib import Path
from node_cases import ListeningScp
scp = ListeningScp(Path(sys.argv[1]))
print(scp.port, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("part", ["pixel_mib", "header_mib"])
def test_the_memory_of_the_port_stays_small_and_the_sender_gets_a_status(tmp_path, part):
    path = write_bomb(tmp_path / "bomb.dcm", **{part: 600})
    assert path.stat().st_size < 2 * MEBIBYTE
    command = [sys.executable, "-c", LISTEN, tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=TESTS) as process:
        try:
            answer = send(int(process.stdout.readline()), path)
            status = Path(f"/proc/{process.pid}/status").read_text()
        finally:
            process.kill()
    assert answer.Status == 0xC000
    assert "inflates to more than" in answer.ErrorComment
    assert int(status.split("VmHWM:")[1].split()[0]) // 1024 < MAX_MIB
    assert not list((tmp_path / "node").rglob("*.dcm"))


def test_a_deflated_slice_is_stored_as_it_was_sent(port, tmp_path):
    path = write_bomb(tmp_path / "small.dcm", pixel_mib=1)
    assert send(port.port, path).Status == 0
    [stored] = port.spool.list_files("1.2.3")
    assert stored.read_bytes().endswith(read_data_set(path)[1])


@pytest.mark.parametrize("private_mib, preamble", [(0, True), (1, True), (0, False)])
def test_no_form_of_a_file_hides_that_it_is_deflated(tmp_path, private_mib, preamble):
    """The reader looks at the first bytes only if they are all of group 0002; pydicom never sees a deflated file."""
    path = write_bomb(tmp_path / "bomb.dcm", pixel_mib=300, private_mib=private_mib, preamble=preamble)
    file = InputFile(path.name, path=path)
    with pytest.raises(TooLarge, match="inflates to more than"):
        deflate.open_inflated(file)
    with deflate.open_header(file, 2 * MEBIBYTE) as stream:
        header = pydicom.dcmread(stream, force=True, stop_before_pixels=True)
    assert header.SeriesInstanceUID == "1.2.3"
    assert header.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian


def test_deflated_data_that_break_off_are_refused(tmp_path):
    content = write_bomb(tmp_path / "bomb.dcm", pixel_mib=8).read_bytes()
    with pytest.raises(EOFError):
        parse_instance(content[:-100], "modality", 64 * MEBIBYTE)


def test_commitment_is_not_negotiated_with_a_deflated_syntax(port):
    caller = AE(ae_title="MODALITY")
    caller.add_requested_context(StorageCommitmentPushModel, DeflatedExplicitVRLittleEndian)
    caller.add_requested_context(CTImageStorage, pydicom.uid.ExplicitVRLittleEndian)
    association = caller.associate("127.0.0.1", port.port, ae_title="STROKESEG")
    assert [context.abstract_syntax for context in association.accepted_contexts] == [CTImageStorage]
    association.release()


EXPLAIN = """
import json, sys
from pathlib import Path
from strokeseg.pacs.series_processing import read_attributes_by_series, read_headers
path = Path(sys.argv[1])
found = [uid for uid, _ in read_attributes_by_series(path)]
uids = [str(header.StudyInstanceUID) for header in read_headers([path])]
peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024
print(json.dumps([found, uids, peak]))
"""


def test_explain_and_the_rules_inflate_no_pixels(tmp_path):
    path = write_bomb(tmp_path / "bomb.dcm", pixel_mib=600)
    run = subprocess.run([sys.executable, "-c", EXPLAIN, path], capture_output=True, text=True, check=True)
    found, uids, peak_mib = json.loads(run.stdout)
    assert found == ["1.2.3"] and len(uids) == 1
    assert peak_mib < MAX_MIB


class Wado:
    """A DICOMweb server that answers a search with one series, and every retrieval with ``parts``."""

    def __init__(self, *parts, closed=True):
        rows = [{"0020000D": {"vr": "UI", "Value": ["1.2"]}, "0020000E": {"vr": "UI", "Value": ["1.2.3"]}}]
        body = b"preamble\r\n\r\nof the answer"
        for part in parts:
            body += b"\r\n--cut here\r\nContent-Type: application/dicom\r\n\r\n" + part
        body += b"\r\n--cut here--\r\n" if closed else b""

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                is_search = "?" in self.path
                answer = json.dumps([rows.pop()] if rows else []).encode() if is_search else body
                kind = "application/dicom+json" if is_search else 'multipart/related; boundary="cut here"'
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.settings = DicomwebServer(name="web", url=self.url)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def retrieve(self, max_bytes=64 * MEBIBYTE):
        client = dicomweb.open_client(self.settings)
        return list(dicomweb.retrieve_series(client, self.settings, "1.2", "1.2.3", max_bytes))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()


def test_instances_come_from_a_dicomweb_server_byte_for_byte(tmp_path):
    files = [write_bomb(tmp_path / "a.dcm", pixel_mib=3).read_bytes(), b"\r\n--cut her\r\n\r\n" + bytes(3 * MEBIBYTE)]
    with Wado(*files) as server:
        assert server.retrieve() == files
        with pytest.raises(TooLarge):
            server.retrieve(MEBIBYTE)
    with Wado(*files, closed=False) as server, pytest.raises(NotDelivered):
        server.retrieve()


def test_a_poll_refuses_what_inflates_beyond_the_limit(tmp_path, caplog):
    with Wado(write_bomb(tmp_path / "bomb.dcm", pixel_mib=100).read_bytes()) as server:
        web = [{"name": "web", "url": server.url, "poll": True}]
        settings = make_settings(tmp_path, web=web, node={"most_object_mb": 64})
        node = Node(settings, f"sqlite:///{tmp_path / 'node.db'}", jobs=None)
        node._poll_servers()
        assert node.spool.count_instances("1.2.3") == 0
        node.spool.engine.dispose()
    assert "inflates to more than 64 MiB" in caplog.text


def test_a_prior_that_inflates_beyond_the_limit_is_not_fetched(tmp_path):
    stored = []
    with Wado(write_bomb(tmp_path / "bomb.dcm", pixel_mib=100).read_bytes()) as server:
        settings = make_settings(tmp_path, node={"most_object_mb": 64})
        with pytest.raises(NotDelivered, match="too large"):
            priors._fetch_series(settings, server.settings, "1.2", "1.2.3", stored.append)
    assert stored == []


def test_an_archive_that_sends_a_bomb_by_c_get_gets_a_status(tmp_path):
    uid, data_set = read_data_set(write_bomb(tmp_path / "bomb.dcm", pixel_mib=100))
    answers = []

    def on_get(event):
        """Send the bytes as they are; pynetdicom's own way would encode a data set."""
        yield 1
        request = C_STORE()
        request.MessageID, request.Priority = 2, 0
        request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = CTImageStorage, uid
        request.DataSet = io.BytesIO(data_set)
        [context] = [context for context in event.assoc.accepted_contexts if context.abstract_syntax == CTImageStorage]
        event.assoc.dimse.send_msg(request, context.context_id)
        answers.append(event.assoc.dimse.get_msg(block=True)[1])
        yield 0xA702, None

    archive = AE(ae_title="ARCHIVE")
    archive.add_supported_context("1.2.840.10008.5.1.4.1.2.2.3")
    archive.add_supported_context(CTImageStorage, DeflatedExplicitVRLittleEndian, scu_role=True, scp_role=True)
    port = free_port()
    server = archive.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_GET, on_get)])
    settings = make_settings(tmp_path, node={"most_object_mb": 64})
    peer = Peer(name="archive", ae_title="ARCHIVE", host="127.0.0.1", port=port, use="get")
    stored = []
    try:
        with pytest.raises(NotDelivered):
            priors._fetch_series(settings, peer, "1.2", "1.2.3", stored.append)
    finally:
        server.shutdown()
    assert [answer.Status for answer in answers] == [0xC000]
    assert stored == []
