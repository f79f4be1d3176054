"""The bias field of MR: a smooth factor over the image, from coils that are nearer to one side than to the other.

Van Leemput, Maes, Vandermeulen and Suetens 1999 (doi:10.1109/42.811268): the logarithm of the field is a polynomial of
low order in the place. Here of degree 3, as a sum of products of Legendre polynomials, which is what MONAI's
``RandBiasField`` draws as well.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch

from medres.preprocessing.warping import Float64

DEGREE = 3


def num_coefficients(dims: int) -> int:
    """Return how many polynomials there are of degree 1 to 3.

    Example:
        >>> num_coefficients(2), num_coefficients(3)
        (9, 19)
    """
    return len(_orders(dims))


def log_fields(
    shape: tuple[int, ...], coefficients: Float64, *, largest: Float64, device: torch.device
) -> torch.Tensor:
    """Return logarithms of smooth fields, ``(B, *shape)`` float32.

    Args:
        shape: Of the input; the outermost voxels lie at -1 and 1.
        coefficients: ``(B, K)``, one a polynomial; the constant is none of them: that would be brightness.
        largest: ``(B,)``; the largest absolute value of each result.
        device: Where it is computed.
    """
    dims = len(shape)
    terms = np.zeros((len(coefficients), *(DEGREE + 1,) * dims), dtype=np.float32)
    for column, order in enumerate(_orders(dims)):
        place: tuple[slice | int, ...] = (slice(None), *order)
        terms[place] = coefficients[:, column]
    field = torch.from_numpy(terms).to(device)
    for size in shape:  # the axis of orders in front becomes an axis of places at the end
        field = torch.tensordot(field, _basis(size).to(device), dims=([1], [0]))
    peak = field.abs().amax(dim=tuple(range(1, dims + 1)), keepdim=True)
    wanted = torch.tensor(largest, dtype=torch.float32).reshape(peak.shape).to(device)
    return field * (wanted / peak.clamp(min=1e-12))


def shade(batch: torch.Tensor, log_field: torch.Tensor) -> torch.Tensor:
    """Multiply ``batch (B, C, ..., *spatial)`` by a field, in place, from each channel's darkest voxel on.

    The field multiplies the signal, and inputs are no signal any more: the zero of z-scores lies within the tissue.
    Where there is no signal a scan is darkest, so the signal is what lies above the darkest voxel, up to a factor that
    does not matter. Air stays as it is, and all sequences of a scan are shaded alike.
    """
    fields = log_field.exp().reshape(len(batch), *(1,) * (batch.ndim - log_field.ndim), *log_field.shape[1:])
    darkest = batch.flatten(2).amin(dim=2).reshape(*batch.shape[:2], *(1,) * (batch.ndim - 2))
    return batch.sub_(darkest).mul_(fields).add_(darkest)


def _orders(dims: int) -> list[tuple[int, ...]]:
    return [order for order in product(range(DEGREE + 1), repeat=dims) if 1 <= sum(order) <= DEGREE]


def _basis(size: int) -> torch.Tensor:
    """Return the Legendre polynomials of degree 0 to 3 at ``size`` places, ``(4, size)``."""
    values = np.polynomial.legendre.legvander(np.linspace(-1, 1, size), DEGREE)
    return torch.from_numpy(values.T.astype(np.float32).copy())
