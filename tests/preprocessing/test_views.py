"""Views of test-time augmentation: the same for every scan and every time, and true to the anatomy."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from medres.errors import PlanError
from medres.planning.plan import Augmentation, Intensity, Plan
from medres.preprocessing.stacks import Inputs
from medres.preprocessing.views import views_of

STILL = {"rotation_degrees": 0, "scale": 0, "translation": 0}


def _plan(dims: float, **augmentation: Any) -> Plan:
    volumes = dims != 2
    return Plan(
        spatial_dims=3 if volumes else 2, slicewise=dims == 2.5, modality="other", in_channels=1, batch_size=2,
        orientation="SPL" if volumes else None, shape=(6, 12, 10) if volumes else (12, 10),
        spacing_mm={2: None, 2.5: (1.0, 1.0), 3: (2.0, 1.0, 1.0)}[dims],
        intensity=Intensity(scheme="scaled", scale_range=(0, 255)), augmentation=Augmentation(**augmentation),
    )  # fmt: skip


def _inputs(dims: float, size: int = 3) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    if dims != 2.5:
        return Inputs(torch.rand(size, 1, *(_plan(dims).shape), generator=generator))
    mask = torch.arange(6) < torch.tensor([6, 4, 2])[:size, None]
    return Inputs(torch.rand(size, 6, 1, 12, 10, generator=generator) * mask[:, :, None, None, None], mask)


@pytest.mark.parametrize("dims", [2, 2.5, 3])
def test_the_first_view_is_the_scan_itself(dims: float) -> None:
    inputs = _inputs(dims)
    for tta in (0, 3):
        views = views_of(_plan(dims), tta=tta)
        assert len(views) == tta + 1
        assert torch.equal(views[0](inputs).scans, inputs.scans)


@pytest.mark.parametrize(
    ("dims", "flip_axes", "expected"),
    [(2, (1,), [(-1,)]), (2.5, (2,), [(-1,)]), (3, (2,), [(-1,)]), (3, (0,), [(-3,)]),
     (2, (0, 1), [(-2,), (-1,), (-2, -1)]), (2.5, (1, 2), [(-2,), (-1,), (-2, -1)])],
)  # fmt: skip
def test_then_come_the_mirrorings_that_the_plan_allows(
    dims: float, flip_axes: tuple[int, ...], expected: list[tuple[int, ...]]
) -> None:
    inputs = _inputs(dims)
    views = views_of(_plan(dims, flip_axes=flip_axes, **STILL), tta=len(expected))
    for view, axes in zip(views[1:], expected, strict=True):
        assert torch.equal(view(inputs).scans, inputs.scans.flip(axes))


@pytest.mark.parametrize("dims", [2, 2.5, 3])
def test_a_view_is_the_same_for_every_scan_in_any_company_and_every_time(dims: float) -> None:
    inputs, plan = _inputs(dims), _plan(dims, flip_axes=(1,))
    copies = inputs._replace(scans=inputs.scans[:1].expand_as(inputs.scans))
    seen = []
    for view, again in zip(views_of(plan, tta=5), views_of(plan, tta=8), strict=False):
        changed = view(copies).scans
        assert torch.equal(changed[0], changed[-1])
        assert torch.equal(again(copies).scans, changed)
        alone = view(Inputs(*(None if part is None else part[1:2] for part in inputs))).scans  # type: ignore[arg-type]
        torch.testing.assert_close(alone, view(inputs).scans[1:2])
        seen.append(changed)
    assert all(not torch.equal(one, other) for index, one in enumerate(seen) for other in seen[:index])


def test_moves_are_small_and_leave_the_intensities_alone() -> None:
    # a plane stays a plane where it is moved by a few voxels: its slope and level tell turn, zoom and shift
    height, width = 64, 64
    rows = torch.linspace(-1, 1, height)[:, None].expand(height, width)
    plan = _plan(2).model_copy(update={"shape": (height, width)})
    for view in views_of(plan, tta=30)[1:]:
        middle = view(Inputs(rows[None, None].contiguous())).scans[0, 0, 24:40, 24:40]
        slope = (middle[-1] - middle[0]).mean() / 15 * (height - 1) / 2
        across = (middle[:, -1] - middle[:, 0]).mean() / 15 * (width - 1) / 2
        assert 0.94 < torch.hypot(slope, across) < 1.06  # a zoom of at most 5 %
        assert abs(torch.atan2(across, slope)) < torch.deg2rad(torch.tensor(5.1))
        assert abs(middle.mean()) < 0.06  # a shift of at most 2.5 %
    constant = Inputs(torch.full((1, 1, height, width), 0.7))
    for view in views_of(plan, tta=5):
        torch.testing.assert_close(view(constant).scans, constant.scans)


def test_slices_move_in_their_plane_and_padding_stays_empty() -> None:
    inputs = _inputs(2.5)
    assert inputs.slice_mask is not None
    for view in views_of(_plan(2.5, flip_axes=(2,)), tta=4):
        changed = view(inputs)
        assert changed.slice_mask is inputs.slice_mask
        assert not changed.scans[~inputs.slice_mask].any()
        marked = inputs.scans.clone()
        marked[0, 0] += 1  # one slice alone is changed: so is the same slice of the view, and no other
        difference = (view(Inputs(marked, inputs.slice_mask)).scans - changed.scans).flatten(2).abs().amax(dim=2)
        assert difference[0, 0] > 0.5
        assert difference.flatten()[1:].max() < 1e-6


def test_more_views_than_the_plan_allows_are_refused() -> None:
    assert len(views_of(_plan(2, flip_axes=(1,), **STILL), tta=1)) == 2
    with pytest.raises(PlanError, match=r"tta is 2, .* allows 1 views beside.*tta=1"):
        views_of(_plan(2, flip_axes=(1,), **STILL), tta=2)
    with pytest.raises(PlanError, match="allows 0 views"):
        views_of(_plan(3, **STILL), tta=1)
