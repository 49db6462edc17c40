"""The application on a sub-path behind Debian's nginx, with deploy/nginx.conf except for ports and folders."""

import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

ROOT = Path(__file__).parent.parent.parent
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
OURS = {"X-StrokeSeg": "1"}

pytestmark = [pytest.mark.slow, pytest.mark.skipif(NGINX is None, reason="Debian's nginx-light is not installed")]


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in sockets]
    for probe in sockets:
        probe.close()
    return ports


class Site:
    """nginx and `strokeseg serve` with one folder."""

    def __init__(self, folder):
        self.folder = folder
        self.plain, self.tls, self.inner = free_ports(3)
        self.root = f"https://127.0.0.1:{self.tls}/strokeseg/"
        self.certificate()
        self.configure()
        self.environment = {**os.environ, "OMP_NUM_THREADS": "1", "HOME": str(folder)}
        self.token = self.strokeseg("tokens", "create", "anna", "--group", "unit").stdout.strip()

    def certificate(self):
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
        files = ["-keyout", self.folder / "key.pem", "-out", self.folder / "fullchain.pem"]
        subprocess.run(
            [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1", *files], check=True, capture_output=True
        )

    def configure(self):
        site = (ROOT / "deploy/nginx.conf").read_text()
        changes = {
            "/etc/ssl/strokeseg": str(self.folder),
            "server 127.0.0.1:8000": f"server 127.0.0.1:{self.inner}",
            "listen 80;": f"listen 127.0.0.1:{self.plain};",
            "listen 443 ssl http2;": f"listen 127.0.0.1:{self.tls} ssl http2;",
            "    listen [::]:80;\n": "",
            "    listen [::]:443 ssl http2;\n": "",
            "https://scans.example.org": f"https://127.0.0.1:{self.tls}",
            "server_name scans.example.org": "server_name 127.0.0.1",
        }
        for old, new in changes.items():
            assert old in site
            site = site.replace(old, new)
        places = "".join(
            f"{name}_temp_path {self.folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        # As root nginx would change the user, who then could not read this folder.
        user = "user root;\n" if os.geteuid() == 0 else ""
        self.configuration = self.folder / "nginx.conf"
        self.configuration.write_text(
            f"{user}worker_processes 1;\npid {self.folder}/nginx.pid;\nerror_log {self.folder}/error.log warn;\n"
            f"events {{}}\nhttp {{\naccess_log off;\n{places}{site}}}\n"
        )

    def strokeseg(self, *words):
        command = [sys.executable, "-m", "strokeseg", *words]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, check=True, capture_output=True, text=True
        )

    def __enter__(self):
        unit = (ROOT / "deploy/strokeseg.service").read_text()
        words = re.search(r"ExecStart=\S+ (.+)", unit)[1].split()
        self.processes = [
            subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=log, stderr=log)
            for command, log in (
                (
                    [sys.executable, "-m", "strokeseg", *words, "--port", str(self.inner)],
                    (self.folder / "server.log").open("w"),
                ),
                ([NGINX, "-c", self.configuration, "-p", self.folder, "-g", "daemon off;"], subprocess.DEVNULL),
            )
        ]
        for _ in range(600):
            if any(process.poll() is not None for process in self.processes):
                break
            try:
                if self.client().get("api/v1/health/ready").status_code == 200:
                    return self
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        self.__exit__()
        logs = [self.folder / name for name in ("server.log", "error.log")]
        raise AssertionError("\n".join(log.read_text()[-1500:] for log in logs if log.exists()))

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(30)

    def client(self, token=None, **more):
        headers = {**OURS, **({"Authorization": f"Bearer {token}"} if token else {})}
        trusted = ssl.create_default_context(cafile=self.folder / "fullchain.pem")
        return httpx.Client(base_url=self.root, verify=trusted, headers=headers, timeout=60, **more)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with Site(tmp_path_factory.mktemp("site")) as running:
        yield running


class Links(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.links = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.links += [
            attributes[name]
            for name in ("src", "href")
            if attributes.get(name) and not attributes[name].startswith("#")
        ]


def test_nginx_finds_its_configuration_right(site):
    done = subprocess.run([NGINX, "-t", "-c", site.configuration, "-p", site.folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


def test_everyone_is_led_to_the_encrypted_page(site):
    for url in (f"http://127.0.0.1:{site.plain}/strokeseg/", site.root.rstrip("/")):
        answer = httpx.get(url, verify=False)
        assert (answer.status_code, answer.headers["location"]) == (308, site.root)


def test_the_page_and_all_it_names_lie_below_the_path(site):
    with site.client() as client:
        page = client.get("")
        assert page.status_code == 200
        assert "max-age" in page.headers["strict-transport-security"]
        links = Links(page.text).links
        assert len(links) > 3
        for link in links:
            url = urljoin(site.root, link)
            assert url.startswith(site.root)
            assert client.get(url).status_code == 200, link


def test_who_asks_is_asked_who_they_are(site):
    with site.client() as client:
        assert client.get("api/v1/studies").status_code == 401
        assert client.get("api/v1/me").json()["auth"] in ("token", "required")
    with site.client(site.token) as client:
        assert client.get("api/v1/studies").json()["items"] is not None


def test_a_session_is_kept_to_the_path(site):
    with site.client() as client:
        answer = client.post("api/v1/auth/session", json={"token": site.token})
        parts = {part.strip() for part in answer.headers["set-cookie"].split(";")}
        assert {"Path=/strokeseg", "Secure", "HttpOnly", "SameSite=strict"} <= parts
        assert client.get("api/v1/studies").status_code == 200


def test_where_a_client_says_it_comes_from_does_not_count(site):
    with site.client("wrong") as client:
        client.get("api/v1/models", headers={"X-Forwarded-For": "203.0.113.9"})
    lines = (site.folder / "strokeseg-audit.jsonl").read_text()
    assert '"address":"127.0.0.1"' in lines
    assert "203.0.113.9" not in lines


def test_a_study_goes_through_and_events_come_as_they_happen(site):
    scan = ROOT / "samples/ge_head.zip"
    with site.client(site.token) as client:
        created = client.post("api/v1/studies", files={"files": ("head.zip", scan.read_bytes())})
        assert created.status_code == 201, created.text
        # A Location may be relative; it leads to the study from outside.
        study = client.get(urljoin(f"{site.root}api/v1/studies", created.headers["location"]))
        assert study.json()["id"] == created.json()["id"]
        began, seen = time.monotonic(), []
        with client.stream("GET", f"api/v1/studies/{created.json()['id']}/events") as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    seen.append((time.monotonic() - began, line))
                    if '"status":"done"' in line.replace(" ", ""):
                        break
                    assert "refused" not in line and "failed" not in line and time.monotonic() - began < 150
        assert seen[0][0] < 5, "the first event waits for nothing"
        assert len(seen) > 2
        result = client.get(f"api/v1/studies/{created.json()['id']}/result")
        assert result.json()["schema"] == "strokeseg.result/1"


def test_more_than_nginx_takes_by_itself_goes_through(site):
    with site.client(site.token) as client:
        created = client.post("api/v1/uploads", json={"name": "head.zip", "size": 3_000_000}).json()
        sent = {"Upload-Offset": "0", "Content-Type": "application/octet-stream"}
        answer = client.patch(f"api/v1/uploads/{created['id']}", content=b"x" * 3_000_000, headers=sent)
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, "3000000")
