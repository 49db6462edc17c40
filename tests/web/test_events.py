"""A stream of events lasts no longer than the right to it."""

import threading
import time

from slowdown import measure_slowdown
from strokeseg.web.auth import tokens
from strokeseg.web.database import connect
from strokeseg.web.settings import parse_database_url
from web_process import ServerProcess

OURS = {"X-StrokeSeg": "1"}


class Listening:
    """A thread that listens to events, and notes when the server ended the stream."""

    def __init__(self, client, **headers):
        self.begun, self.ended_at = threading.Event(), None
        self.thread = threading.Thread(target=self._listen, args=(client, headers), daemon=True)
        self.thread.start()
        assert self.begun.wait(20)

    def _listen(self, client, headers):
        with client.stream("GET", "/studies/events", headers=headers) as answer:
            assert answer.status_code == 200
            for _ in answer.iter_lines():
                self.begun.set()
        self.ended_at = time.monotonic()

    def wait_until_ended(self, since, timeout_s=8.0):
        """Return the seconds from a moment to the end of the stream; None if it goes on."""
        self.thread.join(timeout_s)
        return None if self.ended_at is None else self.ended_at - since


def test_a_revoked_token_ends_its_streams_on_every_process(tmp_path, database):
    """Two servers; the token is revoked by a third process. A session of it ends too; another token listens on."""
    (tmp_path / "auth.toml").write_text("[failures]\nmost = 1000\n")
    options = ("--workers", "0", "--auth-config", str(tmp_path / "auth.toml"))
    with ServerProcess(tmp_path, database, *options) as one, ServerProcess(tmp_path, database, *options) as two:
        engine = connect(parse_database_url(database))
        (text, token), (other, stored) = (tokens.create_token(engine, "anna", None, ["read"], 1) for _ in range(2))
        bearer = {"Authorization": f"Bearer {text}"}
        with one.create_client() as first, two.create_client() as second, two.create_client() as page:
            assert page.post("/auth/session", json={"token": text}, headers=OURS).status_code == 204
            ending = [Listening(first, **bearer), Listening(second, **bearer), Listening(page)]
            going_on = Listening(first, Authorization=f"Bearer {other}")
            time.sleep(1.0)
            assert [listening.ended_at for listening in ending] == [None, None, None]
            revoked = time.monotonic()
            tokens.revoke_token(engine, token.id)
            waits = [listening.wait_until_ended(revoked) for listening in ending]
            assert None not in waits, waits
            assert max(waits) < 1.0 * measure_slowdown(), waits
            assert going_on.ended_at is None and going_on.thread.is_alive()
            tokens.revoke_token(engine, stored.id)
            assert going_on.wait_until_ended(revoked) is not None
        engine.dispose()


def test_signing_out_ends_the_stream(tmp_path):
    (tmp_path / "auth.toml").write_text("[failures]\nmost = 1000\n")
    database = f"sqlite:///{tmp_path / 'a.db'}"
    options = ("--workers", "0", "--auth-config", str(tmp_path / "auth.toml"))
    with ServerProcess(tmp_path, database, *options) as server, server.create_client() as page:
        engine = connect(database)
        text, _ = tokens.create_token(engine, "anna", None, ["read"], 1)
        assert page.post("/auth/session", json={"token": text}, headers=OURS).status_code == 204
        listening = Listening(page)
        begun = time.monotonic()
        assert page.post("/auth/logout", headers=OURS).status_code == 204
        assert listening.wait_until_ended(begun) is not None
        engine.dispose()
