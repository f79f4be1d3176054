"""Masks that lie among their images: ``1_mask.png`` beside ``1.png``, ``masks/1.png`` beside ``images/1.png``.

Public sets keep segmentations beside their images. Taken as scans they are patients who do not exist, and what is drawn
in them gives the label away. Two things decide: the name of the file is that of another one with a word for a mask,
and what it holds has few values. The first is looked at in every file, the second in a sample of each naming.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from medres.data.findings import Finding
from medres.data.readers.formats import scan_stem
from medres.data.sources.problems import found
from medres.data.sources.scan_files import relative_name
from medres.data.table import Scan
from medres.data.wording import counted, first_of
from medres.runs.parallel import map_in_threads

_WORDS = frozenset({"mask", "masks", "msk", "msks", "seg", "segs", "segm", "segmentation", "segmentations", "label",
                    "labels", "labelmap", "labelmaps", "gt", "groundtruth", "groundtruths", "annotation", "annotations",
                    "annot", "annots", "contour", "contours", "lbl", "lbls"})  # fmt: skip
# words that may name a picture as well: a file that is called so and nothing else is no mask by its name
_WEAK_WORDS = frozenset({"truth", "roi", "rois", "anno", "outline", "lesion", "lesions", "tumor", "tumors", "tumour",
                         "tumours", "manual", "segmented", "binary", "bin", "foreground", "fg"})  # fmt: skip
_FOLDERS = _WORDS | {"labelstr", "labelsts", "labelsva", "roi", "rois"}  # those of the Decathlon and nnU-Net among them
_ENDINGS = ("mask", "masks", "seg", "label", "labels")  # brainmask, LungMasks, dseg of BIDS, segLabel
_WORD = re.compile(r"[^\W\d_]+|\d+")
_SEPARATORS = re.compile(r"[\W_]+")

_SAMPLE = 8  # files of one naming that are opened
_FEW_VALUES = 32
_LEVELS = 32
_TWO_LEVELS_SHARE = 0.9  # a mask that was saved as JPEG or blurred is still nearly all of two values


@dataclass(frozen=True, kw_only=True)
class MaskFiles:
    """Masks among files.

    Args:
        images: The image of each mask.
        doubtful: The same for files that are named like masks, but hold pictures: they stay scans.
    """

    images: Mapping[Path, Path] = field(default_factory=dict)
    doubtful: Mapping[Path, Path] = field(default_factory=dict)

    def findings(self, root: Path) -> tuple[Finding, ...]:
        """Return a finding for each mask that is left out, and one for all files that are named like masks only.

        Args:
            root: Folder that names are written relative to.
        """
        fix = "If it is a scan, name it in a table, or rename it."
        left_out = []
        for mask, image in self.images.items():
            text = f"{relative_name(mask, root)} is the mask of {_name(image, mask, root)}: left out."
            left_out.append(found("mask-among-scans", text, fix=fix, file=mask))
        return (*left_out, *self._named_like_masks(root))

    def used(self, *, masks: Container[Path], scans: Container[Path]) -> MaskFiles:
        """Return what is to be told where a table says what files are.

        Args:
            masks: Files that it names: they are not left out.
            scans: Files that it takes as scans without naming them.
        """
        left_out = {mask: image for mask, image in self.images.items() if mask not in masks}
        doubtful = {mask: image for mask, image in self.doubtful.items() if mask in scans}
        return MaskFiles(images=left_out, doubtful=doubtful)

    def _named_like_masks(self, root: Path) -> Iterator[Finding]:
        if self.doubtful:
            names = [
                f"{relative_name(mask, root)} ({_name(image, mask, root)})" for mask, image in self.doubtful.items()
            ]
            number = counted(len(names), "file")
            text = (
                f"{number} {'is' if len(names) == 1 else 'are'} named like masks of others, but hold pictures, and "
                f"stayed scans: {first_of(names, limit=3)}."
            )
            yield found("mask-among-scans", text, fix="If they are no scans, take them out of the folder.")


def listed_masks(scans: Sequence[Scan], table: str, root: Path) -> tuple[Finding, ...]:
    """Return a finding where a table names masks of other scans that it names; they stay: they were asked for.

    Args:
        scans: Of the table.
        table: Its name.
        root: Folder that paths are relative to.
    """
    single = {scan.path: scan.sample_id for scan in scans if not scan.files and not scan.member and scan.path.is_file()}
    masks = masks_among(list(single), root).images
    if not masks:
        return ()
    names = [f"{relative_name(mask, root)} (of {_name(image, mask, root)})" for mask, image in masks.items()]
    text = f"{table} lists {counted(len(masks), 'mask')} of scans that it lists as well: {first_of(names, limit=3)}."
    fix = "Take these rows out, or --exclude-findings mask-among-scans; a region of interest goes into a column 'mask'."
    first, *others = (single[mask] for mask in masks)
    return (found("mask-among-scans", text, fix=fix, sample_id=first, others=others),)


def masks_among(files: Sequence[Path], root: Path) -> MaskFiles:
    """Return which files are masks of others, by name and by what a sample of them holds.

    Args:
        files: Below the root; those that hold one scan each.
        root: Folder whose own place has no meaning.
    """
    by_naming: dict[str, dict[Path, Path]] = defaultdict(dict)
    for mask, image, naming in (*_by_file_name(files), *_by_folder_name(files, root)):
        if not any(mask in masks for masks in by_naming.values()):
            by_naming[naming][mask] = image
    images: dict[Path, Path] = {}
    doubtful: dict[Path, Path] = {}
    for masks in by_naming.values():
        (images if _hold_masks(list(masks)) else doubtful).update(masks)
    left = [file for file in files if file not in images and file not in doubtful]
    images.update(_of_another_format(left))
    return MaskFiles(images=dict(sorted(images.items())), doubtful=dict(sorted(doubtful.items())))


def _by_file_name(files: Iterable[Path]) -> Iterator[tuple[Path, Path, str]]:
    """Yield (mask, image, naming) where a file is called like another one of its folder, with a word for a mask."""
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        by_folder[file.parent].append(file)
    for siblings in by_folder.values():
        stems: dict[str, list[Path]] = defaultdict(list)
        for file in siblings:
            stems[scan_stem(file).casefold()].append(file)
        words = {stem: word for stem in stems if (word := _mask_word(stem))}
        plain = sorted(stem for stem in stems if stem not in words)
        behind = {_behind(stem, first): stem for stem in reversed(plain) if (first := _WORD.match(stem))}
        for stem, word in words.items():
            if image := _image_of(stem, word, stems, plain, behind):
                yield from ((file, stems[image][0], word.group()) for file in stems[stem])


def _of_another_format(files: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield (mask, image) of files that have one name and two formats, such as ``1.png`` beside ``1.jpg``.

    Nothing in their names says which is which: what they hold decides, where those of one format are masks and those of
    the other are not.
    """
    named: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        named[file.parent / scan_stem(file)].append(file)
    pairs: dict[tuple[str, ...], list[list[Path]]] = defaultdict(list)
    for pair in named.values():
        if len(pair) == 2:
            ordered = sorted(pair)
            pairs[tuple(file.name.removeprefix(scan_stem(file)) for file in ordered)].append(ordered)
    for of_formats in pairs.values():
        first, second = ([pair[at] for pair in of_formats] for at in (0, 1))
        are_masks = [_hold_masks(some, unread=False) for some in (first, second)]
        if are_masks[0] != are_masks[1]:
            yield from zip(first, second, strict=True) if are_masks[0] else zip(second, first, strict=True)


def _mask_word(stem: str) -> re.Match[str] | None:
    """Return the last word of a name that is a word for a mask."""
    words = reversed(list(_WORD.finditer(stem)))
    return next((word for word in words if is_mask_word(word.group()) or word.group() in _WEAK_WORDS), None)


def is_mask_word(word: str) -> bool:
    """Return whether a word without separators, in small letters, names a mask.

    Example:
        >>> is_mask_word("brainmask"), is_mask_word("dseg"), is_mask_word("t1w")
        (True, True, False)
    """
    return word in _WORDS or word.endswith(_ENDINGS)


def _image_of(
    stem: str, word: re.Match[str], stems: Container[str], plain: Sequence[str], behind: Mapping[str, str]
) -> str:
    """Return the stem of the image of a mask, or an empty text.

    ``a_lesion_mask_1`` is of ``a_lesion``, else of ``a``; ``mask_a`` of ``a``, else of ``image_a``; ``a_seg`` of
    ``a_t1`` where there is no ``a`` (the sequences of one patient); ``seg`` of any file of its folder (that of a
    patient).

    Args:
        stem: Of the mask, in small letters.
        word: Its word for a mask.
        stems: Of all files of the folder.
        plain: Those without such a word, sorted.
        behind: The same, by what follows their first word.
    """
    starts = [match.start() for match in _WORD.finditer(stem[: word.start()])]
    bases = [_trimmed(stem[:cut]) for cut in (word.start(), *reversed(starts[1:]))]
    named = [base for base in (*bases, _behind(stem, word)) if base in stems]
    if named:
        return named[0]
    if bases[0]:
        return _first_that_begins(bases[0], plain)
    if (rest := _behind(stem, word)) and rest in behind:
        return behind[rest]
    only_a_mask = all(is_mask_word(part) or part.isdecimal() for part in _WORD.findall(stem))
    return plain[0] if plain and only_a_mask else ""


def _behind(stem: str, word: re.Match[str]) -> str:
    """Return what follows a word that a name begins with, and a separator; else an empty text."""
    separator = _SEPARATORS.match(stem, word.end())
    return stem[separator.end() :] if separator and not word.start() else ""


def _first_that_begins(base: str, stems: Sequence[str]) -> str:
    """Return the first of sorted stems that is a base with a separator and more behind it, or an empty text."""
    for separator in " -._(":
        place = bisect_left(stems, base + separator)
        if place < len(stems) and stems[place].startswith(base + separator):
            return stems[place]
    return ""


def _trimmed(text: str) -> str:
    """Return a text without the separators at its end; a bracket belongs to the name, as in ``benign (1)``."""
    return text.rstrip(" _.-+([")


def _by_folder_name(files: Sequence[Path], root: Path) -> Iterator[tuple[Path, Path, str]]:
    """Yield (mask, image, naming) where a file in a folder of masks has the name of one in a folder beside it."""
    folders = {file.parent for file in files}
    if all(_mask_folder(PurePosixPath(relative_name(folder, root), "*")) is None for folder in folders):
        return  # nearly always
    names = {file: PurePosixPath(relative_name(file, root)) for file in files}
    at = {file: _mask_folder(name) for file, name in names.items()}
    images: dict[tuple[tuple[str, ...], ...], dict[str, Path]] = defaultdict(dict)
    for file, name in names.items():
        if at[file] is None:
            for depth in range(len(name.parts)):
                for rest in {name.parts[depth:-1], name.parts[depth + 1 : -1]}:
                    images[name.parts[:depth], rest].setdefault(scan_stem(name).casefold(), file)
    for file, place in at.items():
        if place is not None:
            parts = names[file].parts
            beside = images.get((parts[:place], parts[place + 1 : -1]), {})
            if image := _same_name(scan_stem(names[file]).casefold(), beside):
                yield file, image, f"{parts[place].casefold()}/"


def _mask_folder(name: PurePosixPath) -> int | None:
    """Return at which depth a path goes through a folder of masks, or None."""
    folders = (_SEPARATORS.sub("", part).casefold() for part in name.parts[:-1])
    return next((at for at, folder in enumerate(folders) if folder in _FOLDERS or folder.endswith(_ENDINGS)), None)


def _same_name(stem: str, images: Mapping[str, Path]) -> Path | None:
    """Return the image of a mask of another folder: that of its name (but for a word, a channel), or the only one.

    The folder of a patient may hold one image, and a folder with a mask of each organ.
    """
    word = _mask_word(stem)
    plain = _trimmed(stem[: word.start()]) if word and word.start() else stem
    names = (stem, plain, f"{stem}_0000", f"{plain}_0000")  # nnU-Net numbers the channels of an image
    only = next(iter(images.values())) if len(images) == 1 else None
    return next((images[name] for name in names if name in images), only)


def _hold_masks(files: Sequence[Path], *, unread: bool = True) -> bool:
    """Return whether most files of a sample look like masks.

    Args:
        files: Of one naming.
        unread: The answer where none of them can be read: there their names decide, if these say anything.
    """
    sample = [files[index] for index in np.linspace(0, len(files) - 1, min(len(files), _SAMPLE)).astype(int)]
    said = [look for look in map_in_threads(_looks_like_mask, sample) if look is not None]
    return 2 * sum(said) >= len(said) if said else unread


def _looks_like_mask(file: Path) -> bool | None:
    """Return whether a file holds few values, or nearly two only; None where it cannot be read."""
    from medres.data.readers import read_scan  # it needs nibabel; most folders hold no such names

    try:
        return holds_few_values(read_scan(file).voxels)
    except Exception:  # whatever is wrong with one file, the others of its naming decide
        return None


def holds_few_values(voxels: npt.NDArray[np.generic]) -> bool:
    """Return whether an array is a mask by its values: at most 32 different ones, or nearly all at two levels.

    Args:
        voxels: Any shape.

    Example:
        >>> ramp = np.arange(1000.0)
        >>> holds_few_values(ramp), holds_few_values(ramp > 500), holds_few_values(np.clip(ramp * 10 - 5000, 0, 255))
        (False, True, True)
    """
    values = np.asarray(voxels).ravel()
    values = values[:: max(1, values.size // 2**20)].astype(np.float64)
    values = values[np.isfinite(values)]
    if not values.size or len(np.unique(values)) <= _FEW_VALUES:
        return True
    counts, _ = np.histogram(values, bins=_LEVELS)
    return bool(np.sort(counts)[-2:].sum() >= _TWO_LEVELS_SHARE * values.size)


def _name(image: Path, mask: Path, root: Path) -> str:
    return image.name if image.parent == mask.parent else relative_name(image, root)
