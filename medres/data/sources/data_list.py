"""A MONAI data list: JSON with ``{"training": [{"image": ..., "label": ...}], "validation": [...], "test": [...]}``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from medres.data.readers.formats import scan_suffix
from medres.data.sources.columns import PATH_COLUMNS, SPLIT_COLUMN, split_of
from medres.data.sources.delimited import Row, TextTable
from medres.data.sources.draft import Draft, Options
from medres.data.sources.label_table import TableUse, draft_of_table
from medres.data.wording import counted, first_of
from medres.errors import DataError
from medres.runs.plain_data import PlainDataError, read_json

#: Names under which a folder may hold a data list.
LIST_NAMES = ("dataset.json", "datalist.json", "data_list.json")

_IMAGE = "image"
_IMAGE_KEYS = (_IMAGE, "images", "img", *PATH_COLUMNS)
_FIX = 'Write {"training": [{"image": "ct/p1.nii.gz", "label": "benign"}, ...]}, or a CSV with the columns path,label.'


def is_data_list(path: Path) -> bool:
    """Return whether a JSON file is a data list; False where it is something else."""
    try:
        content = _content(path)
    except DataError:
        return False
    return isinstance(content, list) or (isinstance(content, dict) and any(split_of(key) for key in content))


def read_data_list(path: Path, options: Options) -> Draft:
    """Read a data list; its paths are relative to its folder. Several images of an entry become channels.

    The lists under ``training``, ``validation`` and ``test`` are the given splits, where more than one of them is
    labelled. Other keys of an entry are read as the columns of a table are: patient, unit, mask, centre, metadata.

    Raises:
        DataError: It is no data list, or its labels are segmentations.
    """
    entries = list(_entries(path, _content(path)))
    labelled = [entry for entry in entries if not isinstance(entry[2], str)]
    if not labelled:
        raise DataError(f"{path} has no labelled entry.", fix=_FIX)
    _refuse_segmentations(path, labelled, options.label_column)
    table, images = _table(path, labelled, options)
    names = images if len(images) > 1 and not options.sequences else options.sequences
    use = TableUse(root=path.parent, source="MONAI data list")
    draft = draft_of_table(table, replace(options, sequences=names), use)
    left = len(entries) - len(labelled)
    note = f"{counted(left, 'image')} without labels were left out."
    return replace(draft, notes=(*draft.notes, note)) if left else draft


def _content(path: Path) -> Any:
    try:
        return read_json(path, allow_nan=True)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", fix="Check the path.") from error
    except PlainDataError as error:
        raise DataError(f"{path} is no JSON: {error}.", fix=_FIX) from None


def _entries(path: Path, content: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield (split as it is called, place, entry)."""
    lists = {"": content} if isinstance(content, list) else content
    if not isinstance(lists, dict):
        raise DataError(f"{path} is no data list.", fix=_FIX)
    for name, entries in lists.items():
        if name and split_of(name) is None:
            continue
        if not isinstance(entries, list):
            raise DataError(f"{path}: '{name}' is no list.", fix=_FIX)
        for index, entry in enumerate(entries):
            place = f"{name}[{index}]"
            if not isinstance(entry, (dict, str)):
                raise DataError(f"{path}: {place} is neither an entry nor a path.", fix=_FIX)
            yield name, place, entry


def _refuse_segmentations(path: Path, entries: Sequence[tuple[str, str, Any]], column: str) -> None:
    labels = [(place, entry.get(column)) for _, place, entry in entries]
    paths = [f"{place} '{label}'" for place, label in labels if isinstance(label, str) and _is_path(label)]
    if paths:
        raise DataError(
            f"{path}: '{column}' names images (segmentations), not classes: {first_of(paths, limit=3)}.",
            fix="Give the class under another key and name it with --label-column; a segmentation that marks what is "
            "to be looked at goes under 'mask'.",
        )
    odd = [place for place, label in labels if isinstance(label, (dict, list)) and not _is_single(label)]
    if odd:
        raise DataError(
            f"{path}: '{column}' holds several labels in {first_of(odd, limit=3)}; one is needed.",
            fix="Give the one to learn under a key of its own and name it with --label-column.",
        )


def _is_path(text: str) -> bool:
    return bool(scan_suffix(PurePosixPath(text.replace("\\", "/"))))


def _is_single(label: object) -> bool:
    return isinstance(label, list) and len(label) == 1 and not isinstance(label[0], (dict, list))


def _table(path: Path, entries: Sequence[tuple[str, str, Any]], options: Options) -> tuple[TextTable, tuple[str, ...]]:
    """Return the entries as a table of text, and the columns of images where an entry has several."""
    split = len({name for name, _, _ in entries}) > 1
    rows = []
    for number, (name, place, entry) in enumerate(entries, start=1):
        cells = _cells(path, place, entry)
        if split:
            cells[SPLIT_COLUMN] = name
        rows.append((number, place, cells))
    columns = tuple(dict.fromkeys(column for _, _, cells in rows for column in cells))
    images = tuple(column for column in columns if column.startswith(f"{_IMAGE}_") and column[6:].isdecimal())
    if images and "path" in columns:
        numbers = sorted({sum(column in cells for column in images) or 1 for _, _, cells in rows})
        raise DataError(f"{path} has entries of {first_of(numbers)} images.", fix="Give each the same number.")
    full = tuple(
        Row(number=number, place=place, cells={**dict.fromkeys(columns, ""), **cells}) for number, place, cells in rows
    )
    return TextTable(path=path, columns=columns, rows=full), images


def _cells(path: Path, place: str, entry: Mapping[str, Any]) -> dict[str, str]:
    key = next((name for name in _IMAGE_KEYS if name in entry), None)
    if key is None:
        raise DataError(f"{path}: {place} has no 'image'; it has {first_of(list(entry))}.", fix=_FIX)
    cells = {name: _text(value) for name, value in entry.items() if name != key}
    images = entry[key] if isinstance(entry[key], list) else [entry[key]]
    if not images or not all(isinstance(image, str) for image in images):
        raise DataError(f"{path}: '{key}' of {place} is no path and no list of paths.", fix=_FIX)
    if len(images) == 1:
        return {"path": images[0], **cells}
    return {**{f"{_IMAGE}_{index}": image for index, image in enumerate(images)}, **cells}


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list) and len(value) == 1:
        return _text(value[0])
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else json.dumps(value)
