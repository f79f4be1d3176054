"""What a user should know of a scan before trusting its prediction: whether it was trained on, what its reader decided.

How it differs from the training scans: `medres.deployment.foreign`.
"""

from __future__ import annotations

from medres.data.catalogue import KINDS, kind_of
from medres.data.image import ScanImage
from medres.deployment.bundle import Bundle


def scan_findings(image: ScanImage, bundle: Bundle) -> tuple[str, ...]:
    """Return what is known of the scan itself as ``code: sentence``, without path, name or voxel value."""
    findings = [_training_finding(image, bundle), *_reader_findings(image)]
    return tuple(finding for finding in findings if finding)


def _training_finding(image: ScanImage, bundle: Bundle) -> str:
    used = {member.manifest.fold for member in bundle.members}
    folds = [fold for fold in bundle.training_hashes.folds_with(image.content_hash) if fold in used]
    if not folds:
        return ""
    names = ", ".join(map(str, folds))
    return f"training-scan: It was in the training data of member {names}: its probability is too confident."


def _reader_findings(image: ScanImage) -> list[str]:
    """Return what the reader had to decide and a person should know.

    The catalogue's sentence, not the reader's: the answer may go to a client over the network, and a reader's sentence
    tells what stands in a header.
    """
    codes = dict.fromkeys(note.partition(":")[0] for note in image.notes)
    return [
        f"{code}: expected is that {_lowered(kind_of(code).rule)}"
        for code in codes
        if code in KINDS and kind_of(code).severity == "warning"
    ]


def _lowered(sentence: str) -> str:
    """Return a sentence to stand after other words; its first word stays if it is an abbreviation (NIfTI, CT)."""
    first = sentence.split(" ", 1)[0]
    return sentence if any(letter.isupper() for letter in first[1:]) else sentence[0].lower() + sentence[1:]
