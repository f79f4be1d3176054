"""Documents that people read and edit: frozen pydantic models kept as YAML or JSON files.

Unknown keys, wrong types and values out of range are refused with the path of the key, all of them at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self

import pydantic
import yaml

from medres.errors import ConfigError
from medres.runs.atomic import atomic_write_json, atomic_write_text
from medres.runs.plain_data import MAX_DEPTH, PlainDataError, read_json, read_yaml_file, shortened


def _no_switch(value: Any) -> Any:
    """Refuse true and false, which Python takes for 1 and 0, as a number."""
    if isinstance(value, bool):
        raise ValueError(f"must be a number, and {str(value).lower()} is a switch")
    return value


#: Numbers of documents. Each field says its least and its largest, so that none is too large for what is done with it.
WholeNumber = Annotated[int, pydantic.BeforeValidator(_no_switch)]
Number = Annotated[float, pydantic.Field(allow_inf_nan=False), pydantic.BeforeValidator(_no_switch)]


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
        source = source or cls.__name__
        try:
            document = cls.model_validate(values)
        except pydantic.ValidationError as error:
            raise ConfigError(*_explain(error, source)) from None
        except RecursionError:
            raise ConfigError(f"{source} is not valid. It is nested deeper than {MAX_DEPTH} levels.") from None
        if faults := list(_beyond_meaning(values)):
            raise ConfigError(f"{source} is not valid. {' '.join(faults)}")
        return document

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a document: JSON where the file's name ends so, else YAML.

        Raises:
            ConfigError: The file is missing, is neither, or does not hold a valid document.
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
    """Read YAML (never Python objects), or JSON where the file's name ends so.

    Raises:
        ConfigError: The file is missing, is neither, or goes beyond the limits of `medres.runs.plain_data`.
    """
    is_json = path.suffix.lower() == ".json"
    try:
        return read_json(path) if is_json else read_yaml_file(path)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist.", fix="Check the path.") from None
    except PlainDataError as error:
        kind, fix = ("JSON", "Mend it.") if is_json else ("YAML", "Mend the line it names.")
        raise ConfigError(f"{path} is not valid {kind}: {error}.", fix=fix) from None
    except OSError as error:
        raise ConfigError(f"{shortened(str(path))} cannot be read: {error.strerror}.", fix="Check the path.") from None
    except ValueError:  # a NUL
        raise ConfigError(f"{str(path)!r} cannot be a path.", fix="Check the path.") from None


def _beyond_meaning(values: Any, key: str = "", depth: int = 0) -> Iterator[str]:
    """Yield what no key may hold: whole numbers that 64 bits do not, NUL characters, nesting without end."""
    if depth > MAX_DEPTH:
        yield f"{shortened(key)}: is nested deeper than {MAX_DEPTH} levels."
    elif isinstance(values, (dict, list, tuple)):
        inner = values.items() if isinstance(values, dict) else enumerate(values)
        for name, value in inner:
            yield from _beyond_meaning(value, f"{key}.{name}".lstrip("."), depth + 1)
    elif isinstance(values, int) and not -(2**63) <= values < 2**63:
        yield f"{key or 'it'}: must be a number that 64 bits hold; got {shortened(values)}."
    elif isinstance(values, (str, Path)) and "\0" in str(values):
        yield f"{key or 'it'}: must not hold a NUL character; got {shortened(repr(str(values)))}."


def _explain(error: pydantic.ValidationError, source: str) -> tuple[str]:
    lines = []
    for item in error.errors():
        # a list whose items are at fault counts as empty, too: that is not said of it
        if item["type"] == "too_short" and any(len(other["loc"]) > len(item["loc"]) for other in error.errors()):
            continue
        key = ".".join(shortened(str(part)) for part in item["loc"]) or "(whole document)"
        # a rule between keys names their values itself
        silent = item["type"] in ("missing", "extra_forbidden") or isinstance(item["input"], dict)
        given = "" if silent else f"; got {_given(item['input'])}"
        reason = _REASONS.get(item["type"], item["msg"].removeprefix("Value error, "))
        lines.append(f"{key}: {reason}{given}.")
    return (f"{source} is not valid. " + " ".join(lines),)


def _given(value: Any) -> str:
    return repr(shortened(value)) if isinstance(value, str) else shortened(value)


_REASONS = {"extra_forbidden": "unknown key (misspelt?)", "missing": "is required"}
