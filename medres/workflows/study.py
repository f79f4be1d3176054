"""The data of a run: read, checked, divided and described, before anything is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from medres.config import FinetuneConfig
from medres.data.exclusion import without_known
from medres.data.findings import write_findings
from medres.data.folds import Folding, make_folds
from medres.data.readers.rules import ReadingRules
from medres.data.survey import Survey, survey_scans
from medres.data.table import ScanTable
from medres.errors import UsageError
from medres.finetuning.predictions import unit_of, write_folds
from medres.planning.choice import Choice
from medres.planning.fingerprint import Fingerprint
from medres.planning.plan import Plan
from medres.planning.reading import choose_reading
from medres.runs.documents import digest_of
from medres.runs.folder import RunFolder
from medres.runs.printable import one_line
from medres.runs.progress import Progress
from medres.runs.pseudonyms import Pseudonyms, write_mapping
from medres.workflows.preflight import check_table
from medres.workflows.scans import divided, load_table

#: Sources that are named after their kind; a label table is named after its file, and file names stay here.
_KINDS_OF_SOURCE = frozenset(
    {"class folders", "class folders of DICOM studies", "BIDS", "MONAI data list", "MedMNIST .npz"}
)


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a run works on.

    Args:
        table: All scans, with their content hashes.
        folding: Who trains and who is scored.
        survey: Statistics and findings, and images that are still in memory.
        fingerprint: Of the training rows; test rows are never seen by it.
        reading: How files become scans, and why.
    """

    table: ScanTable
    folding: Folding
    survey: Survey
    fingerprint: Fingerprint
    reading: Choice[ReadingRules]


def read_study(config: FinetuneConfig, progress: Progress) -> Study:
    """Read the labels, then every scan once, and divide the scans into folds."""
    table = load_table(config)
    _say_what_was_understood(table, progress)
    check_table(config, table)
    if not config.exclude_findings and not any(finding.severity == "error" for finding in table.findings):
        make_folds(table, num_folds=config.folds, seed=config.seed)  # refuse what cannot be divided before reading it
    reading = _reading(config, table, progress)
    survey = survey_scans(
        table, progress=progress, rules=reading.value, remember=config.survey_memory,
        exclude=config.exclude_findings, group_near=config.near_duplicates == "group",
    )  # fmt: skip
    folding, fingerprint = divided(survey, num_folds=config.folds, seed=config.seed)
    study = Study(table=survey.table, folding=folding, survey=survey, fingerprint=fingerprint, reading=reading)
    for note in (*folding.notes, *survey.notes()):
        progress.note(note)
    return study


def _reading(config: FinetuneConfig, table: ScanTable, progress: Progress) -> Choice[ReadingRules]:
    """Return how files become scans: as the plan says that was given, or as the data asks for."""
    asked = config.reading_rules()
    if config.plan is None:
        # a scan that is left out for a sequence that its row lacks must not decide for the others
        return choose_reading(without_known(table, config.exclude_findings), rules=asked, progress=progress)
    planned = Plan.read(config.plan).reading
    contradicting = [
        key for key, value in asked if value != getattr(planned, key) and value != getattr(ReadingRules(), key)
    ]
    if contradicting:
        raise UsageError(
            f"{config.plan} says otherwise than the options: {', '.join(contradicting)}.",
            fix="Change `reading` in the plan, or leave these options out.",
        )
    return Choice(planned, "As the given plan says.")


def _say_what_was_understood(table: ScanTable, progress: Progress) -> None:
    counts = ", ".join(f"{label} {count}" for label, count in table.class_counts().items())
    progress.note(one_line(f"data: {len(table)} scans of {table.num_patients} patients from {table.source}; {counts}"))
    if len(table.classes) == 2:
        progress.note(one_line(f"positive class: {table.classes[-1]} (--positive chooses the other)"))
    for note in table.notes:
        progress.note(one_line(note))


def write_study(study: Study, folder: RunFolder) -> None:
    """Write the scan table, the findings, the fingerprint, the folds and who is behind the pseudonyms."""
    study.table.write_csv(folder.scans)
    write_findings(folder.findings, study.survey.findings, excluded=study.survey.excluded)
    study.fingerprint.write_json(folder.fingerprint)
    write_folds(folder.folds, study.table, list(_fold_rows(study.folding)), folder.pseudonyms())
    write_mapping(folder.mapping, _identities(study.table, folder.pseudonyms()))


def _identities(table: ScanTable, pseudonyms: Pseudonyms) -> Iterator[tuple[str, str, str]]:
    for scan in table:
        yield "sample", pseudonyms.sample(scan.sample_id), scan.sample_id
        yield "patient", pseudonyms.patient(scan.patient_id), scan.patient_id
        if scan.unit is not None:
            yield "unit", pseudonyms.unit(scan.unit), scan.unit


def data_event(study: Study, pseudonyms: Pseudonyms) -> dict[str, Any]:
    """Return the fields of the event ``data``: counts and a digest, no id and no path."""
    table = study.table
    return {
        "digest": data_digest(table),
        "num_scans": len(table),
        "num_patients": table.num_patients,
        "num_units": len({unit_of(scan, pseudonyms) for scan in table}),
        "classes": table.class_counts(),
        "source": table.source if table.source in _KINDS_OF_SOURCE else "label table",
        "unit": table.unit_column or "scan",
        "split": study.folding.kind,
        "findings": dict(Counter(finding.code for finding in study.survey.findings)),
        "excluded": {code: len(samples) for code, samples in study.survey.excluded.items()},
    }


def data_digest(table: ScanTable) -> str:
    """Return what identifies the data: content and label of every scan, 32 hexadecimal digits (MLflow takes 36)."""
    return digest_of(sorted([scan.content_hash, scan.label or "", scan.split or ""] for scan in table))[:32]


def _fold_rows(folding: Folding) -> Iterator[tuple[int, str, int]]:
    for fold in folding.folds:
        for part, rows in (("train", fold.train), ("val", fold.val), ("held-out", fold.held_out)):
            yield from ((fold.index, part, int(row)) for row in rows)
        yield from ((fold.index, "test", int(row)) for row in folding.test)
