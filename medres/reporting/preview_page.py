"""The page of ``medres preview``: the choices with their reasons, then each scan on its way into the network.

Self-contained: no script, no font, image or style from elsewhere. Local only: it holds paths, ids and pictures, and
says so on top.
"""

from __future__ import annotations

import base64
import time

from medres._version import __version__
from medres.reporting.pages import page_template
from medres.reporting.preview import Preview
from medres.reporting.wording import plan_rows


def render_preview(preview: Preview) -> str:
    """Return the page."""
    return page_template("preview.html.j2", filters={"picture": _data_uri}).render(
        name=preview.data.name or str(preview.data),
        version=__version__,
        written=time.strftime("%Y-%m-%d %H:%M"),
        preview=preview,
        plan_rows=plan_rows(preview.plan),
    )


def _data_uri(content: bytes) -> str:
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
