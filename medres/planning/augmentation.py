"""Random changes of training scans that leave the diagnosis as it is.

Mirroring is the one that can make a scan that does not exist: a head upside down, a spine in front. It is
therefore used along one axis at most, the one along which bodies are nearly symmetric:

==============================  =============================  ==============================================
scans                           mirrored along                 why
==============================  =============================  ==============================================
images                          W, left-right on the screen    rows nearly always run across the body
volumes, known orientation      the patient's left-right axis  the one near-symmetry of the body
volumes, unknown orientation    W, the file's first axis       the first axis of a file runs along a row
==============================  =============================  ==============================================

Where the side itself is the label (left or right ear), switch it off: ``--set planning.flip_axes=[]``.
"""

from __future__ import annotations

from collections.abc import Sequence

from medres.data.statistics import Modality
from medres.errors import PlanError
from medres.planning.axes import anatomical_axes
from medres.planning.choice import Choice, by_wish
from medres.planning.fingerprint import ANISOTROPIC_FROM
from medres.planning.overrides import PlanOverrides
from medres.planning.plan import Augmentation

#: (brightness, contrast, noise). HU are calibrated: a scanner moves them little. MR units are arbitrary and keep
#: a bias after standardisation. Images of unknown origin lie between.
_INTENSITY = {"CT": (0.05, 0.1, 0.05), "MR": (0.2, 0.2, 0.1), "other": (0.1, 0.15, 0.05)}

#: A turn mixes the axes: where one voxel is twice as long as another, 10 degrees already shear the anatomy.
_ROTATION_DEGREES = {False: 10.0, True: 5.0}

_OFF = Augmentation(flip_axes=(), rotation_degrees=0, scale=0, translation=0, brightness=0, contrast=0, noise=0)


def choose_augmentation(
    *, modality: Modality, spatial_dims: int, orientation: str | None,
    spacing_mm: Sequence[float] | None, wishes: PlanOverrides, slicewise: bool = False,
) -> Choice[Augmentation]:  # fmt: skip
    """Return the random changes for a modality.

    Raises:
        PlanError: The user asks to mirror an axis that is not there.
    """
    if wishes.augmentation is False:
        return Choice(_OFF, "Switched off by you (planning.augmentation).")
    flip = _choose_flip(spatial_dims, orientation, wishes, slicewise=slicewise)
    anisotropic = spacing_mm is not None and max(spacing_mm) >= ANISOTROPIC_FROM * min(spacing_mm)
    brightness, contrast, noise = _INTENSITY[modality]
    degrees = _ROTATION_DEGREES[anisotropic]
    chosen = Augmentation(
        flip_axes=flip.value, rotation_degrees=degrees, brightness=brightness, contrast=contrast, noise=noise
    )
    shear = ", since voxels are anisotropic" if anisotropic else ""
    where = " in the plane of the slices, all of a scan alike" if slicewise else ""
    turns = f"Turns of at most {degrees:g} degrees{shear}, zoom and shift as patients lie{where}."
    levels = f"Brightness, contrast and noise as scanners differ in {_described(modality)}."
    return Choice(chosen, f"{flip.reason} {turns} {levels}")


def _choose_flip(
    spatial_dims: int, orientation: str | None, wishes: PlanOverrides, *, slicewise: bool
) -> Choice[tuple[int, ...]]:
    chosen = _flip_by_anatomy(spatial_dims, orientation)
    if slicewise and 0 in chosen.value:
        chosen = Choice((), "Not mirrored: the patient's left and right lie across the slices.")
    if wishes.flip_axes is None:
        return chosen
    if any(axis >= spatial_dims for axis in wishes.flip_axes):
        raise PlanError(
            f"planning.flip_axes is {list(wishes.flip_axes)}; the scans have the axes {list(range(spatial_dims))}.",
            fix=f"The last axis, W, is {spatial_dims - 1}; [] mirrors none.",
        )
    if slicewise and 0 in wishes.flip_axes:
        raise PlanError(
            f"planning.flip_axes is {list(wishes.flip_axes)}; slices (2.5D) are mirrored in their plane only.",
            fix="H is 1, W is 2; [] mirrors none.",
        )
    return by_wish(tuple(sorted(set(wishes.flip_axes))), key="flip_axes", instead_of=chosen.reason)


def _flip_by_anatomy(spatial_dims: int, orientation: str | None) -> Choice[tuple[int, ...]]:
    off = "(planning.flip_axes=[] switches it off where the side is the label)"
    if orientation is None:
        return Choice((spatial_dims - 1,), f"Mirrored along W alone {off}; never upside down.")
    axis = anatomical_axes(orientation).index(0)
    name = "DHW"[axis]
    return Choice((axis,), f"Mirrored along {name} alone, the patient's left and right {off}.")


def _described(modality: Modality) -> str:
    known = {"CT": "CT (little: HU are calibrated)", "MR": "MR (much: its units are arbitrary)"}
    return known.get(modality, "images of unknown origin")
