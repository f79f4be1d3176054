"""The page on residual networks says what its code computes.

``python -m tests.models.test_residual_networks_page`` draws its figure.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medres.models.arch_facts import arch_facts
from medres.models.factory import create_model

PAGE = Path(__file__).parents[2] / "docs" / "concepts" / "residual-networks.md"
FIGURE = PAGE.with_suffix(".svg")
TEXT = PAGE.read_text(encoding="utf-8")

#: The growth of a gradient through 66 layers of another processor's arithmetic is the same within a third.
TOLERANCE = 0.33


@pytest.fixture(scope="module")
def code() -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)), names)
    return names


def _rows() -> list[tuple[int, int, float, float]]:
    cells = [[cell.strip().replace(",", "") for cell in line.split("|")[1:-1]] for line in TEXT.splitlines()]
    rows = [row for row in cells if len(row) == 4 and row[0].isdigit()]
    return [(int(blocks), int(layers), float(plain), float(short)) for blocks, layers, plain, short in rows]


def test_the_table_is_what_the_code_computes(code: dict[str, Any]) -> None:
    rows = _rows()
    assert [row[0] for row in rows] == [4, 8, 16, 32]
    for blocks, layers, plain, short in rows:
        assert layers == 2 * blocks + 2
        assert code["first_to_last"](blocks, False) == pytest.approx(plain, rel=TOLERANCE)
        assert code["first_to_last"](blocks, True) == pytest.approx(short, rel=TOLERANCE)


def test_shortcuts_hold_the_gradient(code: dict[str, Any]) -> None:
    plain, short = (
        [code["first_to_last"](blocks, shortcut) for blocks in (4, 8, 16, 32)] for shortcut in (False, True)
    )
    assert plain == sorted(plain)
    assert plain[-1] > 10_000
    assert max(short) < 50
    growth = (plain[-1] / plain[0]) ** (1 / (2 * 28))
    said = re.search(r"grows by about ([\d.]+) a layer", TEXT)
    assert said is not None
    assert float(said[1]) == pytest.approx(growth, abs=0.02)


def test_the_figure_shows_the_same(code: dict[str, Any]) -> None:
    drawn = {label: _values(label) for label in ("plain", "with shortcuts")}
    for label, shortcut in (("plain", False), ("with shortcuts", True)):
        assert drawn[label] == pytest.approx(code["gradient_norms"](32, shortcut), rel=TOLERANCE)


def test_what_is_said_of_the_networks(code: dict[str, Any]) -> None:
    assert f"{code['bottleneck']:,} weights against {code['basic']:,}" in TEXT
    for arch, blocks in (("resnet18", 3), ("resnet50", 4)):
        names = create_model(arch, num_classes=2).state_dict()
        assert sum(name.endswith("downsample.0.weight") for name in names) == blocks  # identity inside of a stage
    shallow, deep = (arch_facts(arch, spatial_dims=3) for arch in ("resnet34", "resnet50"))
    assert (shallow.parameters // 10**6, deep.parameters // 10**6) == (63, 46)
    assert (shallow.features, deep.features) == (512, 2048)


def _values(label: str) -> list[float]:
    found = re.search(rf"<!-- {label}: (.*?) -->", FIGURE.read_text(encoding="utf-8"))
    assert found is not None
    return [float(value) for value in found[1].split()]


def _draw(gradient_norms: Callable[[int, bool], list[float]]) -> str:
    """Return a figure of 640 x 300: the norm in each block, on a logarithmic scale from 0.001 to 10000."""
    import math

    def place(block: int, norm: float) -> str:
        return f"{60 + block * 540 / 31:.1f},{255 - (math.log10(norm) + 3) * 34:.1f}"

    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 300" font-family="sans-serif" font-size="13">',
        '<rect width="640" height="300" fill="white"/>',
    ]
    for power in range(-3, 5):
        y = 255 - (power + 3) * 34
        lines.append(
            f'<path d="M60 {y}H600" stroke="#ddd"/><text x="52" y="{y + 4}" text-anchor="end">{10**power:g}</text>'
        )
    for label, shortcut, colour in (("plain", False, "#c0392b"), ("with shortcuts", True, "#1f6fb4")):
        norms = gradient_norms(32, shortcut)
        points = " ".join(place(block, norm) for block, norm in enumerate(norms))
        lines.append(f"<!-- {label}: {' '.join(f'{norm:.4g}' for norm in norms)} -->")
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        x, y = place(4, norms[4]).split(",")
        lines.append(f'<text x="{x}" y="{float(y) - 10:.1f}" fill="{colour}">{label}</text>')
    lines.append('<text x="60" y="285">block 1</text><text x="600" y="285" text-anchor="end">block 32</text>')
    lines.append('<text x="60" y="12">norm of the gradient of the first convolution</text></svg>')
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    namespace: dict[str, Any] = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)), namespace)
    FIGURE.write_text(_draw(namespace["gradient_norms"]), encoding="utf-8")
