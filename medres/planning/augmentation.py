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

from collections.abc import Iterator, Sequence

from medres.data.statistics import Modality
from medres.errors import PlanError
from medres.planning.axes import anatomical_axes
from medres.planning.choice import Choice, by_wish
from medres.planning.fingerprint import ANISOTROPIC_FROM
from medres.planning.overrides import AugmentationWishes, PlanOverrides
from medres.planning.plan import Augmentation

#: HU are calibrated: a scanner moves them little, and a curve (gamma) or a field would move tissue across the bounds
#: of its window. MR units are arbitrary, its contrast depends on echo and repetition times, and coils shade it. Images
#: of unknown origin lie between. Reconstruction kernels of CT, from soft to bone, differ more in sharpness than the
#: sampling of MR does. A blur of 0.7 voxels widens a voxel to 1.9 (full width at half maximum of box and Gaussian).
_LEVELS: dict[Modality, dict[str, float]] = {
    "CT": {"brightness": 0.05, "contrast": 0.1, "noise": 0.05, "blur": 0.7, "gamma": 0.0, "bias_field": 0.0},
    "MR": {"brightness": 0.2, "contrast": 0.2, "noise": 0.1, "blur": 0.5, "gamma": 0.2, "bias_field": 0.2},
    "other": {"brightness": 0.1, "contrast": 0.15, "noise": 0.05, "blur": 0.5, "gamma": 0.1, "bias_field": 0.0},
}

#: A turn mixes the axes: where one voxel is twice as long as another, 10 degrees already shear the anatomy.
_ROTATION_DEGREES = {False: 10.0, True: 5.0}

#: The label of a scan may hang on a single slice: of 20, at most 1 is left out, of 51 at most 5.
_SLICE_DROPOUT = 0.1

OFF = Augmentation(flip_axes=(), rotation_degrees=0, scale=0, translation=0, brightness=0, contrast=0, noise=0)


def choose_augmentation(
    *, modality: Modality, spatial_dims: int, orientation: str | None,
    spacing_mm: Sequence[float] | None, wishes: PlanOverrides, slicewise: bool = False,
) -> Choice[Augmentation]:  # fmt: skip
    """Return the random changes for a modality.

    Raises:
        PlanError: The user asks to mirror an axis that is not there, or to leave out slices of what has none.
    """
    asked = wishes.augmentation or AugmentationWishes()
    if not asked.enabled:
        return Choice(OFF, "Switched off by you (planning.augmentation).")
    _require_slices(asked, slicewise=slicewise)
    flip = _choose_flip(spatial_dims, orientation, wishes, slicewise=slicewise)
    anisotropic = spacing_mm is not None and max(spacing_mm) >= ANISOTROPIC_FROM * min(spacing_mm)
    chosen = Augmentation(
        flip_axes=flip.value, rotation_degrees=_ROTATION_DEGREES[anisotropic],
        slice_dropout=_SLICE_DROPOUT if slicewise else 0.0, **_LEVELS[modality],
    )  # fmt: skip
    reasons = [flip.reason, *_reasons(chosen, modality, anisotropic=anisotropic, slicewise=slicewise)]
    magnitudes = asked.magnitudes()
    if magnitudes:
        reasons.append(_said_by_user(magnitudes, chosen))
    return Choice(chosen.model_copy(update=magnitudes), " ".join(reasons))


def _reasons(chosen: Augmentation, modality: Modality, *, anisotropic: bool, slicewise: bool) -> Iterator[str]:
    shear = ", since voxels are anisotropic" if anisotropic else ""
    where = " in the plane of the slices, all of a scan alike" if slicewise else ""
    yield f"Turns of at most {chosen.rotation_degrees:g} degrees{shear}, zoom and shift as patients lie{where}."
    yield "No crop: a window may lose what the label is about."
    yield f"Brightness, contrast, noise and blur as scanners differ in {_described(modality)}."
    yield _curves(modality)
    if slicewise:
        yield f"At most {chosen.slice_dropout:.0%} of the slices are left out: the label must not hang on one of them."


def _curves(modality: Modality) -> str:
    if modality == "MR":
        return "Gamma for other echo and repetition times, a bias field for the coils."
    if modality == "CT":
        return "No gamma and no bias field: both would move tissue across its window."
    return "A little gamma, as displays and exports differ; no bias field: that is for MR."


def _said_by_user(magnitudes: dict[str, float], chosen: Augmentation) -> str:
    said = ", ".join(f"{name} {value:g}" for name, value in magnitudes.items())
    without = ", ".join(f"{name} {getattr(chosen, name):g}" for name in magnitudes)
    return f"Set by you (planning.augmentation): {said}. Without it: {without}."


def _require_slices(asked: AugmentationWishes, *, slicewise: bool) -> None:
    if asked.slice_dropout and not slicewise:
        raise PlanError(
            f"planning.augmentation.slice_dropout is {asked.slice_dropout:g}, but the scans are not read slice by "
            "slice.",
            fix="Leave it out, or read volumes with --dims 2.5.",
        )


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
