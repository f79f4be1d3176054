from __future__ import annotations

import base64
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medres.tracking.sent_files import file_bytes

#: Ways in which tools write the same base64.
SPELLINGS = {
    "one line": lambda content: base64.b64encode(content).decode(),
    "base64 FILE": lambda content: base64.encodebytes(content).decode(),
    "Windows": lambda content: base64.encodebytes(content).decode().replace("\n", "\r\n"),
    "PEM": lambda content: "\n".join(textwrap.wrap(base64.b64encode(content).decode(), 64)),
    "indented": lambda content: textwrap.indent(base64.encodebytes(content).decode(), "    "),
    "lines joined by spaces": lambda content: " ".join(base64.encodebytes(content).decode().split()),
    "without padding": lambda content: base64.b64encode(content).decode().rstrip("="),
    "for URLs": lambda content: base64.urlsafe_b64encode(content).decode(),
    "for URLs without padding": lambda content: base64.urlsafe_b64encode(content).decode().rstrip("="),
    "data URL": lambda content: "data:image/png;base64," + base64.b64encode(content).decode(),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@given(content=st.binary(min_size=1, max_size=300))
def test_every_spelling_gives_the_bytes(spelling, content):
    text = SPELLINGS[spelling](content)
    assert file_bytes(text) == content
    assert file_bytes(text.encode()) == content


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_large_files_are_read_in_every_spelling(spelling):
    content = bytes(range(256)) * 100
    assert file_bytes(SPELLINGS[spelling](content)) == content
    assert file_bytes(SPELLINGS[spelling](content).encode()) == content


@given(content=st.binary(max_size=300))
def test_bytes_that_are_no_base64_are_the_file(content):
    whole = b"\x93" + content
    assert file_bytes(whole) == whole


@given(content=st.binary(min_size=90, max_size=300), data=st.data())
def test_a_letter_that_was_lost_is_never_left_out(content, data):
    """A form turns + into a space, a filter takes letters out: no other bytes come of it."""
    text = base64.b64encode(content).decode()
    position = data.draw(st.integers(0, len(text.rstrip("=")) - 1))
    for letter in (" ", "\t", "\ufffd", "!", "%", "ü"):
        assert file_bytes(text[:position] + letter + text[position + 1 :]) in (None, content)


@pytest.mark.parametrize("text", ["", " ", "\n", "=", "A", "AAAAA", "no base64!", "Doe^John", "data:image/png;base64,"])
def test_what_is_no_base64_is_told(text):
    assert file_bytes(text) is None
