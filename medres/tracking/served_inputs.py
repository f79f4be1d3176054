"""What a client sends for one scan, and how that becomes a scan, or one fixed sentence that says why it does not.

The columns follow from how the model reads scans: ``image`` or ``path``; for several sequences ``image_<name>`` or
``path_<name>`` each; for a region of interest also ``center_x_mm, center_y_mm, center_z_mm``, or ``mask`` or
``mask_path``. Where the rows of a request differ, a row has only its own columns, or leaves the others empty or null.

No sentence repeats what was sent, or what a file's header says.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medres.data.image import ScanImage
from medres.data.readers import read_scan, read_scan_bytes
from medres.data.readers.rules import MaskRules, ReadingRules
from medres.data.sample import assemble_sample
from medres.data.sources.regions import MAX_MM
from medres.errors import MedresError, UnreadableScanError
from medres.tracking.mlflow_api import ColSpec, Schema
from medres.tracking.sent_files import file_bytes
from medres.tracking.served_limits import TOO_LARGE

#: Folder below which a client may name files by `path`; without it, `path` is refused.
ROOT_VARIABLE = "MEDRES_SERVE_ROOT"

NEEDS_ONE = "Give either the column image (the bytes of a file) or the column path."
NEEDS_SEQUENCES = (
    "Give every sequence that the model reads: for each one either the column image_<name> (the bytes of a file) or "
    "the column path_<name>."
)
NEEDS_REGION = (
    "Give the region of interest: numbers in the columns center_x_mm, center_y_mm and center_z_mm (RAS, mm), or the "
    "column mask (the bytes of a file) or mask_path."
)
BAD_REGION = (
    "The region of interest cannot be cut out: its centre lies outside the scan, the mask marks nothing, or the scan "
    "does not say where its voxels lie."
)
BAD_SEQUENCES = "The sequences do not show the same space, or one of them is not a single grey image."
NO_PATHS = "This server takes no paths: send the bytes of the file in the column image."
BAD_PATH = "This path is not a readable file below the server's folder."
NOT_BASE64 = (
    "What was sent as the bytes of a file is not base64: send what `base64 FILE` prints, with or without line breaks."
)
NOT_A_SCAN = "This is not a scan that can be read: it is damaged, or of a format that is not supported."
FAILED = "This scan could not be predicted."

_CENTER = ("center_x_mm", "center_y_mm", "center_z_mm")
_SENTENCES = {
    "roi-unknown": BAD_REGION,
    "roi-outside": BAD_REGION,
    "mask-empty": BAD_REGION,
    "sequences-differ": BAD_SEQUENCES,
    "too-large": TOO_LARGE,
    "decompression-bomb": TOO_LARGE,
}

_logger = logging.getLogger(__name__)


class RefusedError(Exception):
    """A row that cannot be predicted, with the sentence for the client."""


def input_columns(rules: ReadingRules) -> dict[str, str]:
    """Return the columns that a model takes, with their MLflow types; a row fills some of them.

    Example:
        >>> list(input_columns(ReadingRules(sequences=("t1", "flair"))))
        ['image_t1', 'path_t1', 'image_flair', 'path_flair']
    """
    columns: dict[str, str] = {}
    for suffix in _suffixes(rules).values():
        columns |= {f"image{suffix}": "binary", f"path{suffix}": "string"}
    if rules.roi_size_mm is not None:
        columns |= {**dict.fromkeys(_CENTER, "double"), "mask": "binary", "mask_path": "string"}
    return columns


def input_schema(rules: ReadingRules) -> Schema:
    """Return the columns as MLflow's schema; none is required by itself, see `read_row`."""
    return Schema([ColSpec(kind, name, required=False) for name, kind in input_columns(rules).items()])


def read_row(row: Mapping[str, Any], rules: ReadingRules) -> ScanImage | str:
    """Return the scan of a row, or the sentence that says why there is none."""
    try:
        return _assembled(row, rules)
    except RefusedError as refusal:
        return str(refusal)
    except UnreadableScanError as error:
        return _SENTENCES.get(error.code, NOT_A_SCAN)
    except MedresError:
        return FAILED
    except Exception as error:  # a decoder's surprise: the client must not see it, the operator finds its kind
        _logger.error("a scan could not be read: %s", type(error).__name__)
        return NOT_A_SCAN


def allowed_path(path: str) -> Path:
    """Return the file that a client named, if it lies below ``$MEDRES_SERVE_ROOT`` after all links are followed.

    One sentence for all refusals: a client must not learn which files exist elsewhere.
    """
    root = os.environ.get(ROOT_VARIABLE)
    if not root:
        raise RefusedError(NO_PATHS)
    try:
        base = Path(root).resolve(strict=True)
        file = (base / path).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        raise RefusedError(BAD_PATH) from None
    if not file.is_relative_to(base) or not file.is_file():
        raise RefusedError(BAD_PATH)
    return file


def _suffixes(rules: ReadingRules) -> dict[str, str]:
    """Return what column names end in, by sequence; a model of one image or one sequence has plain columns."""
    return {name: f"_{name}" for name in rules.sequences} if len(rules.sequences) > 1 else {"": ""}


def _assembled(row: Mapping[str, Any], rules: ReadingRules) -> ScanImage:
    suffixes = _suffixes(rules)
    needs = NEEDS_ONE if len(suffixes) == 1 else NEEDS_SEQUENCES
    images = {name: _read(row, f"image{end}", f"path{end}", rules, needs) for name, end in suffixes.items()}
    if rules.roi_size_mm is None:
        return assemble_sample(images, rules=rules)
    center = _center(row)
    mask = _read(row, "mask", "mask_path", MaskRules(), NEEDS_REGION) if center is None else None
    return assemble_sample(images, rules=rules, center_ras_mm=center, mask=mask)


def _read(row: Mapping[str, Any], image: str, path: str, rules: ReadingRules, needs: str) -> ScanImage:
    """Read one image: its bytes or its path, and not both."""
    content, name = row.get(image), row.get(path)
    has_content = isinstance(content, (bytes, bytearray, str)) and len(content) > 0
    has_path = isinstance(name, str) and name != ""
    if has_content == has_path:
        raise RefusedError(needs)
    if isinstance(name, str) and has_path:
        return read_scan(allowed_path(name), rules=rules)
    assert isinstance(content, (bytes, bytearray, str))
    decoded = file_bytes(content)
    if decoded is None:
        raise RefusedError(NOT_BASE64)
    return read_scan_bytes(decoded, rules=rules)


def _center(row: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """Return the centre, or None where the row has none of its three numbers."""
    values = [row.get(name) for name in _CENTER]
    numbers = [float(value) for value in values if isinstance(value, (int, float)) and abs(value) <= MAX_MM]
    if not numbers and not any(isinstance(value, str) for value in values):
        return None
    if len(numbers) < len(_CENTER):
        raise RefusedError(NEEDS_REGION)
    return (numbers[0], numbers[1], numbers[2])
