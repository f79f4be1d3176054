"""The bodies behind the phantoms: tissue maps in RAS millimetres, drawn from a random generator.

A body is a few ellipsoids, which is enough for what phantoms are for: an outside and an inside, air, fat, soft
tissue and bone at their Hounsfield units (or MR signals), and one lesion whose looks may depend on the class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Axes = tuple[Float32, Float32, Float32]

#: Left lung and right lung: centre and half axes in mm (x right, y front, z head).
_LUNGS = (((-75.0, 10.0, 10.0), (55.0, 75.0, 110.0)), ((75.0, 10.0, 10.0), (55.0, 75.0, 110.0)))
_VENTRICLES = (((-14.0, 0.0, 8.0), (9.0, 26.0, 14.0)), ((14.0, 0.0, 8.0), (9.0, 26.0, 14.0)))
_BRAIN_HALF_AXES = (58.0, 74.0, 64.0)


@dataclass(frozen=True, kw_only=True)
class Lesion:
    """A ball with a bumpy surface.

    Args:
        center_mm: In RAS.
        radius_mm: Mean radius.
        level: Its value, in HU or in the units of the MR tissues.
        bumps: Amplitude of the surface's waves as a fraction of the radius.
        phases: Of these waves.
    """

    center_mm: tuple[float, float, float]
    radius_mm: float
    level: float
    bumps: float
    phases: tuple[float, float]

    def share(self, axes: Axes, *, edge_mm: float) -> Float32:
        """Return how much of each voxel is lesion, 0 to 1, with an edge as wide as a voxel."""
        x, y, z = (axis - center for axis, center in zip(axes, self.center_mm, strict=True))
        distance = np.sqrt(x**2 + y**2 + z**2)
        waves = np.sin(5 * np.arctan2(y, x) + self.phases[0]) * np.cos(0.35 * z + self.phases[1])
        waves = waves * np.hypot(x, y) / np.maximum(distance, np.float32(1))  # flat at the poles, where angles meet
        surface = self.radius_mm * (1 + self.bumps * waves)
        share: Float32 = np.clip((surface - distance) / edge_mm + 0.5, 0, 1).astype(np.float32)
        return share


@dataclass(frozen=True, kw_only=True)
class Patient:
    """What stays the same from scan to scan of one patient.

    Args:
        scale: Of the body in x, y, z.
        lesion: Drawn for the patient's class.
        texture: Direction (in radians a mm) and phase of two waves in the tissue, ``(2, 4)``.
    """

    scale: tuple[float, float, float]
    lesion: Lesion
    texture: npt.NDArray[np.float64]


def draw_ct_patient(rng: np.random.Generator, *, severity: float) -> Patient:
    """Draw a chest with one nodule in a lung.

    Args:
        rng: The same numbers are drawn whatever the severity.
        severity: 0 = small, hazy, smooth; 1 = large, solid, bumpy; above 1 even more so.
    """
    scale, texture = _draw_body(rng)
    center, half_axes = _LUNGS[int(rng.integers(2))]
    lesion = Lesion(
        center_mm=_draw_inside(rng, center, half_axes, scale=scale),
        radius_mm=min(60.0, rng.uniform(14, 20) * (1 + severity)),
        level=min(150.0, rng.normal(-450, 60) + 450 * severity),
        bumps=min(0.4, rng.uniform(0, 0.05) + 0.2 * severity),
        phases=_draw_phases(rng),
    )
    return Patient(scale=scale, lesion=lesion, texture=texture)


def draw_mr_patient(rng: np.random.Generator, *, severity: float) -> Patient:
    """Draw a head with one lesion in the brain; see `draw_ct_patient`."""
    scale, texture = _draw_body(rng)
    lesion = Lesion(
        center_mm=_draw_inside(rng, (0.0, 0.0, 0.0), _BRAIN_HALF_AXES, scale=scale),
        radius_mm=min(35.0, rng.uniform(9, 13) * (1 + severity)),
        level=min(400.0, rng.normal(190, 10) + 100 * severity),
        bumps=min(0.4, rng.uniform(0, 0.05) + 0.2 * severity),
        phases=_draw_phases(rng),
    )
    return Patient(scale=scale, lesion=lesion, texture=texture)


def ct_tissue(patient: Patient, axes: Axes, *, edge_mm: float) -> Float32:
    """Return the Hounsfield units of a chest at the points of ``axes`` (three arrays that broadcast)."""
    x, y, z = _in_standard_size(axes, patient.scale)
    body = _radius((x, y, z), (0, 0, 0), (165, 115, 230))
    tissue = np.where(body < 0.93, np.float32(40), np.float32(-90))  # muscle under fat
    tissue = np.where((np.abs(body - 0.86) < 0.04) & (np.sin(z / 6) > 0.5), np.float32(350), tissue)  # ribs
    lungs = np.minimum(*(_radius((x, y, z), *lung) for lung in _LUNGS))
    tissue = np.where(lungs < 1, -850 + 70 * _waves(patient, axes), tissue)
    tissue = np.where(_radius((x, y, z), (-15, 25, -20), (45, 40, 50)) < 1, np.float32(50), tissue)  # heart
    spine = np.hypot(x, y + 78) < 20
    tissue = np.where(spine, np.where(np.sin(z / 5) > -0.6, np.float32(400), np.float32(80)), tissue)
    tissue = np.where(body < 1, tissue, np.float32(-1000))
    return _with_lesion(tissue, patient.lesion, axes, edge_mm=edge_mm)


def mr_tissue(patient: Patient, axes: Axes, *, edge_mm: float) -> Float32:
    """Return the signal of a head, 0 (air) to about 300 (fat), without bias field, noise and scale."""
    x, y, z = _in_standard_size(axes, patient.scale)
    head = _radius((x, y, z), (0, 0, 0), (75, 95, 85))
    tissue = np.where(head < 0.9, np.float32(25), np.float32(230))  # skull under the fat of the scalp
    brain = _radius((x, y, z), (0, 0, 0), _BRAIN_HALF_AXES)
    white = brain + 0.15 * _waves(patient, axes) < 0.75
    tissue = np.where(brain < 1, np.where(white, np.float32(150), np.float32(110)), tissue)
    ventricles = np.minimum(*(_radius((x, y, z), *ventricle) for ventricle in _VENTRICLES))
    tissue = np.where(ventricles < 1, np.float32(40), tissue)
    tissue = np.where(head < 1, tissue, np.float32(0))
    return _with_lesion(tissue, patient.lesion, axes, edge_mm=edge_mm)


def _draw_body(rng: np.random.Generator) -> tuple[tuple[float, float, float], npt.NDArray[np.float64]]:
    sizes = rng.uniform(0.92, 1.08, size=3)
    waves = np.column_stack([rng.normal(0, 0.12, size=(2, 3)), rng.uniform(0, 2 * np.pi, size=2)])
    return (float(sizes[0]), float(sizes[1]), float(sizes[2])), waves


def _draw_inside(
    rng: np.random.Generator, center: Sequence[float], half_axes: Sequence[float], *, scale: Sequence[float]
) -> tuple[float, float, float]:
    """Draw a point in the inner half of an ellipsoid, so that a lesion does not reach far beyond it."""
    direction = rng.normal(size=3)
    direction *= 0.5 * rng.uniform() ** (1 / 3) / np.linalg.norm(direction)
    x, y, z = ((c + d * h) * s for c, d, h, s in zip(center, direction, half_axes, scale, strict=True))
    return float(x), float(y), float(z)


def _draw_phases(rng: np.random.Generator) -> tuple[float, float]:
    first, second = rng.uniform(0, 2 * np.pi, size=2)
    return float(first), float(second)


def _in_standard_size(axes: Axes, scale: Sequence[float]) -> Axes:
    x, y, z = (axis / np.float32(factor) for axis, factor in zip(axes, scale, strict=True))
    return x, y, z


def _radius(axes: Axes, center: Sequence[float], half_axes: Sequence[float]) -> Float32:
    """Return the distance from ``center`` in units of the ellipsoid: 1 on its surface."""
    parts = [((axis - c) / h) ** 2 for axis, c, h in zip(axes, center, half_axes, strict=True)]
    radius: Float32 = np.sqrt(parts[0] + parts[1] + parts[2]).astype(np.float32)
    return radius


def _waves(patient: Patient, axes: Axes) -> Float32:
    """Return a smooth pattern of the patient's own, -1 to 1."""
    x, y, z = axes
    first, second = (np.sin(a * x + b * y + c * z + phase) for a, b, c, phase in patient.texture)
    pattern: Float32 = (first * second).astype(np.float32)
    return pattern


def _with_lesion(tissue: Float32, lesion: Lesion, axes: Axes, *, edge_mm: float) -> Float32:
    share = lesion.share(axes, edge_mm=edge_mm)
    return (tissue + share * (lesion.level - tissue)).astype(np.float32)
