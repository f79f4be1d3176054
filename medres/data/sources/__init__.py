"""Sources: where scans and labels come from. The layout is detected from one ``--data``.

- a folder with ``labels.csv``, or the table itself (`label_table`; with a path column, or joined in `joining`),
- a folder of class folders, or of ``train``/``val``/``test`` folders of class folders (`class_folders`),
- a MedMNIST ``.npz`` (`medmnist`),
- any files or folders without labels, for prediction (`unlabelled`).
"""

from __future__ import annotations

from medres.data.sources.loading import load_scans
from medres.data.sources.unlabelled import list_scans

__all__ = ["list_scans", "load_scans"]
