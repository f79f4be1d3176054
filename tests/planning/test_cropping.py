from __future__ import annotations

import pytest

from medres.planning.cropping import choose_crop
from medres.planning.overrides import PlanOverrides
from tests.planning.examples import fingerprint, scan

NO_WISH = PlanOverrides()


def crop_of(side: int, *, mixed_sizes: bool = False, placed: bool = True, wishes: PlanOverrides = NO_WISH) -> str:
    sizes = (100, 104) if mixed_sizes else (100, 100)
    known = {"spacing_mm": (1.0, 1.0, 1.0), "orientation": "RAS"} if placed else {}
    scans = [scan((size,) * 3, box=((0, side),) * 3, **known) for size in sizes]
    grid = fingerprint(scans).volumes
    assert grid is not None
    return choose_crop(grid, wishes=wishes).value


@pytest.mark.parametrize(("side", "crop"), [(50, "foreground"), (92, "foreground"), (94, "none"), (100, "none")])
def test_a_box_below_four_fifths_is_cropped_to(side: int, crop: str) -> None:
    assert crop_of(side) == crop


def test_one_size_without_spacing_is_left_whole() -> None:
    assert crop_of(50, placed=False) == "none"
    assert crop_of(50, placed=False, mixed_sizes=True) == "foreground"


def test_a_wish_wins() -> None:
    assert crop_of(50, wishes=PlanOverrides(crop="none")) == "none"
    assert crop_of(100, wishes=PlanOverrides(crop="foreground")) == "foreground"
