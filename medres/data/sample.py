"""`read_sample`: the one way from a row of the table to its voxels, in checking, training and use."""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from medres.data.content import placed_hash
from medres.data.image import ScanImage
from medres.data.readers import read_scan
from medres.data.readers.rules import MaskRules, ReadingRules
from medres.data.regions import crop_to_region
from medres.data.sequences import stack_sequences
from medres.data.statistics import ScanStatistics, what_it_looks_like
from medres.data.table import Scan
from medres.errors import UnreadableScanError

#: Headers whose voxels lie in another file of the same name.
_HEADER_SUFFIXES = frozenset({".mhd", ".nhdr", ".hdr", ".img"})


def read_sample(scan: Scan, *, rules: ReadingRules) -> ScanImage:
    """Read a scan: one file, a DICOM series, or several sequences as channels; cropped to its region of interest.

    Args:
        scan: A row of a table.
        rules: How files become a scan. With ``roi_size_mm`` the row must have a centre or a mask; without, both are
            ignored. With ``sequences`` the row must have them all; without, those that it has are stacked in their
            order.

    Returns:
        The image; its ``content_hash`` is that of the whole scan, so that two lesions of one scan are known as one.

    Raises:
        UnreadableScanError: Naming the file, what is wrong with it and what to do.
    """
    images = _read_images(scan, rules)
    needs_mask = rules.roi_size_mm is not None and scan.center_ras_mm is None
    mask = read_mask(scan) if needs_mask else None
    with _named(scan.path):
        return assemble_sample(images, center_ras_mm=scan.center_ras_mm, mask=mask, rules=rules)


def assemble_sample(
    images: Mapping[str, ScanImage],
    *,
    rules: ReadingRules,
    center_ras_mm: tuple[float, float, float] | None = None,
    mask: ScanImage | None = None,
) -> ScanImage:
    """Make one image of what was read: sequences stacked in the order of the rules, then cropped.

    Args:
        images: By name of the sequence; one image under any name where the rules name at most one.
        rules: How files become a scan.
        center_ras_mm: Centre of the region of interest (x, y, z); it counts where a mask is given as well.
        mask: Image that marks the region of interest.

    Raises:
        UnreadableScanError: Sequences are missing or do not fit together, or the region cannot be told; the sentence
            begins with a verb.
    """
    whole = stack_sequences(_in_order(images, rules.sequences))
    if rules.roi_size_mm is None:
        return whole
    region = crop_to_region(whole, size_mm=rules.roi_size_mm, center_ras_mm=center_ras_mm, mask=mask)
    return replace(region, looks_like=what_it_looks_like(whole))


def read_mask(scan: Scan) -> ScanImage | None:
    """Return the mask of a scan's region of interest, or None where it has none.

    Raises:
        UnreadableScanError: Naming the file.
    """
    return None if scan.mask is None else read_scan(scan.mask, rules=MaskRules())


def scan_files(scan: Scan) -> tuple[Path, ...]:
    """Return all files whose change changes the sample, each one once.

    Of a folder, all files below it; of a header without voxels (``.mhd``, ``.nhdr``, ``.hdr``), all of its name.

    Example:
        >>> scan = Scan(sample_id="a", patient_id="a", path=Path("t1.nii"), mask=Path("lesion.nii"))
        >>> [file.name for file in scan_files(scan)]
        ['t1.nii', 'lesion.nii']
    """
    named = [*(scan.files or _files_at(scan.path)), *scan.sequences.values(), *([scan.mask] if scan.mask else [])]
    return tuple(dict.fromkeys(file for path in named for file in _files_at(path)))


def scan_identity(scan: Scan, *, rules: ReadingRules) -> str:
    """Return what a sample depends on besides the content of its files, as 64 hexadecimal digits.

    Together with size and time of `scan_files` it tells whether a sample is the one that was read before: two lesions
    of one scan, or one scan read by other rules, have different identities. The sample's id has no part in it.
    """
    where = [str(scan.path), scan.member, [str(file) for file in scan.files], str(scan.mask), scan.center_ras_mm]
    named = [[name, str(path)] for name, path in scan.sequences.items()]
    text = json.dumps([where, named, rules.digest()])
    return hashlib.sha256(text.encode()).hexdigest()


def sample_key(scan: Scan, statistics: ScanStatistics) -> str:
    """Return what a prepared sample depends on besides the plan: voxels, placement, and which part of the scan.

    Whole scans: `medres.data.content.placed_hash`. Two regions of one scan have different keys, the same region given
    once by its centre and once by a mask has one. (The reading rules are part of the plan.)

    Args:
        scan: With its content hash.
        statistics: Of the sample.
    """
    key = placed_hash(scan.content_hash, spacing_mm=statistics.spacing_mm, orientation=statistics.orientation)
    return key if statistics.region is None else hashlib.sha256(f"{key} {statistics.region}".encode()).hexdigest()


def _read_images(scan: Scan, rules: ReadingRules) -> dict[str, ScanImage]:
    if not scan.sequences:
        return {"": read_scan(scan.path, member=scan.member, files=scan.files, rules=rules)}
    wanted = [name for name in rules.sequences or scan.sequences if name in scan.sequences]
    return {name: _read_sequence(scan, scan.sequences[name], rules) for name in wanted}


def _read_sequence(scan: Scan, path: Path, rules: ReadingRules) -> ScanImage:
    own = path == scan.path  # the files of a DICOM series are those of `path`
    return read_scan(path, member=scan.member if own else None, files=scan.files if own else (), rules=rules)


def _in_order(images: Mapping[str, ScanImage], names: Sequence[str]) -> Mapping[str, ScanImage]:
    if len(names) == 1 and list(images) == [""]:  # a model of one sequence takes a plain file
        return {names[0]: images[""]}
    missing = [name for name in names if name not in images]
    if missing:
        raise UnreadableScanError(
            f"comes without {', '.join(missing)}; the sequences {', '.join(names)} are read as channels",
            fix=f"Give a table with one column of files for each: {', '.join(names)}.",
            code="sequence-missing",
        )
    return {name: images[name] for name in names} if names else images


def _files_at(path: Path) -> tuple[Path, ...]:
    if path.is_dir():
        return tuple(sorted(file for file in path.rglob("*") if file.is_file()))
    if path.suffix.lower() not in _HEADER_SUFFIXES:
        return (path,)
    others = (file for file in path.parent.glob(f"{glob.escape(path.stem)}.*") if file.is_file() and file != path)
    return (path, *sorted(others))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Put the file's name before what is wrong with the whole."""
    try:
        yield
    except UnreadableScanError as error:
        raise UnreadableScanError(f"{path} {error.problem}.", fix=error.fix, code=error.code) from error.__cause__
    except MemoryError as error:
        raise UnreadableScanError(
            f"{path} does not fit into memory.", fix="Crop it first.", code="too-large"
        ) from error
