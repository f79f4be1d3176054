"""`load_scans`: one ``--data``, its layout detected."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medres.data.readers.formats import scan_suffix
from medres.data.sources.assembly import assemble
from medres.data.sources.bids import is_bids, labels_bids, read_bids
from medres.data.sources.class_folders import read_class_folders
from medres.data.sources.data_list import LIST_NAMES, is_data_list, read_data_list
from medres.data.sources.delimited import TABLE_SUFFIXES, WORKBOOK_SUFFIXES, read_table, workbook_refused
from medres.data.sources.draft import Draft, Options
from medres.data.sources.label_table import read_label_table
from medres.data.sources.medmnist import read_medmnist
from medres.data.sources.scan_files import absolute
from medres.data.table import ScanTable
from medres.errors import DataError, NoLabelsError, UsageError

#: Names of a table that is found by itself; case does not matter.
TABLE_NAMES = ("labels.csv", "labels.tsv")

_LAYOUTS = (
    "Give a folder of class folders, a folder with labels.csv (columns path,label), such a table, a BIDS folder, "
    "a MONAI data list (.json), or a MedMNIST .npz."
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
    series: str | None = None,
    sequences: Sequence[str] = (),
    mask_column: str | None = None,
    suffix: str | None = None,
) -> ScanTable:
    """Return which scans there are, whose they are and how they are labelled. No voxel is read.

    Args:
        data: A folder with ``labels.csv`` (which wins over class folders), such a table itself, a BIDS folder, a
            folder of class folders (perhaps below ``train``, ``val``, ``test``), a MONAI data list (``.json``), or a
            MedMNIST ``.npz``. Scans are files of any format that medres reads, or DICOM studies in any folders.
        labels: Table of labels, where it is not ``labels.csv`` in ``data``; its paths are relative to ``data``.
        label_column: Its column of labels.
        patient_column: Its column of patients; None looks for patient_id, patient, subject, ...
        patient_pattern: Regular expression that finds the patient in a file's path below ``data``.
        unit_column: Its column of the unit of scoring.
        positive: The positive one of two classes; None takes the last in sorted order.
        series: Regular expression that chooses among the DICOM series of a study, searched in
            ``number description uid``.
        sequences: Columns of images that become channels, such as ``("t1", "flair")`` (in BIDS: suffixes).
        mask_column: Column of the masks of the regions of interest; None looks for ``mask``.
        suffix: In BIDS, which images are the scans, such as ``T1w``.

    Returns:
        The table. What is wrong with single rows and files is in its `findings`, all of it at once; those rows are in
        the table all the same, with the label None where the label is what is wrong.

    Raises:
        NoLabelsError: There are scans, and nothing says that they have labels.
        DataError: The data cannot be understood at all: no scans, one class, labels that are none.
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
        series=series,
        sequences=tuple(sequences),
        mask_column=mask_column,
        suffix=suffix,
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
    bids = is_bids(data)
    if table is not None and not (bids and labels_bids(read_table(table))):
        options.require_no_suffix(f"a table, {table.name},")
        return read_label_table(table, root=data, options=options, search_root=True)
    if bids:
        return read_bids(data, options, labels=table)
    options.require_no_suffix("no BIDS data set")
    listed = [path for name in LIST_NAMES if is_data_list(path := data / name)]
    if listed:
        return read_data_list(listed[0], options)
    options.require_no_columns(f"{data} (class folders)")
    return read_class_folders(data, options)


def _file_draft(data: Path, options: Options) -> Draft:
    suffix = data.suffix.lower()
    if suffix in WORKBOOK_SUFFIXES:
        raise workbook_refused(data)
    options.require_no_suffix(data.name)
    if suffix in TABLE_SUFFIXES:
        return read_label_table(data, root=data.parent, options=options, search_root=False)
    if suffix == ".json":
        return read_data_list(data, options)
    if suffix == ".npz":
        options.require_no_columns(f"{data.name} (MedMNIST)")
        if options.patient_pattern is not None:
            raise DataError("--patient-pattern needs files; a MedMNIST .npz holds images.", fix="Leave it out.")
        return read_medmnist(data)
    what = "is one scan, not a data set" if scan_suffix(data) else "is no data set that medres knows"
    raise NoLabelsError(f"{data} {what}.", fix=_LAYOUTS)


def _named_table(labels: Path) -> Path:
    if not labels.is_file():
        raise DataError(f"{labels} does not exist or is no file.", fix="Check the path given to --labels.")
    return absolute(labels)


def _table_in(folder: Path) -> Path | None:
    try:
        tables = sorted(path for path in folder.iterdir() if path.name.lower() in TABLE_NAMES and path.is_file())
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}.", fix="Check its permissions.") from error
    if not tables:
        _refuse_workbook(folder)
    if len(tables) > 1:
        names = " and ".join(path.name for path in tables)
        raise DataError(f"{folder} holds {names}.", fix="Name the one that counts with --labels.")
    return tables[0] if tables else None


def _refuse_workbook(folder: Path) -> None:
    """Refuse labels in a spreadsheet: to go on with class folders would take other labels than the user's."""
    for path in sorted(folder.iterdir()):
        if path.stem.lower() == "labels" and path.suffix.lower() in WORKBOOK_SUFFIXES:
            raise workbook_refused(path)
