"""What a test records with ``record_property("figure", ...)`` stands on docs/reference/reliability.md."""

from __future__ import annotations

from collections.abc import Callable

#: pytest's own fixture ``record_property``.
RecordProperty = Callable[[str, object], None]
