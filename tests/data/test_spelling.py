"""Laws over whole families of spellings: what cannot be meant is one, what may be meant is told, the rest is apart."""

import io
import string
import unicodedata

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medres.data.spelling import (
    differences,
    hint_of,
    lookalike_key,
    quoted_apart,
    spelling_key,
    visible,
    without_unseen,
)

# Unicode's own property Default_Ignorable_Code_Point, the part that text editors and PDF readers leave behind
INVISIBLE = [
    *"\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f\u061c\u180e\u034f\u115f\u1160\u3164\uffa0\u2800\ufe0f\u17b4\x00\x07",
    *(chr(code) for block in ((0x202A, 0x202F), (0x2061, 0x2070), (0xE0100, 0xE0110)) for code in range(*block)
      if unicodedata.category(chr(code)) != "Zs"),
]  # fmt: skip
BLANKS = " \t\u00a0\u1680\u2000\u2003\u2007\u2009\u202f\u205f\u3000\u2028\x85"
WORDS = st.text(alphabet=string.ascii_letters + string.digits + "äöüé._-", min_size=1, max_size=12)


@given(WORDS, st.sampled_from(INVISIBLE), st.integers(0, 12))
def test_what_cannot_be_seen_makes_no_other_word(word, mark, place):
    written = word[:place] + mark + word[place:]
    assert spelling_key(written) == spelling_key(word)
    assert without_unseen(written) == word
    assert differences([word, written]) == ["invisible characters"]
    assert len(set(quoted_apart([word, written]))) == 2


@given(st.lists(WORDS, min_size=2, max_size=3), st.sampled_from(BLANKS), st.integers(1, 3))
def test_blanks_of_any_kind_and_number_are_one(words, blank, times):
    assert spelling_key((blank * times).join(words)) == spelling_key(" ".join(words))
    assert visible(blank + words[0] + blank) == words[0]


@given(WORDS, st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_unicode_forms_of_one_word_are_one(word, form):
    assert spelling_key(unicodedata.normalize(form, word)) == spelling_key(word)
    wide = "".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in word)
    assert spelling_key(wide) == spelling_key(word)


@pytest.mark.parametrize("pair", [
    ("P-1", "P\u20131"), ("P-1", "P\u22121"), ("Alzheimer's", "Alzheimer\u2019s"), ("CT", "\u0421\u0422"),
    ("12", "\u0661\u0662"), ("A", "\u0391"),
])  # fmt: skip
def test_what_looks_the_same_is_one_and_is_shown_apart(pair):
    assert spelling_key(pair[0]) == spelling_key(pair[1])
    assert differences(pair) == ["characters that look alike"]
    assert len(set(quoted_apart(pair))) == 2
    assert all(text.isascii() for text in quoted_apart(pair))


def printed_by_programs(number: int) -> set[str]:
    """Return a whole number as pandas, numpy and C write it after it became a float."""
    column = io.StringIO()
    pd.DataFrame({"id": [number, np.nan]}).to_csv(column, index=False)
    return {column.getvalue().splitlines()[1], f"{number:.2f}", f"{number:.0f}", f"{number:.6e}", repr(float(number)),
            f"{number},0", f"{number}."}  # fmt: skip


@given(st.integers(0, 9_999_999))
@settings(max_examples=60)
def test_a_whole_number_that_went_through_a_program_is_the_same_id(number):
    assert {spelling_key(text) for text in printed_by_programs(number)} == {str(number)}


@given(st.integers(10**16, 10**20))
def test_large_numbers_as_well(number):
    number = int(float(number))  # what a float holds
    assert spelling_key(f"{number:.30e}") == str(number)


@given(st.lists(st.integers(0, 2000), min_size=2, max_size=6, unique=True))
def test_different_numbers_stay_apart(numbers):
    texts = [str(number) for number in numbers]
    assert len({lookalike_key(text) for text in texts}) == len(texts)
    assert len({lookalike_key(f"1.{text}") for text in texts}) == len(texts)  # site.patient: 1.1 is not 1.10
    assert len({lookalike_key(f"p{text}") for text in texts}) == len(texts)


@given(WORDS)
@settings(max_examples=200)
def test_a_key_is_its_own_key_and_the_wider_one_joins_what_the_narrow_one_does(word):
    assert spelling_key(spelling_key(word)) == spelling_key(word)
    assert lookalike_key(spelling_key(word)) == lookalike_key(word)


@pytest.mark.parametrize(("one", "other", "meant", "why"), [
    ("001", "1", True, ["leading zeros"]),
    ("0117", "117.0", True, ["the way a number is written", "leading zeros"]),
    ("p01", "P01", True, ["case"]),
    ("p_01", "p-01", True, ["separators"]),
    ("p 01", "p_01", True, ["separators"]),
    ("1,234", "1234", True, ["the way a number is written"]),
    ("a  b", "a b", False, ["blanks"]),
    ("117", "117.00", False, ["the way a number is written"]),
    ("100000", "1e+05", False, ["the way a number is written"]),
])  # fmt: skip
def test_what_may_be_meant_is_told_from_what_cannot(one, other, meant, why):
    assert lookalike_key(one) == lookalike_key(other)
    assert (spelling_key(one) != spelling_key(other)) == meant
    assert differences([one, other]) == why


@pytest.mark.parametrize(("one", "other"), [
    ("1.10", "1.1"), ("1-10", "11-0"), ("12e4", "120000"), ("1.5", "1"), ("HER2-", "HER2+"), ("-1", "1"), ("", "0"),
    ("1e+99999999999", "1"), ("p1", "p10"), ("a", "b"), ("0.5", "5"), ("O1", "01"),
])  # fmt: skip
def test_what_is_different_stays_so(one, other):
    assert lookalike_key(one) != lookalike_key(other)


def test_a_hint_names_lost_zeros_and_nothing_where_nothing_is_alike():
    assert hint_of("7", ["007"]) == "007 looks like it; were leading zeros lost?"
    assert hint_of("P7", ["p007", "p7"]) == "p007, p7 look like it, but for case and leading zeros"
    assert hint_of("7", []) == ""


@pytest.mark.parametrize("kept", ['="007"', "'007", "’007", '="007" ', "\u200b'007"])
def test_what_keeps_the_zeros_of_a_number_in_excel_is_no_part_of_it(kept: str) -> None:
    assert spelling_key(kept) == spelling_key("007") != spelling_key("7")
    assert differences([kept.strip("\u200b "), "007"])[0] in (
        "marks that keep a number as text",
        "characters that look alike",
    )


@pytest.mark.parametrize("name", ["'s", "O'Brien", '="', "''7", "a='7'"])
def test_other_quotes_stay(name: str) -> None:
    assert "'" in spelling_key(name) or '"' in spelling_key(name)
