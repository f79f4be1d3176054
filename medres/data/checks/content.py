"""Checks of what scans show: something at all, and all of them the same kind of thing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeVar

from medres.data.checks.about import about
from medres.data.findings import Finding
from medres.data.statistics import CANNOT_TELL, ScanStatistics
from medres.data.survey_memory import Remembered
from medres.data.table import Scan, ScanTable

Known = Mapping[str, Remembered]
Key = TypeVar("Key")

# A thousandth of the smallest images (28 x 28) is one pixel, of a CT the mask of a lesion of 6 mm is a hundred times
# less: nothing that could be classified from the picture as a whole.
NEARLY_NOTHING = 0.001


class Emptiness(NamedTuple):
    """Why a scan shows nothing.

    Args:
        code: ``constant`` or ``nearly-empty``.
        value: What was found, with a value of its voxels.
        fix: What to do.
    """

    code: str
    value: str
    fix: str


_DIMS = {2: "an image (2D)", 3: "a volume (3D)"}


def check_content(table: ScanTable, known: Known) -> Iterator[Finding]:
    """Yield the findings about what scans show."""
    for scan, entry in read_scans(table, known):
        yield from _empty(scan, entry)
        yield from _unclear_modality(scan, entry)
    yield from _mixed_dimensions(table, known)
    yield from _mixed_modalities(table, known)
    yield from _mixed_colors(table, known)


def read_scans(table: ScanTable, known: Known) -> Iterator[tuple[Scan, Remembered]]:
    """Yield the scans that could be read, with what is known of them."""
    for scan in table:
        if scan.sample_id in known:
            yield scan, known[scan.sample_id]


def _empty(scan: Scan, entry: Remembered) -> Iterator[Finding]:
    empty = emptiness(entry.statistics)
    if empty is not None:
        yield about(scan, empty.code, empty.value, fix=empty.fix)


def emptiness(statistics: ScanStatistics) -> Emptiness | None:
    """Return why a scan shows nothing, or None where it shows something.

    One value everywhere; one value in nearly all voxels; a CT of air alone.
    """
    if statistics.minimum >= statistics.maximum:
        value = f"has the value {statistics.minimum:g} everywhere."
        return Emptiness("constant", value, "Leave it out, or export it again.")
    if _is_nearly_one_value(statistics):
        value = f"has the value {statistics.percentiles['50']:g} in more than 99.9 % of its voxels."
        return Emptiness("nearly-empty", value, "Look at it: a mask or a scan of nothing?")
    if _is_air(statistics):
        value = "is air in more than 99.9 % of its voxels."
        return Emptiness("nearly-empty", value, "Look at it: a phantom, a calibration, or a scan of nothing?")
    return None


def _is_nearly_one_value(statistics: ScanStatistics) -> bool:
    # where all that differs lies between the sampled voxels, everything counts as foreground
    shows_something = NEARLY_NOTHING <= statistics.foreground_fraction < 1
    return statistics.percentiles["0.5"] == statistics.percentiles["99.5"] and not shows_something


def _is_air(statistics: ScanStatistics) -> bool:
    # of a region of interest inside the lung nothing may be denser than lung; of a whole scan something is
    shares = statistics.tissue_shares
    return bool(shares) and statistics.region is None and shares["soft_tissue"] + shares["bone"] < NEARLY_NOTHING


def _mixed_dimensions(table: ScanTable, known: Known) -> Iterator[Finding]:
    dims = _each(table, known, lambda entry: len(entry.statistics.spatial_shape))
    counts = Counter(dims.values())
    if len(counts) < 2:
        return
    usual = max(counts, key=lambda number: (counts[number], number))  # of equally many, volumes are what is meant
    mixture = " and ".join(f"{counts[number]} {number}D" for number in sorted(counts))
    for scan in table:
        if dims.get(scan.sample_id, usual) != usual:
            value = f"is {_DIMS[dims[scan.sample_id]]}; the data set mixes images and volumes: {mixture}."
            fix = "Train on one kind: keep the others in a folder of their own, or --exclude-findings mixed-dimensions."
            yield about(scan, "mixed-dimensions", value, fix=fix)


def _unclear_modality(scan: Scan, entry: Remembered) -> Iterator[Finding]:
    if is_unclear(entry):
        fix = "Export a CT with its negative values; or say what it is: --set planning.modality=CT (or MR)."
        yield about(scan, "modality-unclear", f"may be CT or MR ({entry.statistics.evidence}).", fix=fix)


def is_unclear(entry: Remembered) -> bool:
    """Return whether the voxels may be of one modality or of another, and no header says which."""
    return _may_be_either(entry.statistics)


def _mixed_modalities(table: ScanTable, known: Known) -> Iterator[Finding]:
    modalities = _each(table, known, told_modality)
    counts = Counter(modalities.values())
    if len(counts) < 2:
        return
    usual, number = counts.most_common(1)[0]
    for scan, entry in read_scans(table, known):
        if _differ(told_modality(entry), usual):
            those = usual or "no CT and have more than 8 bits"
            value = f"{modality_evidence(entry.statistics)}; {number} of {len(modalities)} scans are {those}."
            fix = "Check that it belongs here; the plan then standardises each scan by itself."
            yield about(scan, "mixed-modality", value, fix=fix)


def told_modality(entry: Remembered) -> str:
    """Return the modality as far as it can be told whatever the unit of the voxels.

    That of the header; else ``CT`` by Hounsfield units, ``8-bit`` by the storage, and nothing for the rest: whether
    values without a unit look like MR or not is a guess, and two guesses are no mixture.
    """
    statistics = entry.statistics
    if statistics.header_modality or statistics.modality == "CT":
        return modality_of(entry)
    return "8-bit" if statistics.dtype in ("uint8", "int8") else ""


def _differ(told: str, usual: str) -> bool:
    return told != usual and ("" not in (told, usual) or bool({told, usual} & {"CT", "8-bit"}))


def modality_of(entry: Remembered) -> str:
    """Return the modality that the header says; the guess from the voxels where it says nothing."""
    return entry.statistics.header_modality or entry.statistics.modality


def modality_evidence(statistics: ScanStatistics) -> str:
    """Return what a scan is, and by what: ``is MR by its header``, ``looks like CT (...)`` with its values."""
    if statistics.header_modality:
        return f"is {statistics.header_modality} by its header"
    return f"{looks_like(statistics)} ({statistics.evidence})"


def looks_like(statistics: ScanStatistics) -> str:
    """Return what a scan looks like, without its values."""
    if _may_be_either(statistics):
        return "may be CT or MR"
    return f"looks like {'neither CT nor MR' if statistics.modality == 'other' else statistics.modality}"


def _may_be_either(statistics: ScanStatistics) -> bool:
    return not statistics.header_modality and statistics.evidence.startswith(CANNOT_TELL)


def _mixed_colors(table: ScanTable, known: Known) -> Iterator[Finding]:
    colored = [scan for scan, entry in read_scans(table, known) if entry.statistics.color]
    if len(colored) == len(known):
        return
    for scan in colored:
        value = f"is true colour; {len(known) - len(colored)} of {len(known)} scans are grey."
        fix = "Look at it: a coloured mark that goes with a class is what a network learns first."
        yield about(scan, "mixed-color", value, fix=fix)


def _each(table: ScanTable, known: Known, key: Callable[[Remembered], Key]) -> dict[str, Key]:
    return {scan.sample_id: key(entry) for scan, entry in read_scans(table, known)}
