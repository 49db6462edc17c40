"""Check the files of deploy/ with a linter for item kind of file."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
# Kinds of KEDA, Prometheus' operator and kustomize, which Kubernetes itself does not know.
FOREIGN = {"ScaledObject", "ServiceMonitor", "Kustomization"}


def run(name, *arguments):
    """Run a linter of this environment or of Debian; return its exit code and output."""
    program = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if program is None:
        pytest.skip(f"{name} is not installed")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def check(name, *arguments):
    code, output = run(name, *arguments)
    assert code == 0, output
    return output


def documents():
    return [item for path in MANIFESTS for item in yaml.safe_load_all(path.read_text()) if item]


def workloads():
    return {item["metadata"]["name"]: item for item in documents() if item["kind"] == "Deployment"}


def test_containerfile():
    check("hadolint", "--failure-threshold", "info", DEPLOY / "Containerfile")


def test_the_linter_of_containerfiles_finds_faults(tmp_path):
    (tmp_path / "Containerfile").write_text("FROM python\nRUN cd /x && sudo pip install y\n")
    assert run("hadolint", tmp_path / "Containerfile")[0] != 0


def test_yaml():
    check("yamllint", "--strict", "-c", DEPLOY / ".yamllint", DEPLOY)


def test_compose():
    check("compose-lint", "check", DEPLOY / "compose.yaml")


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_manifests_against_kubernetes_own_schemas(path):
    output = check("kubernetes-validate", "--strict", path)
    unknown = set(re.findall(r"find schema for kind (\w+)", output))
    assert unknown <= FOREIGN
    known = [item for item in yaml.safe_load_all(path.read_text()) if item["kind"] not in FOREIGN]
    assert output.count(" passed for resource ") == len(known)


def test_systemd_unit_is_right_and_reaches_little(tmp_path):
    unit = tmp_path / "strokeseg.service"
    # The linter requires that the program of the unit exists.
    unit.write_text((DEPLOY / "strokeseg.service").read_text().replace("/opt/strokeseg/bin/strokeseg", "/bin/true"))
    assert check("systemd-analyze", "verify", "--man=no", unit).strip() == ""
    check("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", unit)


def test_pods_may_do_little_and_are_bounded_and_looked_after():
    assert set(workloads()) == {"strokeseg-app", "strokeseg-worker"}
    for item in workloads().values():
        pod = item["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            may = container["securityContext"]
            assert (may["readOnlyRootFilesystem"], may["allowPrivilegeEscalation"]) == (True, False)
            assert may["capabilities"]["drop"] == ["ALL"]
            assert {"cpu", "memory", "ephemeral-storage"} == set(container["resources"]["limits"])
            assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)
            mounted = {mount["name"] for mount in container["volumeMounts"]}
            assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_manifests_name_each_other_rightly():
    objects = {
        (item["kind"], item["metadata"]["name"]): item for item in documents() if "name" in item.get("metadata", {})
    }
    backend = objects["Ingress", "strokeseg"]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    service = objects["Service", backend["name"]]["spec"]
    assert backend["port"]["name"] in {port["name"] for port in service["ports"]}
    labels = {name: item["spec"]["template"]["metadata"]["labels"] for name, item in workloads().items()}
    selected = [name for name, item in labels.items() if service["selector"].items() <= item.items()]
    assert selected == ["strokeseg-app"]
    assert objects["ScaledObject", "strokeseg-worker"]["spec"]["scaleTargetRef"]["name"] in labels
    resources = yaml.safe_load((DEPLOY / "kubernetes/kustomization.yaml").read_text())["resources"]
    assert {*resources, "autoscale.yaml", "kustomization.yaml"} == {path.name for path in MANIFESTS}


def test_autoscaling_and_probes_ask_for_what_the_server_gives():
    from strokeseg.web.auth.protection import PUBLIC_PATHS

    scaler = next(item for item in documents() if item["kind"] == "ScaledObject")
    metric = re.search(r"strokeseg_\w+", scaler["spec"]["triggers"][0]["metadata"]["query"]).group()
    assert f'"{metric}"' in (ROOT / "src/strokeseg/web/routes/service.py").read_text()
    for item in workloads().values():
        for container in item["spec"]["template"]["spec"]["containers"]:
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert container[probe]["httpGet"]["path"] in PUBLIC_PATHS
    monitor = next(item for item in documents() if item["kind"] == "ServiceMonitor")
    assert monitor["spec"]["endpoints"][0]["path"] == "/api/v1/metrics"


def commands():
    """Yield every `strokeseg ...` command line in deploy/."""
    for name, service in yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].items():
        if service.get("image") == "strokeseg:local" and "entrypoint" not in service:
            yield f"compose {name}", service["command"]
    for name, item in workloads().items():
        yield f"kubernetes {name}", item["spec"]["template"]["spec"]["containers"][0]["args"]
    yield "systemd", re.search(r"ExecStart=\S+ (.+)", (DEPLOY / "strokeseg.service").read_text())[1].split()


@pytest.mark.parametrize(
    ("where", "words"), list(commands()), ids=lambda item: item if isinstance(item, str) else "as-written"
)
def test_the_command_line_knows_every_option_that_is_used(where, words, monkeypatch, tmp_path):
    from strokeseg.cli import main
    from strokeseg.web import server

    calls = []
    monkeypatch.setattr(server, "run", calls.append)
    (tmp_path / "auth.toml").touch()
    arguments = [str(word).replace("/etc/strokeseg/auth.toml", str(tmp_path / "auth.toml")) for word in words]
    assert main(arguments) in (0, None)
    settings = calls[0]
    # Only the server behind nginx on the same machine listens on a loopback address.
    if not settings.worker_only:
        assert settings.is_loopback == (where == "systemd")
        assert not settings.is_loopback or settings.trusted_proxies


def test_the_bucket_is_made_where_there_is_none_and_kept_where_there_is_one(monkeypatch):
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["bucket"]
        environment = {**service["environment"], "AWS_ENDPOINT_URL": f"http://{host}:{port}", "PATH": "/usr/bin"}
        environment = {name: re.sub(r"\$\{\w+:\?[^}]*\}", "made", value) for name, value in environment.items()}
        command = [sys.executable, *service["entrypoint"][1:], *service["command"]]
        for _ in range(2):
            process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
            assert process.returncode == 0, process.stderr
        listing = "import s3fs; print(s3fs.S3FileSystem().ls(''))"
        process = subprocess.run([sys.executable, "-c", listing], env=environment, capture_output=True, text=True)
        assert "strokeseg" in process.stdout
    finally:
        server.stop()
