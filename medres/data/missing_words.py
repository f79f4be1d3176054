"""Words for a value that is not there: those that only programs write, and those that may be meant."""

from __future__ import annotations

from medres.data.spelling import visible


def _words(*lines: str) -> frozenset[str]:
    return frozenset(word.strip() for line in lines for word in line.split(","))


# as they are compared: without case
_ONLY_PROGRAMS = _words(
    ",nan,-nan,+nan,<nan>,n/a,#n/a,#n/a n/a,#na,<na>,null,<null>,(null),<none>,<nat>,nonetype,\\n",
    "1.#qnan,-1.#qnan,1.#ind,-1.#ind",
    "#value!,#ref!,#name?,#null!,#num!,#div/0!",
)
_NO_DATE = "NaT"  # of pandas; in other letters it is a name
_WRITTEN_BY = {
    "na": "which is how R writes a missing value",
    "none": "which is how Python writes a missing value",
    ".": "which is how SAS and Stata write a missing value",
    "-": "which stands for a missing value in many tables",
    "?": "which stands for a missing value in ARFF files and many tables",
}
_PLACEHOLDERS = _words(
    *_WRITTEN_BY,
    "n.a.,n.a,n. a.,--,---,\u2013,\u2014,??,???,..,...,unknown,unk,unkn,missing,undefined,unspecified,undetermined",
    "empty,not available,not applicable,not known,not specified,not reported,not recorded,blank,(blank),tbd,nil",
    "(na),(none),n.d.,n. d.,k.a.,k. a.,keine angabe,unbekannt,fehlt,inconnu,desconocido,sconosciuto",
)
_OF_PERSONS = _words(
    "anon,anonym,anonymous,anonymized,anonymised,deidentified,de-identified,removed,redacted",
    "xx,xxx,xxxx,no name,noname",
)
# what SPSS files, PLINK and registries write for a number that is not there
_CODES = frozenset({"-9", "-99", "-999", "-9999"})
_POSITIVE_CODES = frozenset({"999", "9999"})


def is_missing(text: str) -> bool:
    r"""Return whether a cell holds nothing, or what only a program writes for nothing.

    Example:
        >>> is_missing(" \u200b"), is_missing("<NA>"), is_missing("NA"), is_missing("none")
        (True, True, False, False)
    """
    seen = visible(text)
    return seen.casefold() in _ONLY_PROGRAMS or seen == _NO_DATE


def is_blank(text: str) -> bool:
    """Return whether a cell that should name a file names none.

    Example:
        >>> is_blank("NA"), is_blank("ct/1.nii")
        (True, False)
    """
    return is_missing(text) or bool(placeholder(text))


def placeholder(text: str, *, person: bool = False, number: bool = False) -> str:
    """Return what kind of stand-in for a missing value a text may be, as the rest of a sentence about it; or nothing.

    Args:
        text: A label or an id.
        person: Whether it should name a person: words such as ``anonymous`` then are stand-ins as well.
        number: Whether it should be a number, of which 999 is a usual stand-in.

    Example:
        >>> placeholder("NA"), placeholder("unknown"), placeholder("benign")
        ('which is how R writes a missing value', 'which says that a value is missing', '')
    """
    word = visible(text).casefold()
    if word in _WRITTEN_BY:
        return _WRITTEN_BY[word]
    if word in _CODES or (number and word in _POSITIVE_CODES):
        return "which is a usual code for a missing value"
    if word in _PLACEHOLDERS or (person and word in _OF_PERSONS):
        return "which says that a value is missing"
    return ""
