"""Salted pseudonyms: what stands for samples and patients in everything that may leave the hospital."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pydantic

from medres.runs.atomic import atomic_write
from medres.runs.csv_files import write_csv
from medres.runs.documents import Document


@dataclass(frozen=True)
class Pseudonyms:
    """Stable within a run, meaningless without its salt.

    Args:
        salt: Secret of the run, kept in the run folder only.

    Example:
        >>> Pseudonyms(b"salt").patient("Doe^John") == Pseudonyms(b"salt").patient("Doe^John")
        True
        >>> Pseudonyms(b"salt").patient("Doe^John") == Pseudonyms(b"other").patient("Doe^John")
        False
    """

    salt: bytes

    def sample(self, sample_id: str) -> str:
        """Return the pseudonym of a sample, ``s-`` and 12 hexadecimal digits."""
        return "s-" + self._digest("sample", sample_id)

    def patient(self, patient_id: str) -> str:
        """Return the pseudonym of a patient, ``p-`` and 12 hexadecimal digits."""
        return "p-" + self._digest("patient", patient_id)

    def unit(self, unit_id: str) -> str:
        """Return the pseudonym of a unit of scoring, ``u-`` and 12 hexadecimal digits."""
        return "u-" + self._digest("unit", unit_id)

    def _digest(self, kind: str, value: str) -> str:
        return hmac.new(self.salt, f"{kind}:{value}".encode(), hashlib.sha256).hexdigest()[:12]


def write_mapping(path: Path, rows: Iterable[tuple[str, str, str]]) -> None:
    """Write which pseudonym stands for which id, readable by its owner only; never leaves the run folder.

    Args:
        path: The CSV.
        rows: (kind: ``sample``, ``patient`` or ``unit``; pseudonym; id); repeated rows are written once.
    """
    write_csv(path, ["kind", "pseudonym", "id"], dict.fromkeys(rows), private=True)


class _Salt(Document):
    format: int = 1
    salt: str = pydantic.Field(pattern=r"^([0-9a-f]{2})+$")


def load_pseudonyms(path: Path) -> Pseudonyms:
    """Return the pseudonyms of the salt file ``path``, which is made (mode 0600) where it is missing."""
    if not path.exists():
        salt = _Salt(salt=secrets.token_hex(16))
        with atomic_write(path, private=True) as file:
            file.write(salt.model_dump_json().encode())
    return Pseudonyms(bytes.fromhex(_Salt.read(path).salt))
