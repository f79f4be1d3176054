"""How volumes are turned before they meet the network."""

from __future__ import annotations

from medres.errors import PlanError
from medres.planning.axes import DEFAULT_ORIENTATION
from medres.planning.choice import Choice, by_wish
from medres.planning.fingerprint import ANISOTROPIC_FROM, Grid
from medres.planning.overrides import PlanOverrides

#: D is the coarsest axis (DESIGN 4). Each view lies as a radiologist sees it: the head up, the patient's left right.
_BY_COARSE_AXIS = {
    "D": ("axial", DEFAULT_ORIENTATION),
    "H": ("coronal", "PIL"),
    "W": ("sagittal", "LIP"),
}


def choose_orientation(grid: Grid, *, spatial_dims: int, wishes: PlanOverrides) -> Choice[str | None]:
    """Return the code that names the growth of D, H, W, or None where scans are taken as they lie in their files.

    Volumes of which only some know how they lie are refused: the others would be shown to the network in an
    unknown direction, and nobody would see it.

    Raises:
        PlanError: Only some volumes know their orientation, or the user asks for one that none knows.
    """
    if spatial_dims == 2:
        if wishes.orientation not in (None, "none"):
            raise PlanError(
                f"planning.orientation is {wishes.orientation}, but the scans are 2D images.",
                fix="Leave planning.orientation out.",
            )
        return Choice(None, "2D images are taken as they lie in their files.")
    if wishes.orientation is not None:
        return _as_wished(wishes.orientation, grid)
    _require_agreement(grid)
    return _by_grid(grid)


def _as_wished(orientation: str, grid: Grid) -> Choice[str | None]:
    if orientation != "none" and grid.num_with_orientation < grid.num_scans:
        unknown = grid.num_scans - grid.num_with_orientation
        raise PlanError(
            f"planning.orientation is {orientation}, but {unknown} of {grid.num_scans} volumes do not say how they "
            "lie in the patient; findings.json lists them (orientation-unknown).",
            fix="Set planning.orientation=none to take all of them as they lie in their files.",
        )
    wished = None if orientation == "none" else orientation
    mixed = 0 < grid.num_with_orientation < grid.num_scans
    instead = "refused, since only some volumes know their orientation." if mixed else _by_grid(grid).reason
    return by_wish(wished, key="orientation", instead_of=instead)


def _require_agreement(grid: Grid) -> None:
    known, unknown = grid.num_with_orientation, grid.num_scans - grid.num_with_orientation
    if known and unknown:
        raise PlanError(
            f"{known} volumes say how they lie in the patient, {unknown} do not: they cannot be turned alike.",
            fix="findings.json lists them (orientation-unknown). Write the affine into them (NIfTI: sform_code and "
            "qform_code are 0), leave them out, or, if all files are known to lie alike, take them as they are with "
            "--set planning.orientation=none.",
        )


def _by_grid(grid: Grid) -> Choice[str | None]:
    if not grid.num_with_orientation:
        reason = (
            f"None of the {grid.num_scans} volumes says how it lies in the patient: D, H, W are the file's K, J, I."
        )
        return Choice(None, reason)
    axis, count = max(grid.coarse_axes.items(), key=lambda item: (item[1], item[0]), default=("", 0))
    if 2 * count > grid.num_scans:
        view, code = _BY_COARSE_AXIS[axis]
        thick = f"{count} of {grid.num_scans} volumes have {view} slices at least {ANISOTROPIC_FROM:g} times as thick"
        return Choice(code, f"All volumes know how they lie; {thick} as their pixels are wide: D runs across them.")
    known = f"All {grid.num_scans} volumes know how they lie in the patient and are turned to {DEFAULT_ORIENTATION}"
    return Choice(DEFAULT_ORIENTATION, f"{known}: axial slices from the feet up.")
