"""Weights of another medres run: what they were trained on must not be what they are now scored on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medres.data.folds import Folding
from medres.data.table import ScanTable
from medres.data.wording import first_of
from medres.deployment.manifest import TRAINING_HASHES, SaltedHashes, TrainingHashes
from medres.errors import DataError
from medres.models.trained import find_trained
from medres.models.typed_path import existing_path


def scans_trained_before(weights: str) -> tuple[SaltedHashes, ...]:
    """Return what weights of another run were trained on, and what those were that it began from.

    Args:
        weights: As the user gave them; empty for anything but a run, a bundle or a file of one.
    """
    path = existing_path(weights)
    trained = find_trained(path) if path else None
    if trained is None or not (trained[0] / TRAINING_HASHES).is_file():
        return ()
    bundle, fold = trained
    hashes = TrainingHashes.read(bundle / TRAINING_HASHES)
    return hashes.of_member(min(hashes.members, default=0) if fold is None else fold)


def refuse_seen_scans(
    trained_before: Sequence[SaltedHashes], *, weights: str, table: ScanTable, folding: Folding
) -> None:
    """Refuse weights that were trained on scans that this run is to be scored on.

    Args:
        trained_before: Of the weights (`scans_trained_before`).
        weights: As the user gave them.
        table: With content hashes.
        folding: Who is scored.

    Raises:
        DataError: Naming some of the scans.
    """
    scored = np.unique(np.concatenate([folding.test, *(part.held_out for part in folding.folds)]))
    scans = [table.scans[int(row)] for row in scored]
    seen = [scan.sample_id for scan in scans if any(before.holds(scan.content_hash) for before in trained_before)]
    if seen:
        raise DataError(
            f"{len(seen)} of the {len(scans)} scans to be scored were in the training data of the weights "
            f"{Path(weights).name}, or of those that it began from: {first_of(seen)}. Their scores would be too good.",
            fix="Begin with other weights, leave these scans out, or keep them in the train split of a given split.",
        )
