"""The templates of all pages: escaped, and a name that is missing is an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from medres.runs.atomic import atomic_write_text


def page_template(name: str, *, filters: Mapping[str, Callable[..., Any]] | None = None) -> Template:
    """Return a template of ``medres/reporting/templates``.

    Args:
        name: Its file.
        filters: What it calls beside Jinja's own filters.

    Example:
        >>> page_template("inspection.html.j2").name
        'inspection.html.j2'
    """
    environment = Environment(
        loader=PackageLoader("medres.reporting"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= dict(filters or {})
    return environment.get_template(name)


def write_page(path: Path, page: str) -> Path:
    """Write a page and return its path.

    Raises:
        OutputError: It cannot be written.
    """
    atomic_write_text(path, page)
    return path
