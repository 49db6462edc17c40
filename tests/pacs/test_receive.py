"""DCMTK's programs call our port: what is answered with success lies on the disk, and everything else says why."""

import contextlib
import socket
import threading

import pydicom
import pytest
from pydicom.uid import generate_uid
from sqlalchemy import select

from node_cases import ListeningScp, make_settings, wait_until
from phantoms import head_series
from strokeseg.errors import NotDelivered, UsageError
from strokeseg.pacs import database, scp, scu
from strokeseg.pacs.settings import Peer

SHORT = head_series.Geometry(z_mm=(0.0, 3.0, 6.0), shape=(32, 32), spacing_mm=(5.0, 5.0))


def slices(**options):
    return head_series.make_datasets(SHORT, **options)


def rows(port, table=database.series_table):
    with port.spool.engine.connect() as connection:
        return connection.execute(select(table)).mappings().all()


def test_echo(port):
    assert port.call("echoscu").returncode == 0


def test_a_series_is_stored_as_it_was_sent(port, tmp_path):
    folder = head_series.write_series(tmp_path / "in", slices())
    run = port.call("storescu", folder, "+sd")
    assert run.returncode == 0, run.stderr
    stored = [pydicom.dcmread(path) for path in port.spool.list_files("1.2.3")]
    sent = {data.SOPInstanceUID: data for data in slices()}
    assert {data.SOPInstanceUID for data in stored} == set(sent)
    assert all(data.PixelData == sent[data.SOPInstanceUID].PixelData for data in stored)
    [row] = rows(port)
    assert (row["instances"], row["state"], row["sender"], row["version"]) == (3, "open", "modality", 0)
    wait_until(lambda: not port.associations.list_series())


@pytest.mark.parametrize("syntax", ["jpeg-lossless-sv1", "jpeg-ls", "jpeg-2000", "rle"])
def test_compressed_instances_stay_compressed(port, tmp_path, syntax):
    [data, *_] = slices()
    path = tmp_path / "one.dcm"
    head_series.write(data, path, syntax)
    option = {"jpeg-lossless-sv1": "-xs", "jpeg-ls": "-xt", "jpeg-2000": "-xv", "rle": "-xr"}[syntax]
    run = port.call("storescu", option, path)
    assert run.returncode == 0, run.stderr
    [stored] = port.spool.list_files("1.2.3")
    assert pydicom.dcmread(stored).file_meta.TransferSyntaxUID == pydicom.dcmread(path).file_meta.TransferSyntaxUID


def test_the_same_instance_twice_is_one(port, tmp_path):
    folder = head_series.write_series(tmp_path / "in", slices())
    for _ in range(2):
        assert port.call("storescu", folder, "+sd").returncode == 0
    assert [row["instances"] for row in rows(port)] == [3]


def test_another_instance_of_the_same_uid_is_refused_and_the_first_stays(port, tmp_path):
    first, *_ = slices()
    head_series.write(first, tmp_path / "a.dcm")
    other, *_ = slices(intercept=-1000.0)
    head_series.write(other, tmp_path / "b.dcm")
    assert port.call("storescu", tmp_path / "a.dcm").returncode == 0
    run = port.call("storescu", "-v", tmp_path / "b.dcm")
    assert "0x111" in run.stdout + run.stderr
    [stored] = port.spool.list_files("1.2.3")
    assert pydicom.dcmread(stored).PixelData == first.PixelData


@pytest.mark.parametrize(
    ("title", "called", "reason"),
    [
        ("STRANGER", "STROKESEG", "Calling AE Title Not Recognized"),
        ("MODALITY", "OTHER", "Called AE Title Not Recognized"),
    ],
)
def test_unknown_titles_are_rejected_with_the_standards_reason(port, title, called, reason):
    run = port.call("echoscu", title=title, called=called)
    assert run.returncode != 0
    assert reason in run.stdout + run.stderr


def test_a_peers_title_from_another_address_is_rejected(tmp_path):
    peer = {"name": "modality", "ae_title": "MODALITY", "from_addresses": ["192.0.2.1"], "may": ["send"]}
    port = ListeningScp(tmp_path, peer=[peer])
    try:
        run = port.call("echoscu")
    finally:
        port.stop()
    assert run.returncode != 0
    assert "Calling AE Title Not Recognized" in run.stdout + run.stderr


def test_a_peer_that_may_not_send_is_refused(port, tmp_path):
    folder = head_series.write_series(tmp_path / "in", slices())
    run = port.call("storescu", "-v", folder, "+sd", title="VIEWER")
    assert "0x124" in run.stdout + run.stderr
    assert port.spool.list_files("1.2.3") == []


def test_a_class_that_is_no_ct_is_not_taken(port, tmp_path):
    [data, *_] = slices()
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
    head_series.write(data, tmp_path / "mr.dcm")
    run = port.call("storescu", tmp_path / "mr.dcm")
    assert run.returncode != 0
    assert rows(port) == []


def test_without_space_nothing_is_accepted(port, tmp_path, monkeypatch):
    monkeypatch.setattr(port.spool, "_least_free", 2**62)
    folder = head_series.write_series(tmp_path / "in", slices())
    run = port.call("storescu", "-v", folder, "+sd")
    assert "OutOfResources" in run.stdout + run.stderr
    assert rows(port, database.instances_table) == []


def test_when_the_database_is_gone_nothing_is_accepted_and_later_all(port, tmp_path, monkeypatch):
    folder = head_series.write_series(tmp_path / "in", slices())
    with port.spool.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE node_series RENAME TO away")
    run = port.call("storescu", "-v", folder, "+sd")
    assert "OutOfResources" in run.stdout + run.stderr
    with port.spool.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO node_series")
    assert rows(port, database.instances_table) == []
    assert port.call("storescu", folder, "+sd").returncode == 0
    assert len(port.spool.list_files("1.2.3")) == 3


def test_two_series_interleaved_on_two_associations_stay_apart(port, tmp_path):
    folders = []
    for uid in ("1.2.3.1", "1.2.3.2"):
        datasets = slices(series=uid)
        for data in datasets:
            data.SeriesInstanceUID = uid
        folders.append(head_series.write_series(tmp_path / uid, datasets))
    senders = [threading.Thread(target=port.call, args=("storescu", folder, "+sd")) for folder in folders]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert {row["series_uid"]: row["instances"] for row in rows(port)} == {"1.2.3.1": 3, "1.2.3.2": 3}


def test_rubbish_and_idle_connections_do_not_stop_the_port(port):
    for content in (b"GET / HTTP/1.1\r\n\r\n", b"\x01\x00\x00\x00\x00\x04abcd", b"\x04" * 64, b""):
        with socket.create_connection(("127.0.0.1", port.port), 5) as line:
            line.sendall(content)
    assert port.call("echoscu").returncode == 0


def test_a_pdu_that_claims_gigabytes_is_not_waited_for(port):
    """P-DATA-TF of 2 GB, and an A-ASSOCIATE-RQ of 4 GB: the connection ends at its head, whatever would follow."""
    for head in (b"\x04\x00\x80\x00\x00\x00", b"\x01\x00\xff\xff\xff\xff"):
        with socket.create_connection(("127.0.0.1", port.port), 5) as line:
            line.sendall(head)
            line.settimeout(5)
            assert line.recv(1) == b""
    assert port.call("echoscu").returncode == 0


def test_a_peer_that_drips_is_cut_off(tmp_path):
    port = ListeningScp(tmp_path, node={"network_timeout_s": 1})
    try:
        with socket.create_connection(("127.0.0.1", port.port), 5) as line:
            line.sendall(b"\x01\x00\x00\x00\x10\x00")
            ended = threading.Event()

            def drip():
                try:
                    while not ended.wait(0.2):
                        line.sendall(b"x")
                except OSError:
                    ended.set()

            dripping = threading.Thread(target=drip)
            dripping.start()
            with contextlib.suppress(ConnectionError):
                wait_until(lambda: ended.is_set() or not line.recv(1), 15)
            ended.set()
            dripping.join()
    finally:
        port.stop()


def test_a_flood_of_silent_connections_ends_and_peers_are_heard(tmp_path, monkeypatch):
    monkeypatch.setattr(scp, "_MAX_PENDING_CONNECTIONS", 8)
    port = ListeningScp(tmp_path, node={"most_associations": 2})
    address = ("127.0.0.1", port.port)
    flood = [socket.create_connection(address, 5, source_address=("127.0.0.2", 0)) for _ in range(20)]
    try:
        wait_until(lambda: ("association", "flood") in port.events)
        assert port.call("echoscu").returncode == 0
        wait_until(lambda: port.events.count(("association", "flood")) >= 5)
        flood[-1].settimeout(5)
        assert flood[-1].recv(1) == b""
    finally:
        for line in flood:
            line.close()
        port.stop()


def test_tls_files_that_are_none_are_named(tmp_path):
    (tmp_path / "a.pem").write_text("no certificate")
    tls = {"certificate": tmp_path / "a.pem", "key": tmp_path / "a.pem"}
    with pytest.raises(UsageError, match=r"node\.tls: certificate, key or authority cannot be used"):
        ListeningScp(tmp_path, node={"tls": tls})
    peer = Peer(name="pacs", ae_title="PACS", host="127.0.0.1", port=9, tls=tls)
    with pytest.raises(NotDelivered, match="pacs: certificate, key or authority cannot be used"):
        scu.c_echo(make_settings(tmp_path).node, peer)


def test_more_associations_than_are_allowed_are_rejected_with_the_reason(tmp_path):
    from pynetdicom import AE
    from pynetdicom.sop_class import Verification

    port = ListeningScp(tmp_path, node={"most_associations": 2})
    try:
        caller = AE(ae_title="MODALITY")
        caller.add_requested_context(Verification)
        opened = [caller.associate("127.0.0.1", port.port, ae_title="STROKESEG") for _ in range(2)]
        assert all(association.is_established for association in opened)
        run = port.call("echoscu")
        assert run.returncode != 0
        assert "Local Limit Exceeded" in run.stdout + run.stderr
        for association in opened:
            association.release()
        wait_until(lambda: port.call("echoscu").returncode == 0)
    finally:
        port.stop()


def test_of_two_peers_of_one_title_each_has_its_own_rights(tmp_path):
    """The one that may send calls from elsewhere: who calls from here may not."""
    here = {"name": "here", "ae_title": "MODALITY", "from_addresses": ["127.0.0.1"]}
    there = {"name": "there", "ae_title": "MODALITY", "from_addresses": ["192.0.2.1"], "may": ["send"]}
    port = ListeningScp(tmp_path, peer=[there, here])
    try:
        run = port.call("storescu", "-v", head_series.write_series(tmp_path / "in", slices()), "+sd")
    finally:
        port.stop()
    assert "0x124" in run.stdout + run.stderr
    assert rows(port) == []


def test_an_object_beyond_the_bound_ends_its_association(tmp_path):
    port = ListeningScp(tmp_path, node={"most_object_mb": 1})
    try:
        [data, *_] = slices()
        data.Rows, data.Columns, data.PixelData = 2048, 2048, bytes(2048 * 2048 * 2)
        head_series.write(data, tmp_path / "large.dcm")
        assert port.call("storescu", tmp_path / "large.dcm").returncode != 0
        assert rows(port) == []
        assert ("store", "too-large") in port.events
        assert port.call("echoscu").returncode == 0
    finally:
        port.stop()


def test_a_uid_is_never_a_path(port):
    from strokeseg.pacs.spool import ReceivedInstance

    [data, *_] = slices()
    data.SeriesInstanceUID = "../../../evil"
    data.SOPInstanceUID = "/etc/evil"
    assert port.spool.store(ReceivedInstance(b"abc", data, "modality")) == "new"
    [path] = port.spool.list_files("../../../evil")
    assert path.parent.parent == port.spool.folder


def test_a_request_for_commitment_is_kept_until_it_is_answered(port, tmp_path):
    from pynetdicom import AE
    from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

    folder = head_series.write_series(tmp_path / "in", slices())
    assert port.call("storescu", folder, "+sd").returncode == 0
    caller = AE(ae_title="MODALITY")
    caller.add_requested_context(StorageCommitmentPushModel)
    request = pydicom.Dataset()
    request.TransactionUID = generate_uid()
    request.ReferencedSOPSequence = []
    for uid in (slices()[0].SOPInstanceUID, generate_uid()):
        item = pydicom.Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = pydicom.uid.CTImageStorage, uid
        request.ReferencedSOPSequence.append(item)
    association = caller.associate("127.0.0.1", port.port, ae_title="STROKESEG")
    status, _ = association.send_n_action(request, 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
    association.release()
    assert status.Status == 0
    [row] = rows(port, database.outbox_table)
    assert (row["kind"], row["target"], row["state"]) == ("commitment", "modality", "waiting")
    assert [row["committed"] for row in rows(port)] == [True]
