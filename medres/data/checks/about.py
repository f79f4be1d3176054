"""How a check words a finding about one scan."""

from __future__ import annotations

from medres.data.catalogue import kind_of
from medres.data.findings import Finding
from medres.data.table import Scan


def about(scan: Scan, code: str, value: str, *, fix: str = "", joined: str = " ") -> Finding:
    """Return the finding about one scan, with severity and rule of the catalogue.

    Args:
        scan: The scan.
        code: One of `medres.data.catalogue.KINDS`.
        value: What was found, without the scan's name: ``is 0 everywhere``. The name is put in front: the sample id,
            or the file where the finding stops training and is printed alone.
        fix: What to do.
        joined: What stands between name and value.
    """
    kind = kind_of(code)
    name = place_of(scan) if kind.severity == "error" else scan.sample_id
    return Finding(
        code=code, severity=kind.severity, sample_id=scan.sample_id, file=str(scan.path), rule=kind.rule,
        value=f"{name}{joined}{value}", fix=fix,
    )  # fmt: skip


def place_of(scan: Scan) -> str:
    """Return the file or folder of a scan, and which image in an archive."""
    in_archive = scan.member is not None and not scan.files
    return f"{scan.path} ({scan.member})" if in_archive else str(scan.path)
