"""The kinds of findings: stable code, severity, the rule. ``docs/reference/findings.md`` explains each one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "info"]


class Kind(NamedTuple):
    """One kind of finding.

    Args:
        severity: ``error``: training is refused; ``warning``: a person should look; ``info``: good to know.
        rule: What should hold, as a sentence.
    """

    severity: Severity
    rule: str


_READING: Mapping[str, Kind] = {
    "unreadable": Kind("error", "Every scan can be read."),
    "file-missing": Kind("error", "Every file that is named exists."),
    "file-refused": Kind("error", "The operating system lets every file be read."),
    "empty-file": Kind("error", "A file holds something."),
    "unknown-format": Kind("error", "A file is a scan in a format that medres reads."),
    "no-pixels": Kind("error", "A DICOM file of a scan holds pixels."),
    "missing-decoder": Kind("error", "The decoder of a compressed DICOM file is installed."),
    "truncated": Kind("error", "A file is whole."),
    "damaged": Kind("error", "A file's checksums agree and its content can be decoded."),
    "header-damaged": Kind("error", "A header holds values that can be."),
    "too-large": Kind("error", "A scan fits into memory, by what its header claims."),
    "decompression-bomb": Kind("error", "A file unpacks to a scan, not to a flood of one value."),
    "not-finite": Kind("error", "Voxels are finite numbers."),
    "not-numbers": Kind("error", "Voxels are real numbers."),
    "no-voxels": Kind("error", "Every axis of a scan has voxels."),
    "several-volumes": Kind("error", "A scan is one volume; time and directions are no channels."),
    "mosaic": Kind("error", "A scan is a volume, not a mosaic of its slices."),
    "sheared-affine": Kind("error", "The axes of a scan stand at right angles."),
    "singular-affine": Kind("error", "A scan's affine has three different axes of a plausible length."),
    "several-patients": Kind("error", "The files of one scan are of one patient."),
    "several-series": Kind("error", "Which series of a study is the scan is clear."),
    "no-series": Kind("error", "A study holds a series that is a scan."),
    "gantry-tilt-refused": Kind("error", "The gantry was not tilted (--gantry-tilt refuse)."),
    "uneven-slices-refused": Kind("error", "Slices lie at one distance (--uneven-slices refuse)."),
    "slices-contradict": Kind("error", "No two slices that differ lie at one place."),
    "sequences-differ": Kind("error", "The sequences of one scan show the same space."),
    "sequence-missing": Kind("error", "A scan has every sequence that is read as a channel."),
    "reading-unclear": Kind("error", "Channels and region of interest of the scans are clear."),
    "roi-unknown": Kind("error", "Each scan says where its region of interest lies."),
    "roi-outside": Kind("error", "The region of interest lies in its scan."),
    "mask-empty": Kind("error", "A mask marks something."),
}

#: What readers have to decide or find odd: `medres.data.image.ScanImage.notes`.
_NOTES: Mapping[str, Kind] = {
    "orientation-unknown": Kind("warning", "A volume says how it lies in the patient."),
    "sform-qform-differ": Kind("warning", "The two placements of a NIfTI header agree."),
    "qform-damaged": Kind("warning", "The qform of a NIfTI header can be used."),
    "depth-reduced": Kind("warning", "Grey values are kept with all their bits."),
    "units": Kind("info", "Lengths are given in millimetres."),
    "transparency-ignored": Kind("info", "Images are not transparent."),
    "tint-ignored": Kind("info", "Grey images are stored as grey."),
    "origin-unknown": Kind("warning", "A volume says where it lies."),
    "first-frame": Kind("warning", "An image file holds one image."),
    "volume-chosen": Kind("info", "A scan is one volume; the one that was asked for was taken."),
    "spacing-odd": Kind("warning", "A header's spacing is a positive number in each place that it stands."),
    "scale-odd": Kind("warning", "Scale factors in a header are numbers."),
    "series-chosen": Kind("info", "A study holds one series, or the rule for choosing is unambiguous."),
    "series-divided": Kind("warning", "The images of one series share orientation, matrix and pixel spacing."),
    "gantry-tilt-corrected": Kind("warning", "The gantry was not tilted."),
    "gantry-tilt-doubt": Kind("warning", "The header and the positions of the slices agree about the gantry tilt."),
    "grey-inverted": Kind("info", "High grey values are bright (MONOCHROME2)."),
    "uneven-slices": Kind("warning", "Slices lie at one distance."),
    "missing-slices": Kind("warning", "No slice of a series is missing."),
    "duplicate-slices": Kind("warning", "Every slice is there once."),
    "modality-lut": Kind("info", "Values follow from stored ones by a slope and an intercept."),
    "modality-lut-doubt": Kind("warning", "A header holds a Modality LUT or rescale factors, not both."),
    "padding-doubt": Kind("warning", "The padding value of a header is no value of the tissue."),
    "rescale-unusual": Kind("info", "Slices of one series share their rescale factors."),
    "resampled-sequences": Kind("info", "The sequences of one scan lie on one grid."),
    "sequences-unplaced": Kind("warning", "Every sequence says how it lies in the patient."),
    "sequences-overlap": Kind("warning", "The sequences of one scan show the same part of the body."),
    "mask-unplaced": Kind("warning", "A mask says how it lies in the patient."),
    "mask-elsewhere": Kind("warning", "A mask with the shape of its scan lies where the scan lies."),
    "roi-padded": Kind("info", "A region of interest lies wholly in its scan."),
    "burned-in": Kind("warning", "No text of the patient is burned into the pixels."),
    "faces": Kind("warning", "Head scans that leave the hospital have no faces."),
    "not-deidentified": Kind("info", "The header says that the patient's identity was removed."),
}

_CONTENT: Mapping[str, Kind] = {
    "constant": Kind("error", "A scan shows something."),
    "nearly-empty": Kind("warning", "A scan shows more than a few voxels."),
    "mixed-dimensions": Kind("error", "All scans are images or all are volumes."),
    "modality-unclear": Kind("warning", "What a scan was made with follows from its header or its values."),
    "mixed-modality": Kind("warning", "All scans are of one modality."),
    "mixed-color": Kind("warning", "Scans are grey: colour is a screenshot, an overlay or a compression artefact."),
    "spacing-implausible": Kind("error", "Voxels of a scan of the body are between 0.01 and 20 mm."),
    "spacing-unknown": Kind("warning", "A volume says how large its voxels are."),
    "spacing-outlier": Kind("warning", "Voxels are about as large as those of the other scans."),
    "size-outlier": Kind("warning", "A scan is about as large as the others."),
    "intensity-outlier": Kind("warning", "A scan's values are like those of the others."),
    "texture-outlier": Kind("warning", "Neighbouring voxels of a scan differ about as much as those of the others."),
    "coverage-outlier": Kind(
        "warning", "A scan shows about as much of a body, of air and of each tissue as the others."
    ),
    "not-hounsfield": Kind("warning", "The values of a CT are Hounsfield units."),
    "content-changed": Kind("error", "A scan's voxels are those that were recorded."),
    "not-recorded": Kind("info", "Every scan is in the manifest (--manifest)."),
    "recorded-gone": Kind("warning", "Every scan of the manifest (--manifest) is there."),
}

_LABELS: Mapping[str, Kind] = {
    "label-missing": Kind("error", "Every scan has a label."),
    "label-conflict": Kind("error", "A scan has one label."),
    "label-lookalike": Kind("error", "Labels differ by more than case, blanks and characters that cannot be seen."),
    "label-placeholder": Kind("warning", "A label is a class, no word for a missing value."),
    "participant-without-scan": Kind("warning", "Every participant of a BIDS data set has a scan."),
    "file-not-listed": Kind("warning", "Every scan file is listed in the table of labels."),
    "mask-among-scans": Kind("warning", "Every file among the scans is a scan, not the mask of one."),
    "file-repeated": Kind("warning", "A file is listed once."),
    "rows-contradict": Kind("error", "Rows about one scan name one patient and one split."),
    "patient-missing": Kind("error", "Every scan has a patient id, or none has."),
    "patient-two-labels": Kind("info", "A patient has one label (two are legal: lesions, follow-ups)."),
    "patient-placeholder": Kind("error", "A patient id is that of one person, no word for a missing value."),
    "id-lookalike": Kind("error", "Patient ids differ by more than leading zeros, case, blanks and the like."),
    "unit-lookalike": Kind("error", "Ids of units differ by more than leading zeros, case, blanks and the like."),
    "unit-placeholder": Kind("error", "The id of a unit is no word for a missing value."),
    "patient-mismatch": Kind("warning", "The table and the DICOM header name the same patient."),
    "patient-shared": Kind("warning", "Patient ids in DICOM headers tell patients apart."),
    "id-rounded": Kind("error", "Patient ids have all their digits."),
    "name-not-text": Kind("error", "Names of files and folders are text (UTF-8)."),
    "few-patients": Kind("warning", "The data can be divided as medres finetune does by default."),
    "too-few-patients": Kind("error", "The data can be divided into folds."),
}

_LEAKAGE: Mapping[str, Kind] = {
    "patient-across-splits": Kind("error", "A patient is on one side of the given splits."),
    "identical-scans": Kind("warning", "Every scan is there once."),
    "identical-across-splits": Kind("warning", "No scan is on two sides of the given splits."),
    "near-duplicates": Kind("warning", "No scan is a rescaled, re-encoded or flipped copy of another."),
    "near-duplicates-across-splits": Kind("warning", "No scan has a near copy on the other side of a given split."),
    "contradicting-labels": Kind("warning", "Scans with the same voxels have the same label."),
}

_PREDICTION: Mapping[str, Kind] = {
    "training-scan": Kind("warning", "A scan that is predicted was not in the training data."),
    "decision-withheld": Kind("warning", "A scan that is decided about is like those of the training data."),
}

#: All kinds, by code.
KINDS: dict[str, Kind] = {**_READING, **_NOTES, **_CONTENT, **_LABELS, **_LEAKAGE, **_PREDICTION}


def kind_of(code: str) -> Kind:
    """Return the kind of a code.

    Example:
        >>> kind_of("truncated").severity
        'error'
    """
    return KINDS[code]
