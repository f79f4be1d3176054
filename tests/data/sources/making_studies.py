"""Folders of small DICOM studies, and what a table of labels says of them."""

from __future__ import annotations

from pathlib import Path

from tests.data.readers.dicom.making import stack, write_series


def write_study(
    folder: Path, patient: str, *, study: str = "", series: str = "s1", slices: int = 3, name: str = "IM", **tags
) -> list[Path]:
    """Write one series; uids are made of the patient and the names given, so that two calls with the same are one."""
    study_uid = f"1.2.{_number(patient)}.{_number(study or 'first')}"
    given = {
        "PatientID": patient,
        "StudyInstanceUID": study_uid,
        "SeriesInstanceUID": f"{study_uid}.{_number(series)}",
        "SeriesDescription": series,
        **tags,
    }
    seed = _number(patient + study + series)
    return write_series(folder, stack(slices, (6, 8), seed=seed), name=name, **given)


def without_suffix(paths: list[Path]) -> None:
    """Rename files as scanners name them: no suffix."""
    for path in paths:
        path.rename(path.with_suffix(""))


def _number(text: str) -> int:
    return int.from_bytes(text.encode()[:6], "big")
