"""Windows and spacings as text: what the command line, batch lists and the web application accept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strokeseg.scan_options import parse_spacing, parse_window

LENGTHS = st.floats(0.001, 99_999).map(lambda value: round(value, 3))


@given(st.tuples(LENGTHS, LENGTHS, LENGTHS))
def test_a_spacing_is_read_as_it_was_written(spacing):
    assert parse_spacing(",".join(map(str, spacing))) == spacing


@given(st.tuples(st.floats(-99_999, 99_999), LENGTHS))
def test_a_window_is_read_as_it_was_written(window):
    assert parse_window(" , ".join(map(str, window))) == window


@pytest.mark.parametrize("text", ["", "40", "40,80,3", "a,b", "40;80", "nan,80", "inf,80", "40,1e6", "40,0", "40,-80"])
def test_what_is_no_window_is_refused(text):
    with pytest.raises(ValueError, match=r"CENTRE,WIDTH|width must be above 0"):
        parse_window(text)


@pytest.mark.parametrize("text", ["", "5", "5,0.4", "abc", "5,0,1", "5,nan,1", "-5,1,1", "5,1,1,1"])
def test_what_is_no_spacing_is_refused(text):
    with pytest.raises(ValueError, match=r"SLICE,ROW,COLUMN|above 0 mm"):
        parse_spacing(text)


def test_a_long_text_is_cut_in_the_message():
    with pytest.raises(ValueError) as caught:
        parse_window("4" * 10_000)
    assert len(str(caught.value)) < 120
