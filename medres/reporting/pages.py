"""The templates of all pages: escaped, and a name that is missing is an error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


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
