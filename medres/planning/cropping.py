"""Whether scans are cropped to their foreground before they are resampled."""

from __future__ import annotations

from medres.planning.choice import Choice, by_wish
from medres.planning.fingerprint import Grid
from medres.planning.overrides import PlanOverrides
from medres.planning.plan import Crop

#: Below this share of the voxels, cropping gains at least 1 / 0.8 = 1.25 times as many voxels on the body at the
#: same input size; above it, the gain is smaller than the error of a box drawn by a threshold is worth.
CROP_BELOW = 0.8


def choose_crop(grid: Grid, *, wishes: PlanOverrides, regions: bool = False) -> Choice[Crop]:
    """Return ``foreground`` where the foreground's box is considerably smaller than the scan.

    Scans of one size without spacing are left whole: each box would be enlarged to the input by a factor of its own,
    and the size of a structure, which may be the very sign that is looked for, would be lost.

    Args:
        grid: Of the scans.
        wishes: Of the user.
        regions: Whether the scans are regions of interest, which are left whole: they were cropped about their lesions.
    """
    chosen = _OF_REGIONS if regions else _by_grid(grid)
    if wishes.crop is None:
        return chosen
    return by_wish(wishes.crop, key="crop", instead_of=f"{chosen.value}. {chosen.reason}")


_OF_REGIONS: Choice[Crop] = Choice(
    "none", "The scans are regions of interest already: their lesion stays in the middle, and the scale is one."
)


def _by_grid(grid: Grid) -> Choice[Crop]:
    share = grid.box_fraction.median
    box = f"In the median scan the box around the foreground holds {share:.0%} of the voxels"
    if share >= CROP_BELOW:
        return Choice("none", f"{box}: cropping to it would gain little (the rule: below {CROP_BELOW:.0%}).")
    if grid.same_size and grid.num_with_spacing < grid.num_scans:
        return Choice(
            "none",
            f"{box}, but all scans have one size and no spacing: scaling each box to the input by a factor of its "
            "own would hide how large things are.",
        )
    return Choice("foreground", f"{box}: the rest (air, bed, black border) is cut off before resampling.")
