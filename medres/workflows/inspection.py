"""`inspect`: the check of a data set, before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from medres.config import DataConfig
from medres.data.checks.recorded import read_record
from medres.data.exclusion import without_known
from medres.data.findings import Finding
from medres.data.readers.rules import ReadingRules
from medres.data.sources import list_scans
from medres.data.sources.problems import found
from medres.data.survey import Survey, survey_scans
from medres.data.table import ScanTable
from medres.data.wording import counted
from medres.errors import DataError, NoLabelsError, PlanError
from medres.planning.reading import choose_reading
from medres.reporting.inspection import Inspection
from medres.reporting.inspection_page import render_inspection
from medres.reporting.pages import write_page
from medres.runs.atomic import require_place
from medres.runs.host import independent_of_host
from medres.runs.progress import Progress, Silent
from medres.workflows.scans import divided, load_table

# who gives one of these has labels: that there are none is then refused
_ABOUT_LABELS = (
    "labels", "label_column", "patient_column", "patient_pattern", "unit_column", "positive", "mask_column", "suffix",
)  # fmt: skip


def inspect(data: str | Path, **options: Any) -> Inspection:
    """Check a data set: readable, plausible, labelled, free of leaks. Nothing is written unless ``html`` is given.

    Args:
        data: What ``medres finetune --data`` takes; or files without labels.
        **options: Those of `medres.config.DataConfig`, ``html`` (a page to write), ``manifest`` (the ``scans.csv`` of
            an earlier run) and ``progress``.

    Raises:
        MedresError: The data cannot be understood at all; findings are returned, not raised.
    """
    own = {key: options.pop(key) for key in ("html", "manifest", "progress") if key in options}
    return run_inspect(DataConfig.build(data=data, **options), **own)


@independent_of_host()
def run_inspect(
    config: DataConfig,
    *,
    html: str | Path | None = None,
    manifest: str | Path | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """Do what ``medres inspect`` does.

    Args:
        config: Which scans, and how files become scans.
        html: Page to write, with pictures. Local only: it names files and patients.
        manifest: ``scans.csv`` of an earlier run, whose voxels are compared.
        progress: Shows how far it is.

    Raises:
        DataError: The data cannot be understood, or what is left out leaves nothing.
        UsageError: Options contradict each other, or a code of a finding does not exist.
        OutputError: The page cannot be written.
    """
    progress = progress or Silent()
    if html is not None:
        require_place(Path(html), option="--html")
    record = read_record(Path(manifest)) if manifest is not None else None
    table = read_table(config)
    progress.note(f"data: {len(table)} scans from {table.source}")
    rules, table = _rules(config, table, progress)
    survey = survey_scans(
        table, progress=progress, rules=rules, memory_bytes=0, refuse=False,
        exclude=config.exclude_findings, record=record, thumbnails=html is not None,
        group_near=config.near_duplicates == "group",
    )  # fmt: skip
    survey = replace(survey, findings=(*survey.findings, *_cannot_be_trained_on(survey)))
    inspection = Inspection(survey=survey)
    if html is None:
        return inspection
    return replace(inspection, page=write_page(Path(html), render_inspection(inspection)))


def _cannot_be_trained_on(survey: Survey) -> tuple[Finding, ...]:
    """Return a finding where ``medres finetune`` refuses the data though no scan is wrong: as a whole it does not do.

    A warning where another number of folds than the default would do.
    """
    told = any(finding.severity == "error" for finding in survey.findings)
    if told or not survey.table.classes:
        return ()
    problems = []
    for num_folds in (None, 2):
        try:
            divided(survey, num_folds=num_folds, seed=0)
        except DataError as error:
            problems.append(error)
        else:
            break
    if not problems:
        return ()
    code = "too-few-patients" if len(problems) == 2 else "few-patients"
    return (found(code, problems[0].problem, fix=problems[0].fix),)


def _rules(config: DataConfig, table: ScanTable, progress: Progress) -> tuple[ReadingRules, ScanTable]:
    """Return how ``medres finetune`` would read the scans; where it would refuse to, a finding says so."""
    known = without_known(table, config.exclude_findings)
    try:
        return choose_reading(known, rules=config.reading_rules(), progress=progress).value, table
    except (DataError, PlanError) as error:
        finding = found("reading-unclear", error.problem, fix=error.fix)
        return config.reading_rules(), replace(table, findings=(*table.findings, finding))


def read_table(config: DataConfig) -> ScanTable:
    """Return the scans with their labels; without, where nothing says that they have some and none were asked for.

    What the labels are, and whether there are any, the sources decide, for ``medres finetune`` as well.

    Raises:
        DataError: The data cannot be understood.
    """
    try:
        table = load_table(config)
    except NoLabelsError as error:
        if _asks_for_labels(config):
            raise
        return _unlabelled(config, error)
    if _asks_for_labels(config) or not _folders_are_patients(table):
        return table
    return _unlabelled(config, DataError(f"each of {counted(len(table.classes), 'folder')} holds one patient."))


def _folders_are_patients(table: ScanTable) -> bool:
    """Return whether no class has two patients: then the folders are those of an archive, and nothing says a label."""
    if table.splits or not table.source.startswith("class folders"):
        return False
    patients = {(scan.label, scan.patient_id) for scan in table}
    return len(table.classes) > 1 and len(patients) == len(table.classes)


def _unlabelled(config: DataConfig, reason: DataError) -> ScanTable:
    try:
        table = list_scans([config.data], series=config.series, sequences=config.sequences)
    except DataError:
        raise reason from None
    return replace(table, notes=(*table.notes, f"without labels: {reason.problem}"))


def _asks_for_labels(config: DataConfig) -> bool:
    """Return whether an option is given that scans without labels have no use for."""
    return any(getattr(config, key) != DataConfig.model_fields[key].default for key in _ABOUT_LABELS)
