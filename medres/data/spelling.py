"""When two texts are one word written twice: labels, ids, units, splits and columns are compared by these keys alone.

Text from spreadsheets, web pages and PDFs differs in ways that nobody sees. Each step below takes one such difference
away; `spelling_key` takes away what no one can have meant, `lookalike_key` also what a person may have meant.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from medres.data.wording import first_of

_Step: TypeAlias = tuple[str, Callable[[str], str]]

# shown as nothing or as a blank, though Unicode counts them among marks, letters and symbols: the combining grapheme
# joiner, the fillers of Hangul, inherent vowels of Khmer, variation selectors, the empty braille cell
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)
_UNSEEN_CATEGORIES = frozenset({"Cf", "Cc"})  # zero-width, soft hyphen, byte order mark, direction marks; controls

# letters of other alphabets that are drawn as Latin ones, and punctuation that programs replace while one types
_DRAWN_ALIKE = str.maketrans(
    "АВЕЅІЈКМНОРСТУХаеѕіјорсухΑΒΕΖΗΙΚΜΝΟΡΤΥΧον\u2212\u2043\u02d7\u2018\u2019\u201b\u02bc\u0060\u00b4\u201c\u201d\u2215",
    "ABESIJKMHOPCTYXaesijopcyxABEZHIKMNOPTYXov---''''''\"\"/",
)

# 117.0, 117.00, 117,0 (a decimal comma; three zeros behind a comma may be thousands), 1.17e+02
_WHOLE_NUMBER = re.compile(r"([+-]?\d+)(?:\.0*|,0{1,2})")
_EXPONENT = re.compile(r"([+-]?)(\d+)(?:\.(\d+))?[eE]\+(\d{1,3})")  # 12e4 may be a hash, e+04 is written by programs
_MOST_DIGITS = 40
# ="007" and '007: with these Excel is told to leave the zeros of a number alone
_KEPT_AS_TEXT = re.compile(r"=\"(.*)\"|'(?=\d)(.*)")
_THOUSANDS = re.compile(r"\d{1,3}([,.'])\d{3}(?:\1\d{3})*")
_SEPARATORS = re.compile(r"(?<=\w)[\s_-]+(?=\w)|_+")
_LEADING_ZEROS = re.compile(r"(?<!\d)(?<!\d\.)0+(?=\d)")


def without_unseen(text: str) -> str:
    r"""Return a text without the characters that cannot be seen; blanks of all kinds stay.

    Example:
        >>> without_unseen("be\u00adnign\u200b")
        'benign'
    """
    seen = (char for char in _UNSEEN.sub("", text) if char.isspace() or _is_seen(char))
    return text if text.isascii() and text.isprintable() else "".join(seen)


def visible(text: str) -> str:
    r"""Return a text as the eye sees it: nothing unseen in it, each run of blanks one blank, none around it.

    Example:
        >>> visible("\ufeff patient\u00a0\u2009id ")
        'patient id'
    """
    return " ".join(without_unseen(text).split())


def spelling_key(text: str) -> str:
    r"""Return what is left of a text without the differences that nobody can have meant.

    These are invisible characters, blanks, Unicode forms and look-alike letters of the same picture, and the ways in
    which programs write one whole number. Case, separators and leading zeros count.

    Example:
        >>> {spelling_key(text) for text in ("117", "117.0", "1.17e+02", "１１７", "117\u200b")}
        {'117'}
        >>> spelling_key("001") == spelling_key("1"), spelling_key("1.10") == spelling_key("1.1")
        (False, False)
    """
    return _after(_UNMEANT, text)


def lookalike_key(text: str) -> str:
    """Return what is left of a text without case, separators and leading zeros either: these may have been meant.

    Example:
        >>> {lookalike_key(text) for text in ("P01 a", "p1_A", " P001-a ")}
        {'p1 a'}
        >>> lookalike_key("100") == lookalike_key("10")
        False
    """
    return _after((*_UNMEANT, *_PERHAPS_MEANT), text)


def differences(texts: Sequence[str]) -> list[str]:
    r"""Return in what texts differ that have one `lookalike_key`.

    Example:
        >>> differences(["p1", "p1\u200b", "P01"])
        ['invisible characters', 'case', 'leading zeros']
    """
    needed = [*_UNMEANT, *_PERHAPS_MEANT]
    alike = len({_after(needed, text) for text in texts})
    for step in reversed(needed.copy()):  # what an earlier step takes away needs no later one
        without = [one for one in needed if one is not step]
        if len({_after(without, text) for text in texts}) == alike:
            needed = without
    return list(dict.fromkeys(name for name, _ in needed))


def hint_of(text: str, alike: Sequence[str]) -> str:
    """Return what to say about a text that is not found where others look like it; nothing where none does.

    Example:
        >>> hint_of("1", ["00001"])
        '00001 looks like it; were leading zeros lost?'
    """
    if not alike:
        return ""
    reasons = list(dict.fromkeys(reason for other in alike for reason in differences([text, other])))
    looks = f"{first_of(alike, limit=3)} {'looks' if len(alike) == 1 else 'look'} like it"
    if reasons == ["leading zeros"]:
        return f"{looks}; were leading zeros lost?"
    return f"{looks}, but for {' and '.join(reasons)}"


def quoted_apart(texts: Iterable[str]) -> list[str]:
    r"""Return texts in quotes, so that a reader can tell them apart: what cannot be seen is written as an escape.

    Example:
        >>> quoted_apart(["p1", "p1\u200b"]), quoted_apart(["M\u00fc", "Mu\u0308"])
        (["'p1'", "'p1\\u200b'"], ["'M\\xfc'", "'Mu\\u0308'"])
    """
    texts = list(texts)
    drawn = [_same_pictures(without_unseen(text)) for text in texts]
    same_picture = len(set(drawn)) < len({without_unseen(text) for text in texts})
    return [ascii(text) if same_picture else repr(text) for text in texts]


def _is_seen(char: str) -> bool:
    return unicodedata.category(char) not in _UNSEEN_CATEGORIES


def _after(steps: Iterable[_Step], text: str) -> str:
    for _, step in steps:
        text = step(text)
    return text


def _same_pictures(text: str) -> str:
    """Return a text in which characters that are drawn alike are the same character."""
    if text.isascii():
        return text.translate(_DRAWN_ALIKE)
    drawn = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).translate(_DRAWN_ALIKE))
    return "".join(map(_plain_character, drawn))


def _plain_character(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Pd":
        return "-"
    return str(unicodedata.decimal(char)) if category == "Nd" else char


def _whole_number(text: str) -> str:
    """Return a whole number as digits, as it was before a program made 117.0 or 1.17e+02 of it; else the text."""
    if match := _WHOLE_NUMBER.fullmatch(text):
        return match[1]
    match = _EXPONENT.fullmatch(text)
    if match is None or int(match[4]) > _MOST_DIGITS:
        return text
    sign, whole, fraction, exponent = match[1], match[2], (match[3] or "").rstrip("0"), int(match[4])
    return sign + whole + fraction.ljust(exponent, "0") if len(fraction) <= exponent else text


def _as_excel_shows(text: str) -> str:
    """Return a text without the marks that keep a spreadsheet from reading it as a number."""
    match = _KEPT_AS_TEXT.fullmatch(text)
    return next(part for part in match.groups() if part is not None) if match else text


def _without_thousands(text: str) -> str:
    return re.sub(r"\D", "", text) if _THOUSANDS.fullmatch(text) else text


def _joined_words(text: str) -> str:
    return _SEPARATORS.sub(" ", text).strip() or text


#: Nobody writes one thing so and means another thing otherwise.
_UNMEANT: tuple[_Step, ...] = (
    ("invisible characters", without_unseen),
    ("blanks", lambda text: " ".join(text.split())),
    ("characters that look alike", _same_pictures),
    ("marks that keep a number as text", _as_excel_shows),
    ("the way a number is written", _whole_number),
)
#: Systems exist in which these tell two things apart: pseudonyms in base 64, ``001`` of one site and ``1`` of another.
_PERHAPS_MEANT: tuple[_Step, ...] = (
    ("case", str.casefold),
    ("the way a number is written", _without_thousands),
    ("separators", _joined_words),
    ("leading zeros", lambda text: _LEADING_ZEROS.sub("", text)),
)
