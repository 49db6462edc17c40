import json


def test_list_and_show(run, models):
    code, said, _ = run("models", "list")
    assert code == 0 and "default" in said and "a band of [grey]" in said
    assert json.loads(run("models", "list", "--json")[1])[0]["name"] == "default"
    code, said, _ = run("models", "show", "default")
    assert code == 0 and "limits: sees only its own phantom" in said and "  dice:" in said
    assert json.loads(run("models", "show", "default", "--json")[1])["version"] == "7"
    (models / "default.md").write_text("# The band\n\x1b[31m", encoding="utf-8")
    assert run("models", "show", "default")[1] == "# The band\n\\x1b[31m\n"


def test_verify_tells_of_every_network(run, models):
    assert run("models", "verify")[0] == 0
    card = json.loads((models / "default.json").read_text())
    (models / "another.json").write_text(json.dumps(card | {"name": "another"}))
    code, said, complaints = run("models", "verify")
    assert code == 3 and "error[model-checksum]" in complaints
    assert "another: CORRUPT" in said and "default: whole" in said


def test_a_card_that_cannot_be_read(run, models):
    (models / "default.json").write_text("{")
    for command in ("list", "verify", "show"):
        code, _, complaints = run("models", command, *(["default"] if command == "show" else []))
        assert code == 3 and "error[model-checksum]" in complaints


def test_no_network_at_all(run, models):
    for path in models.iterdir():
        path.unlink()
    assert run("models", "list")[0] == 0
    assert run("models", "list", "--json")[1] == "[]\n"
    assert "error[unknown-model]" in run("models", "verify")[2]
    code, _, complaints = run("models", "show", "default")
    assert code == 3 and "error[unknown-model]" in complaints
