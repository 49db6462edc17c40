import json
from datetime import UTC, datetime, timedelta

import pytest

from strokeseg.cli import main
from strokeseg.web import database
from strokeseg.web.auth import tokens


@pytest.fixture
def run(tmp_path, capfd):
    def call(*arguments):
        code = main(["tokens", *arguments, "--database", f"sqlite:///{tmp_path / 'server.db'}"])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return call


def test_makes_lists_and_ends_a_token(run, tmp_path):
    code, out, err = run("create", "anna", "--group", "stroke-unit")
    assert code == 0
    text = out.strip()
    assert text not in err, "it is shown once"
    engine = database.connect(f"sqlite:///{tmp_path / 'server.db'}")
    token = tokens.find_valid_token(engine, text)
    assert (token.owner, token.group, sorted(token.scopes)) == ("anna", "stroke-unit", ["read", "write"])
    listed = json.loads(run("list", "--json")[1])
    ends = datetime.fromisoformat(listed[0]["expires"]) - datetime.now(UTC)
    assert timedelta(days=89) < ends <= timedelta(days=90)
    assert text.rsplit("_", 1)[1] not in run("list")[1]
    assert run("revoke", listed[0]["id"])[0] == 0
    assert tokens.find_valid_token(engine, text) is None
    assert json.loads(run("list", "--json")[1])[0]["state"] == "revoked"


def test_scopes_and_time_are_as_said(run):
    made = json.loads(run("create", "prometheus", "--scope", "read", "--never-expires", "--json")[1])
    assert (made["scopes"], made["expires"], made["group"]) == (["read"], None, None)
    assert made["token"].startswith(f"strokeseg_{made['id']}_")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["create", ""], "usage"),
        (["create", "a\tb"], "usage"),
        (["create", "anna", "--scope", "everything"], "usage"),
        (["create", "anna", "--days", "-1"], "usage"),
        (["list"], "not-found"),
    ],
)
def test_what_makes_no_sense_is_refused(run, tmp_path, arguments, code):
    exit_code, out, err = run(*arguments)
    assert exit_code in (2, 3)
    assert f"error[{code}]" in err
    assert out == ""


def test_an_unknown_token_cannot_be_ended(run):
    run("create", "anna")
    assert "error[not-found]" in run("revoke", "0" * 16)[2]


def test_a_databases_password_is_not_shown(capfd):
    code = main(["tokens", "list", "--database", "postgresql://me:hidden@127.0.0.1:1/x"])
    captured = capfd.readouterr()
    assert code == 3
    assert "hidden" not in captured.out + captured.err
