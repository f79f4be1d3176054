"""Weights of another medres run: what they were trained on must not be what they are now scored on."""

from __future__ import annotations

import numpy as np

from medres.data.folds import Folding
from medres.data.table import ScanTable
from medres.data.wording import first_of
from medres.deployment.manifest import TRAINING_HASHES, TrainingHashes
from medres.errors import DataError
from medres.models.trained import find_trained
from medres.models.typed_path import existing_path


def refuse_seen_scans(weights: str, table: ScanTable, folding: Folding) -> None:
    """Refuse weights that were trained on scans that this run is to be scored on.

    Args:
        weights: As the user gave them; anything but a run, a bundle or a file of one passes.
        table: With content hashes.
        folding: Who is scored.

    Raises:
        DataError: Naming some of the scans.
    """
    path = existing_path(weights)
    trained = find_trained(path) if path else None
    if path is None or trained is None or not (trained[0] / TRAINING_HASHES).is_file():
        return
    bundle, fold = trained
    hashes = TrainingHashes.read(bundle / TRAINING_HASHES)
    member = min(hashes.members, default=0) if fold is None else fold
    scored = np.unique(np.concatenate([folding.test, *(part.held_out for part in folding.folds)]))
    scans = [table.scans[int(row)] for row in scored]
    seen = [scan.sample_id for scan in scans if member in hashes.folds_with(scan.content_hash)]
    if seen:
        raise DataError(
            f"{len(seen)} of the {len(scans)} scans to be scored were in the training data of the weights {path.name}: "
            f"{first_of(seen)}. Their scores would be too good.",
            fix="Begin with other weights, leave these scans out, or keep them in the train split of a given split.",
        )
