"""`load_scans`: one ``--data``, its layout detected."""

from __future__ import annotations

from pathlib import Path

from medres.data.readers.formats import scan_suffix
from medres.data.sources.assembly import assemble
from medres.data.sources.class_folders import read_class_folders
from medres.data.sources.delimited import TABLE_SUFFIXES
from medres.data.sources.draft import Draft, Options
from medres.data.sources.label_table import read_label_table
from medres.data.sources.medmnist import read_medmnist
from medres.data.sources.scan_files import absolute
from medres.data.table import ScanTable
from medres.errors import DataError, UsageError

#: Names of a table that is found by itself; case does not matter.
TABLE_NAMES = ("labels.csv", "labels.tsv")

_LAYOUTS = (
    "Give a folder of class folders, a folder with labels.csv (columns path,label), such a table, or a MedMNIST .npz."
)


def load_scans(
    data: Path,
    *,
    labels: Path | None = None,
    label_column: str = "label",
    patient_column: str | None = None,
    patient_pattern: str | None = None,
    unit_column: str | None = None,
    positive: str | None = None,
) -> ScanTable:
    """Return which scans there are, whose they are and how they are labelled. No voxel is read.

    Args:
        data: A folder with ``labels.csv`` (which wins over class folders), such a table itself, a folder of class
            folders (perhaps below ``train``, ``val``, ``test``), or a MedMNIST ``.npz``.
        labels: Table of labels, where it is not ``labels.csv`` in ``data``; its paths are relative to ``data``.
        label_column: Its column of labels.
        patient_column: Its column of patients; None looks for patient_id, patient, subject, ...
        patient_pattern: Regular expression that finds the patient in a file's path below ``data``.
        unit_column: Its column of the unit of scoring.
        positive: The positive one of two classes; None takes the last in sorted order.

    Raises:
        DataError: The data cannot be understood or contradicts itself.
        UsageError: Options contradict each other.

    Example:
        >>> import tempfile; from PIL import Image
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("benign/1.png", "malignant/2.png"):
        ...     (folder / name).parent.mkdir(); Image.new("L", (8, 8)).save(folder / name)
        >>> table = load_scans(folder)
        >>> table.source, table.classes, [scan.sample_id for scan in table]
        ('class folders', ('benign', 'malignant'), ['benign/1', 'malignant/2'])
    """
    options = Options(
        label_column=label_column,
        patient_column=patient_column,
        patient_pattern=patient_pattern,
        unit_column=unit_column,
        positive=positive,
    )
    return assemble(_draft(absolute(Path(data)), labels, options), options)


def _draft(data: Path, labels: Path | None, options: Options) -> Draft:
    if not data.exists():
        raise DataError(f"{data} does not exist.", fix="Check the path given to --data.")
    if data.is_dir():
        return _folder_draft(data, labels, options)
    if labels is not None:
        raise UsageError(f"--labels {labels} needs a folder as --data; {data} is a file.", fix="Give the folder.")
    return _file_draft(data, options)


def _folder_draft(data: Path, labels: Path | None, options: Options) -> Draft:
    table = _named_table(Path(labels)) if labels is not None else _table_in(data)
    if table is not None:
        return read_label_table(table, root=data, options=options, search_root=True)
    options.require_no_columns(f"{data} (class folders)")
    return read_class_folders(data)


def _file_draft(data: Path, options: Options) -> Draft:
    suffix = data.suffix.lower()
    if suffix in TABLE_SUFFIXES:
        return read_label_table(data, root=data.parent, options=options, search_root=False)
    if suffix == ".npz":
        options.require_no_columns(f"{data.name} (MedMNIST)")
        if options.patient_pattern is not None:
            raise DataError("--patient-pattern needs files; a MedMNIST .npz holds images.", fix="Leave it out.")
        return read_medmnist(data)
    what = "is one scan, not a data set" if scan_suffix(data) else "is no data set that medres knows"
    raise DataError(f"{data} {what}.", fix=_LAYOUTS)


def _named_table(labels: Path) -> Path:
    if not labels.is_file():
        raise DataError(f"{labels} does not exist or is no file.", fix="Check the path given to --labels.")
    return absolute(labels)


def _table_in(folder: Path) -> Path | None:
    try:
        tables = sorted(path for path in folder.iterdir() if path.name.lower() in TABLE_NAMES and path.is_file())
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}.", fix="Check its permissions.") from error
    if len(tables) > 1:
        names = " and ".join(path.name for path in tables)
        raise DataError(f"{folder} holds {names}.", fix="Name the one that counts with --labels.")
    return tables[0] if tables else None
