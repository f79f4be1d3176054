"""`choose_series`: which series of a study is the scan, by rule or by the user's pattern, and why."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from medres.data.readers.dicom.grouping import DicomSeries
from medres.errors import UnreadableScanError

# What people mean by the scan of a study, best first; whatever is not named is never a scan.
_RANKS = {"volume": 0, "4d": 2, "mosaic": 3, "image": 4, "film": 5, "secondary": 6, "localizer": 7}
_MOST_LISTED = 12


@dataclass(frozen=True, kw_only=True)
class SeriesChoice:
    """Which series is the scan.

    Args:
        chosen: The series, or None with a `problem`.
        reason: Why this one, as a sentence. Local only: it may name descriptions.
        rejected: The others.
        ambiguous: Others were as good by the rule.
        problem: Why none was chosen; holds no descriptions.
    """

    chosen: DicomSeries | None
    reason: str
    rejected: tuple[DicomSeries, ...] = ()
    ambiguous: bool = False
    problem: UnreadableScanError | None = None


def choose_series(series: Sequence[DicomSeries], *, pattern: str | None = None) -> SeriesChoice:
    """Choose the series of one study (or one folder) that is the scan.

    Scouts, secondary captures, reports and objects without pixels are left out; a derived series (a reformat, a
    maximum projection) where there is an original one. Of the rest the one with the most images is taken, which of
    a CT is the thinnest reconstruction, and of equal ones the lowest series number.

    Args:
        series: All of one study.
        pattern: Regular expression searched in ``number description uid``, case ignored; decides before any rule.

    Example:
        >>> choose_series([]).problem.code
        'no-series'
    """
    ranked = sorted((one for one in series if one.kind in _RANKS), key=_rank)
    if pattern is not None:
        return _by_pattern(series, ranked, pattern)
    usable = [one for one in ranked if one.kind != "localizer"]
    if not usable:
        return _none(series, "holds no series that is a scan: " + _listed(series), code="no-series")
    if len({one.study_uid for one in usable}) > 1:
        return _none(usable, "holds several studies: " + _listed(usable), code="several-series")
    return _first_of(usable, series, _why(usable))


def _by_pattern(series: Sequence[DicomSeries], ranked: Sequence[DicomSeries], pattern: str) -> SeriesChoice:
    try:
        expression = re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        return _none(series, f"cannot be chosen by --series: it is no regular expression ({error})", code="no-series")
    matching = [one for one in ranked if expression.search(f"{one.series_number} {one.description} {one.series_uid}")]
    if not matching:
        return _none(series, "holds no series that --series matches: " + _listed(series), code="no-series")
    # the second geometry of a series, such as a scout in it, is no second match
    if len({(one.study_uid, one.series_uid) for one in matching}) > 1:
        return _none(
            matching, "holds several series that --series matches: " + _listed(matching), code="several-series"
        )
    return _first_of(matching, series, "--series matches it")


def _first_of(usable: Sequence[DicomSeries], series: Sequence[DicomSeries], why: str) -> SeriesChoice:
    chosen, alike = usable[0], [one for one in usable[1:] if _rank(one)[:2] == _rank(usable[0])[:2]]
    if alike:
        names = ", ".join(_name(one) for one in alike[:_MOST_LISTED])
        why = f"it has the lowest number, and {names} would do as well; --series decides otherwise"
    return SeriesChoice(
        chosen=chosen,
        reason=f"{_name(chosen)} was chosen: {why}.",
        rejected=tuple(one for one in series if one is not chosen),
        ambiguous=bool(alike),
    )


def _why(usable: Sequence[DicomSeries]) -> str:
    best = usable[0]
    if len(usable) == 1:
        return "it is the only scan"
    if any(_rank(one)[0] == _rank(best)[0] for one in usable[1:]):
        return f"it has the most images of {len(usable)} candidates"
    return f"it is the only {'original' if best.original else 'derived'} {best.kind} of {len(usable)} candidates"


def _rank(one: DicomSeries) -> tuple[int, int, int, str]:
    number = int(one.series_number) if one.series_number.isdecimal() else 2**31
    derived = int(one.kind == "volume" and not one.original)
    return (_RANKS[one.kind] + derived, -one.num_images, number, one.key)


def _name(one: DicomSeries) -> str:
    return f"series {one.series_number or '?'} ({one.modality}, {one.num_images} images, {one.description!r})"


def _listed(series: Sequence[DicomSeries]) -> str:
    if not series:
        return "there are none"
    # without the description: this goes into messages, and people write names into it
    names = [f"series {one.series_number or '?'} ({one.modality or 'no modality'}, {one.num_images} images) "
             f"{one.reason}" for one in series[:_MOST_LISTED]]  # fmt: skip
    more = len(series) - len(names)
    return "; ".join(names) + (f"; and {more} more" if more > 0 else "")


def _none(series: Sequence[DicomSeries], problem: str, *, code: str) -> SeriesChoice:
    error = UnreadableScanError(problem, fix="Say which one with --series (a regular expression).", code=code)
    return SeriesChoice(chosen=None, reason=f"{problem}.", rejected=tuple(series), problem=error)
