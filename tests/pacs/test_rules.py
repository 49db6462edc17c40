from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from strokeseg.errors import UsageError
from strokeseg.pacs import rules, settings, settings_file
from strokeseg.pacs.settings import Rule, SeriesMatch


def make_header(**values):
    header = Dataset()
    for name, value in values.items():
        setattr(header, name, value)
    return header


def rule(name, **match):
    return Rule(name=name, match=SeriesMatch(**match))


HEAD = rules.SeriesAttributes("HEAD", "Head 5.0 H31s Trauma CT", "H31s", 5.0, 28, "scanner")


@pytest.mark.parametrize(
    "match",
    [
        {},
        {"body_part": "head|brain"},
        {"description": "^head", "not_description": "angio"},
        {"kernel": "^H[23]", "not_kernel": "H[6-9]"},
        {"thickness_mm": (3, 6), "slices": (10, 60)},
        {"sender": ("scanner", "other")},
    ],
)
def test_what_fits_is_hit(match):
    assert rules.choose_rule([rule("a", **match)], HEAD).rule.name == "a"


@pytest.mark.parametrize(
    ("match", "reason"),
    [
        ({"body_part": "chest"}, "body part 'HEAD'"),
        ({"not_description": "trauma"}, "which is excluded"),
        ({"kernel": "H[6-9]"}, "kernel 'H31s'"),
        ({"thickness_mm": (0, 3)}, "thickness: 5, not within 0 to 3"),
        ({"slices": (30, 60)}, "slices: 28"),
        ({"sender": ("other",)}, "sender 'scanner'"),
    ],
)
def test_what_does_not_fit_says_why(match, reason):
    decision = rules.choose_rule([rule("a", **match), rule("b")], HEAD)
    assert decision.rule.name == "b"
    assert reason in decision.reasons[0]


def test_the_first_rule_that_fits_decides_and_none_is_none():
    assert rules.choose_rule([rule("a"), rule("b")], HEAD).rule.name == "a"
    decision = rules.choose_rule([rule("a", body_part="chest")], HEAD)
    assert decision.rule is None
    assert "no rule matches" in decision.reasons[-1]


def test_what_headers_do_not_say_fits_no_condition():
    nothing = rules.read_attributes([make_header()], "x")
    assert nothing.thickness_mm is None
    assert rules.choose_rule([rule("a", thickness_mm=(0, 100))], nothing).rule is None


def test_a_series_is_seen_with_its_frames_and_its_median_thickness():
    headers = [
        make_header(
            SliceThickness="5", ConvolutionKernel=["H31s", "2"], BodyPartExamined="HEAD", SeriesDescription="Head"
        ),
        make_header(SliceThickness="5", NumberOfFrames="10"),
        make_header(SliceThickness="10"),
    ]
    attributes = rules.read_attributes(headers, "scanner")
    assert (attributes.slices, attributes.thickness_mm, attributes.kernel) == (12, 5.0, "H31s 2")


WHOLE = """
[node]
ae_title = "STROKESEG"
[[peer]]
name = "pacs"
ae_title = "PACS"
host = "pacs.example"
port = 104
[[notice]]
name = "ward"
kind = "webhook"
url = "https://ward.example/notice"
[[rule]]
name = "head"
match.body_part = "HEAD"
send = [{ to = "pacs", what = ["seg", "sr"] }, { to = "pacs", what = ["pdf"], when = "larger", volume_ml = 5 }]
tell = [{ to = "ward" }]
"""


def test_a_whole_file_is_read_and_its_paths_are_its_folders(tmp_path):
    path = tmp_path / "node.toml"
    path.write_text(WHOLE)
    loaded = settings_file.load_settings(path)
    assert loaded.rule[0].send[1].volume_ml == 5
    assert loaded.node.folder == tmp_path / "node"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (('to = "ward"', 'to = "nobody"'), "notifies nobody"),
        (('to = "pacs", what = ["seg"', 'to = "else", what = ["seg"'), "sends to else"),
        ((", volume_ml = 5", ""), "volume_ml"),
        (('what = ["pdf"]', 'what = ["gif"]'), "rule.1.send.2.what.1"),
        (("port = 104", "port = 70000"), "peer.1.port"),
        (("port = 104", ""), "set both host and port"),
        (("port = 104", "port = 104\nprot = 1"), "peer.1.prot"),
        (('body_part = "HEAD"', 'body_part = "("'), "invalid pattern"),
        (('ae_title = "PACS"', 'ae_title = "SEVENTEEN LETTERS"'), "peer.1.ae_title"),
        (("[node]", "[node"), "is not valid TOML"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path, change, reason):
    path = tmp_path / "node.toml"
    text = WHOLE.replace(*change)
    assert text != WHOLE
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        settings_file.load_settings(path)
    assert reason in caught.value.message


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"node\.toml: cannot be read"):
        settings_file.load_settings(Path(tmp_path / "node.toml"))


@pytest.mark.parametrize(
    ("when", "volume_ml", "result", "applies"),
    [
        ("always", None, (False, 0.0), True),
        ("blood", None, (False, 0.0), False),
        ("blood", None, (True, 0.3), True),
        ("larger", 5, (True, 4.9), False),
        ("larger", 5, (True, 5.1), True),
        ("larger", 5, (True, None), True),
        ("larger", 5, (False, None), False),
    ],
)
def test_when_a_result_goes_out(when, volume_ml, result, applies):
    assert settings.NoticeDelivery(to="ward", when=when, volume_ml=volume_ml).applies_to(*result) is applies


def test_a_secret_comes_from_its_variable_or_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKEN_OF_TEST", "one")
    (tmp_path / "token").write_text("two\n")
    assert settings.Secret(variable="TOKEN_OF_TEST").read() == "one"
    assert settings.Secret(file=tmp_path / "token").read() == "two"
    with pytest.raises(UsageError, match="contains no secret"):
        settings.Secret(variable="NOT_SET_OF_TEST").read()
