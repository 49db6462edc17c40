"""Studies in S3, served by moto on the loopback, and the same studies by a Ray cluster of this machine."""

import csv
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import yaml

from benchmarks import batch_throughput
from strokeseg import batch

ROOT = Path(__file__).parents[2]


def masks(out):
    return {path.parent.name: np.asanyarray(nibabel.load(path).dataobj).tobytes() for path in out.glob("*/mask.nii.gz")}


@pytest.fixture
def bucket(heads, monkeypatch):
    moto = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    for name, value in (
        ("AWS_ENDPOINT_URL", address),
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    store = boto3.client("s3")
    store.create_bucket(Bucket="studies")
    for path in heads.iterdir():
        store.upload_file(str(path), "studies", f"ct/{path.name}")
    yield store
    server.stop()


@pytest.mark.slow
def test_studies_in_s3_are_answered_as_those_on_disk(bucket, heads, tmp_path):
    batch.run([heads], tmp_path / "disk", workers=1)
    first = batch.run(["s3://studies/ct/"], tmp_path / "s3", workers=1)
    assert (first.done, first.failed) == (3, 0)
    assert masks(tmp_path / "s3") == masks(tmp_path / "disk") != {}
    bucket.upload_file(str(heads / "head_2.nii.gz"), "studies", "ct/head_0.nii.gz")
    second = batch.run(["s3://studies/ct/"], tmp_path / "s3", workers=1)
    assert (second.done, second.before) == (1, 2)


@pytest.mark.slow
def test_ray_leaves_the_same_files(heads, tmp_path):
    pytest.importorskip("ray")
    (heads / "bad.zip").write_bytes(b"no zip")
    batch.run([heads], tmp_path / "pool", workers=1)
    summary = batch.run([heads], tmp_path / "ray", ray="local", workers=1)
    assert (summary.done, summary.failed) == (3, 1)
    assert masks(tmp_path / "ray") == masks(tmp_path / "pool") != {}
    for name in ("failures.csv", "results.csv"):
        ids = [[row["id"] for row in csv.DictReader((tmp_path / kind / name).open())] for kind in ("ray", "pool")]
        assert ids[0] == ids[1]


def test_the_kuberay_example_is_a_job_that_fits_the_command():
    job = yaml.safe_load((ROOT / "examples/kuberay/rayjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    pods = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    [out] = re.findall(r"-o (\S+)", job["spec"]["entrypoint"])
    for pod in pods:
        assert all(isinstance(value, str) for value in pod["rayStartParams"].values()), "Ray takes strings"
        spec = pod["template"]["spec"]
        claimed = {volume["name"] for volume in spec["volumes"]}
        for container in spec["containers"]:
            assert {mount["mountPath"] for mount in container["volumeMounts"]} == {out}
            assert {mount["name"] for mount in container["volumeMounts"]} <= claimed
            assert container["resources"]["requests"] == container["resources"]["limits"]
    group = cluster["workerGroupSpecs"][0]
    assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_page_shows_the_stored_figures():
    figures = batch_throughput.BatchFigures.model_validate_json((ROOT / "benchmarks/batch.json").read_bytes())
    page = (ROOT / "docs/batch.md").read_text()
    assert batch_throughput.insert_figures(page, figures) == page
    assert figures.pool.scans >= 1000 and figures.pool.failed == 0
