"""Documents that people read and edit: frozen pydantic models kept as YAML or JSON files.

Unknown keys, wrong types and values out of range are refused with the path of the key, all of them at once.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Self

import pydantic
import yaml

from medres.errors import ConfigError
from medres.runs.atomic import atomic_write_json, atomic_write_text


class Document(pydantic.BaseModel):
    """A frozen value that travels through a file.

    Example:
        >>> class Window(Document):
        ...     low_hu: float
        ...     high_hu: float
        >>> Window.from_mapping({"low_hu": -1000, "high_hu": 400}).high_hu
        400.0
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    @classmethod
    def from_mapping(cls, values: Any, *, source: str = "") -> Self:
        """Validate ``values``; ``source`` names their file in the error message.

        Raises:
            ConfigError: Naming every key that is unknown, missing or out of range.
        """
        try:
            return cls.model_validate(values)
        except pydantic.ValidationError as error:
            raise ConfigError(*_explain(error, source or cls.__name__)) from None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a YAML or JSON document (JSON is YAML).

        Raises:
            ConfigError: The file is missing, is not YAML, or does not hold a valid document.
        """
        return cls.from_mapping(read_yaml(path), source=str(path))

    def to_mapping(self) -> dict[str, Any]:
        """Return plain dictionaries, lists, text and numbers."""
        return self.model_dump(mode="json")

    def write_yaml(self, path: Path, *, header: str = "") -> None:
        """Write as YAML, in the order of the fields, below ``header`` as a comment."""
        comment = "".join(f"# {line}\n" for line in header.splitlines())
        text = yaml.safe_dump(self.to_mapping(), sort_keys=False, allow_unicode=True, width=110)
        atomic_write_text(path, comment + text)

    def write_json(self, path: Path) -> None:
        """Write as JSON."""
        atomic_write_json(path, self.to_mapping())

    def digest(self) -> str:
        """Return the SHA-256 of the content, independent of the order of keys and of the file's layout."""
        return digest_of(self.to_mapping())


def digest_of(values: Any) -> str:
    """Return the SHA-256 of plain values, independent of the order of dictionary keys."""
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_yaml(path: Path) -> Any:
    """Read YAML data (never Python objects).

    Raises:
        ConfigError: The file is missing or is not YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist.", fix="Check the path.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}.", fix="Mend the line it names.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", fix="Check the path.") from None


def _explain(error: pydantic.ValidationError, source: str) -> tuple[str]:
    lines = []
    for item in error.errors():
        # a list whose items are at fault counts as empty, too: that is not said of it
        if item["type"] == "too_short" and any(len(other["loc"]) > len(item["loc"]) for other in error.errors()):
            continue
        key = ".".join(str(part) for part in item["loc"]) or "(whole document)"
        # a rule between keys names their values itself
        silent = item["type"] in ("missing", "extra_forbidden") or isinstance(item["input"], dict)
        given = "" if silent else f"; got {item['input']!r}"
        reason = _REASONS.get(item["type"], item["msg"].removeprefix("Value error, "))
        lines.append(f"{key}: {reason}{given}.")
    return (f"{source} is not valid. " + " ".join(lines),)


_REASONS = {"extra_forbidden": "unknown key (misspelt?)", "missing": "is required"}
