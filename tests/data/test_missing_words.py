import io

import numpy as np
import pandas as pd
import pytest

from medres.data.missing_words import is_blank, is_missing, placeholder

# what pandas itself reads as missing, from its documentation of read_csv
PANDAS = pd._libs.parsers.STR_NA_VALUES


@pytest.mark.parametrize("word", sorted(PANDAS - {"NA", "None"}))
def test_what_pandas_reads_as_missing_is_missing_but_for_words_that_may_be_meant(word):
    assert is_missing(word)


@pytest.mark.parametrize("value", [np.nan, pd.NA, None])
def test_what_pandas_writes_for_missing_is_never_taken_as_a_value(value):
    for na_rep in ("", "nan", "NA", "<NA>", "None"):
        text = io.StringIO()
        pd.DataFrame({"x": ["a", value]}).to_csv(text, index=False, na_rep=na_rep)
        assert is_blank(text.getvalue().splitlines()[2].strip('"'))


@pytest.mark.parametrize(
    "word", ["NA", "na", "None", "-", "?", ".", "unknown", "Missing", "n.a.", "keine Angabe", " NA\u200b", "-99"]
)
def test_words_that_may_be_meant_are_told_and_not_taken_away(word):
    assert not is_missing(word)
    assert placeholder(word).startswith("which ")


@pytest.mark.parametrize(
    "word", ["benign", "0", "1", "no", "negative", "+", "NAD", "N", "p-1", "healthy", "999", "x", "nat"]
)
def test_ordinary_words_are_no_stand_ins(word):
    assert (is_missing(word), placeholder(word), placeholder(word, person=True)) == (False, "", "")


def test_persons_and_numbers_have_stand_ins_of_their_own():
    assert placeholder("Anonymous", person=True)
    assert not placeholder("Anonymous")
    assert placeholder("999", number=True)


@pytest.mark.parametrize("word", ["NaT", "<NaT>", "<nan>", "NoneType"])
def test_what_only_programs_write_for_nothing_is_missing(word: str) -> None:
    assert is_missing(word)
