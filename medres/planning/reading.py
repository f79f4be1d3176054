"""How files become scans: which sequences are channels, and how large the region of interest is."""

from __future__ import annotations

from collections.abc import Iterator

from medres.data.readers.rules import ReadingRules
from medres.data.regions import default_roi_size_mm, marked_extent_mm
from medres.data.table import Scan, ScanTable
from medres.data.wording import counted, first_of
from medres.errors import DataError, PlanError, UnreadableScanError
from medres.planning.choice import Choice, times
from medres.planning.fingerprint import Fingerprint
from medres.runs.parallel import map_in_threads
from medres.runs.progress import Progress, Silent

Size = tuple[float, float, float]


def choose_reading(table: ScanTable, *, rules: ReadingRules, progress: Progress | None = None) -> Choice[ReadingRules]:
    """Return the rules with what was left open decided by the table: needed before any scan is read.

    Columns of sequences become channels where all scans have them. Where scans come with masks but no size is given,
    it follows from what is marked; where they come with centres alone, it must be given.

    Args:
        table: The training scans.
        rules: What was asked for.
        progress: Shows how many masks were read.

    Raises:
        DataError: Scans lack a sequence that was asked for or that others have, a size is given but no scan has a
            region, or regions come without any size.
    """
    sequences = _choose_sequences(table, rules)
    size = _choose_size(table, rules, progress or Silent())
    chosen = rules.model_copy(update={"sequences": sequences.value, "roi_size_mm": size.value})
    return Choice(chosen, f"{sequences.reason} {size.reason}{_about_the_rest(rules)}")


def settle_reading(rules: ReadingRules, reason: str, fingerprint: Fingerprint) -> Choice[ReadingRules]:
    """Return the rules as they stand in the plan: with the names of the sequences that were read.

    Raises:
        PlanError: The scans of the fingerprint were read by other rules.
    """
    if not rules.sequences and fingerprint.sequences:
        rules = rules.model_copy(update={"sequences": fingerprint.sequences})
    require_reading(rules, fingerprint)
    return Choice(rules, reason or f"{_said_of_sequences(rules)} {_said_of_size(rules)}{_about_the_rest(rules)}")


def require_reading(rules: ReadingRules, fingerprint: Fingerprint) -> None:
    """Refuse rules that the scans of a fingerprint were not read by.

    Raises:
        PlanError: Naming the field of ``reading``, its value and what the scans are.
    """
    if rules.sequences != fingerprint.sequences:
        raise PlanError(
            f"The plan's reading.sequences is {list(rules.sequences)}, the scans have {list(fingerprint.sequences)}.",
            fix="Give a table with one column of files for each sequence of the plan, or leave --plan out.",
        )
    whole = fingerprint.num_scans - fingerprint.num_regions
    if rules.roi_size_mm is not None and whole:
        raise PlanError(
            f"The plan's reading.roi_size_mm is {list(rules.roi_size_mm)}, but {whole} of {fingerprint.num_scans} "
            "scans are whole.",
            fix="Give a table with the columns mask, or center_x_mm, center_y_mm and center_z_mm; or set "
            "roi_size_mm: null.",
        )
    if rules.roi_size_mm is None and fingerprint.num_regions:
        raise PlanError(
            f"The plan reads whole scans, but {fingerprint.num_regions} of {fingerprint.num_scans} are regions of "
            "interest.",
            fix="Set reading.roi_size_mm, or leave --roi-size-mm, mask and center_x_mm out.",
        )


def _choose_sequences(table: ScanTable, rules: ReadingRules) -> Choice[tuple[str, ...]]:
    common = rules.sequences or _first_names(table)
    lacking = [scan.sample_id for scan in table if not set(common) <= set(scan.sequences)]
    if lacking:
        raise DataError(
            f"{counted(len(lacking), 'scan')} of {len(table)} come without all of the sequences {', '.join(common)}: "
            f"{first_of(lacking)}.",
            fix="Leave these scans out, or name the sequences that all have: --sequences t1,flair.",
        )
    return Choice(common, _said_of_sequences(rules.model_copy(update={"sequences": common})))


def _first_names(table: ScanTable) -> tuple[str, ...]:
    """Return the names of the most complete scan, so that the others are told to be incomplete."""
    most = max(table, key=lambda scan: len(scan.sequences), default=None)
    return tuple(most.sequences) if most else ()


def _choose_size(table: ScanTable, rules: ReadingRules, progress: Progress) -> Choice[Size | None]:
    located = [scan for scan in table if _has_region(scan)]
    if rules.roi_size_mm is not None:
        if not located:
            raise DataError(
                f"A region of interest of {times(rules.roi_size_mm)} mm is asked for, but no scan says where it is.",
                fix="Give a table with the columns mask, or center_x_mm, center_y_mm and center_z_mm (RAS, mm).",
            )
        return Choice(rules.roi_size_mm, f"{_said_of_size(rules)} The size was set by you (--roi-size-mm).")
    if not located:
        return Choice(None, _said_of_size(rules))
    return _size_by_masks(located, progress)


def _size_by_masks(located: list[Scan], progress: Progress) -> Choice[Size | None]:
    marked = [scan for scan in located if scan.mask is not None]
    measured = progress.track(_extents(marked), description="measuring masks", total=len(marked)) if marked else ()
    known = [extent for extent in measured if extent is not None]
    if not known:
        raise DataError(
            f"{counted(len(located), 'scan')} say where a region of interest is, but not how large it is.",
            fix="Give its size in mm: --roi-size-mm 40 (one edge for all axes), or 40,40,60 (left-right, back-front, "
            "feet-head).",
        )
    size, why = default_roi_size_mm(known)
    return Choice(size, f"Regions of interest of {times(size)} mm: {why}")


def _extents(scans: list[Scan]) -> Iterator[Size | None]:
    from medres.data.sample import read_mask  # loads the decoders, which a plan alone does not need

    def measure(scan: Scan) -> Size | None:
        try:
            mask = read_mask(scan)
            return None if mask is None else marked_extent_mm(mask)
        except UnreadableScanError:  # told when the scan is read, together with all others
            return None

    return map_in_threads(measure, scans)


def _has_region(scan: Scan) -> bool:
    return scan.mask is not None or scan.center_ras_mm is not None


def _said_of_sequences(rules: ReadingRules) -> str:
    if not rules.sequences:
        return "A scan is one image."
    return f"The sequences {', '.join(rules.sequences)} are channels of one scan, on the grid of the first."


def _said_of_size(rules: ReadingRules) -> str:
    if rules.roi_size_mm is None:
        return "Scans are read whole."
    return f"Regions of interest of {times(rules.roi_size_mm)} mm (left-right, back-front, feet-head)."


def _about_the_rest(rules: ReadingRules) -> str:
    said = []
    if rules.volume is not None:
        said.append(f"Of 4D scans volume {rules.volume} is taken.")
    if rules.series is not None:
        said.append("Of several series the one that --series names is taken.")
    return "".join(f" {sentence}" for sentence in said)
