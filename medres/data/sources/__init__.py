"""Sources: where scans and labels come from. The layout is detected from one ``--data``.

- a folder with ``labels.csv``, or the table itself (`label_table`; with a path column, or joined in `joining`),
- a BIDS folder (`bids`),
- a MONAI data list (`data_list`),
- a folder of class folders, or of ``train``/``val``/``test`` folders of class folders (`class_folders`),
- a MedMNIST ``.npz`` (`medmnist`),
- any files or folders without labels (`unlabelled`; for prediction, in the order in which they are given: `as_given`).

DICOM files become one scan a study, in whatever folders they lie (`studies`). What is wrong with single rows and files
is a finding of the table, so that one report shows all of it; only what makes the data meaningless is raised.
"""

from __future__ import annotations

from medres.data.sources.as_given import GivenScan, scans_as_given
from medres.data.sources.loading import load_scans
from medres.data.sources.unlabelled import list_scans

__all__ = ["GivenScan", "list_scans", "load_scans", "scans_as_given"]
