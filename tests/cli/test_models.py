import json

import pytest

from phantoms import networks


def test_list_and_show(run, models):
    code, stdout, _ = run("models", "list")
    assert code == 0 and "default" in stdout and "a band of [grey]" in stdout
    assert json.loads(run("models", "list", "--json")[1])[0]["name"] == "default"
    code, stdout, _ = run("models", "show", "default")
    assert code == 0 and "limits: sees only its own phantom" in stdout and "  dice:" in stdout
    assert json.loads(run("models", "show", "default", "--json")[1])["version"] == "7"
    (models / "default.md").write_text("# The band\n\x1b[31m", encoding="utf-8")
    assert run("models", "show", "default")[1] == "# The band\n\\x1b[31m\n"


def test_verify_tells_of_every_network(run, models):
    assert run("models", "verify")[0] == 0
    card = json.loads((models / "default.json").read_text())
    (models / "another.json").write_text(json.dumps(card | {"name": "another"}))
    code, stdout, stderr = run("models", "verify")
    assert code == 3 and "error[model-checksum]" in stderr
    assert "another: CORRUPT" in stdout and "default: intact" in stdout


def test_a_card_that_cannot_be_read(run, models):
    (models / "default.json").write_text("{")
    for command in ("verify", "show"):
        code, _, stderr = run("models", command, *(["default"] if command == "show" else []))
        assert code == 3 and "error[model-checksum]" in stderr


def test_one_broken_card_leaves_the_others_listed(run, models):
    (models / "bad.json").write_text("{")
    code, stdout, _ = run("models", "list")
    assert code == 0 and "BROKEN" in stdout and "a band of [grey]" in stdout
    bad, default = json.loads(run("models", "list", "--json")[1])
    assert bad["name"] == "bad" and "cannot be read" in bad["broken"] and default["name"] == "default"
    assert "strokeseg models remove bad" in run("models", "show", "bad")[2]


def test_no_network_at_all(run, models):
    for path in models.iterdir():
        path.unlink()
    assert run("models", "list")[0] == 0
    assert run("models", "list", "--json")[1] == "[]\n"
    assert "error[unknown-model]" in run("models", "verify")[2]
    code, _, stderr = run("models", "show", "default")
    assert code == 3 and "error[unknown-model]" in stderr


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A network of one's own with its card, and a home to install it in."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("STROKESEG_MODELS")
    networks.save_network(tmp_path, "mine", networks.make_bright_network(64), 64)
    return tmp_path / "mine.onnx"


def test_a_network_of_ones_own_is_added_used_and_removed(run, models, own, tmp_path):
    assert run("models", "add", own) == (0, "mine: added; use it with --model mine\n", "")
    assert {"default", "mine"} <= {card["name"] for card in json.loads(run("models", "list", "--json")[1])}
    assert "mine: intact" in run("models", "verify", "mine")[1]
    code, _, stderr = run("models", "add", own)
    assert code == 2 and "named 'mine' is already installed" in stderr
    assert run("models", "remove", "mine")[0] == 0
    assert run("models", "show", "mine")[0] == 3
    assert not list((tmp_path / "home" / ".strokeseg" / "models").iterdir())


def test_the_shipped_networks_can_be_neither_replaced_nor_removed(run, models, own):
    card = json.loads(own.with_suffix(".json").read_text())
    own.with_suffix(".json").write_text(json.dumps(card | {"name": "default"}))
    assert run("models", "add", own)[0] == 2
    code, _, stderr = run("models", "remove", "default")
    assert code == 2 and "part of StrokeSeg" in stderr


@pytest.mark.parametrize("part", ["network", "card", "after"])
def test_a_changed_byte_is_refused(run, models, own, tmp_path, part):
    if part == "card":
        card = json.loads(own.with_suffix(".json").read_text())
        own.with_suffix(".json").write_text(json.dumps(card | {"sha256": "0" * 64}))
    if part == "after":
        assert run("models", "add", own)[0] == 0
        own = tmp_path / "home" / ".strokeseg" / "models" / "mine.onnx"
    if part != "card":
        data = bytearray(own.read_bytes())
        data[-9] ^= 1
        own.write_bytes(data)
    code, _, stderr = run(*(("models", "verify", "mine") if part == "after" else ("models", "add", own)))
    assert code == 3 and "error[model-checksum]" in stderr


def test_a_card_is_drawn_up_and_must_be_filled_in(run, models, own, tmp_path):
    own.with_suffix(".json").unlink()
    code, _, stderr = run("models", "add", own)
    assert code == 3 and "strokeseg models card mine.onnx" in stderr
    code, stdout, _ = run("models", "card", own)
    printed_card = json.loads(stdout)
    assert code == 0 and printed_card["size"] == 64
    card = tmp_path / "card.json"
    card.write_text(stdout)
    code, _, stderr = run("models", "add", own, "--card", card)
    assert code == 3 and "architecture, licence, limits" in stderr
    card.write_text(json.dumps(printed_card | {"architecture": "a line", "licence": "MIT", "limits": ["all"]}))
    assert run("models", "add", own, "--card", card)[0] == 0


@pytest.mark.parametrize(
    "change, says",
    [
        ({"size": 96}, "does not accept float32 of shape (1, 1, 96, 96)"),
        ({"name": "../mine"}, "name: "),
        ({"threshold": 1.5}, "threshold: "),
        ({"smallest_mm3": -1.0}, "smallest_mm3: "),
        ({"smallest_share": -1.0}, "smallest_share: "),
        ({"surprise": 1}, "surprise: "),
    ],
)
def test_a_card_that_does_not_fit_is_refused(run, models, own, change, says):
    card = json.loads(own.with_suffix(".json").read_text())
    own.with_suffix(".json").write_text(json.dumps(card | change))
    code, _, stderr = run("models", "add", own)
    assert code == 3 and says in stderr


def test_what_is_no_network_of_this_kind_is_refused(run, models, own, tmp_path):
    networks.save_network(tmp_path, "text", b"no network", 64)
    assert "cannot load" in run("models", "add", tmp_path / "text.onnx")[2]
    networks.save_network(tmp_path, "nan", networks.make_constant_network(64, float("nan")), 64)
    assert "with NaN" in run("models", "add", tmp_path / "nan.onnx")[2]
    code, _, stderr = run("models", "add", tmp_path / "none.onnx")
    assert code == 3 and "error[unreadable]" in stderr


@pytest.mark.parametrize(("stem", "name"), [("my net (2)", "my-net-2-"), ("..é", "mine"), ("a" * 70, "a" * 64)])
def test_a_card_has_a_name_that_fits(run, models, own, stem, name):
    file = own.rename(own.with_name(f"{stem}.onnx"))
    code, stdout, _ = run("models", "card", file)
    assert code == 0 and json.loads(stdout)["name"] == name


@pytest.mark.parametrize(
    ("shape", "size"),
    [([1, 1, 64, 64], 64), ([1, 1, "h", "w"], 320), ([1, 1, 64, "w"], 320), ([1, 1, 16, 16], 320), ([9], 320)],
)
def test_the_size_is_read_where_the_file_tells_one(shape, size):
    from strokeseg.segmentation import installation

    assert installation._input_size(shape) == size


def test_a_file_too_large_for_onnx_is_not_read(run, models, tmp_path):
    with (tmp_path / "huge.onnx").open("wb") as stream:
        stream.truncate(2**31 + 1)
    code, _, stderr = run("models", "card", tmp_path / "huge.onnx")
    assert code == 3 and "error[unreadable]" in stderr and "2.1 GB" in stderr


def test_the_remedy_for_a_broken_file_of_ones_own_is_not_to_install_strokeseg_again(run, models, own, tmp_path):
    (tmp_path / "text.onnx").write_bytes(b"no network")
    assert "Export the network to ONNX again" in run("models", "card", tmp_path / "text.onnx")[2]
    assert run("models", "add", own)[0] == 0
    (tmp_path / "home/.strokeseg/models/mine.onnx").write_bytes(b"")
    assert "strokeseg models remove mine" in run("models", "verify", "mine")[2]
