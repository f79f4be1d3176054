from __future__ import annotations

import re
from typing import Any

import pytest

from medres.errors import PlanError
from medres.planning.dims import choose_dims, network_dims, scan_dims
from tests.planning import examples
from tests.planning.examples import fingerprint, scan

MIXED = fingerprint([*examples.pictures(3), *examples.chest_ct(2)])
THICK = fingerprint(examples.thick_ct())
PICTURES, VOLUMES = fingerprint(examples.pictures()), fingerprint(examples.chest_ct())


@pytest.mark.parametrize(("found", "asked", "dims"), [
    (PICTURES, "auto", 2), (PICTURES, "2", 2), (VOLUMES, "auto", 3), (VOLUMES, "3", 3),
    (VOLUMES, "2.5", 2.5), (THICK, "auto", 2.5), (THICK, "3", 3), (THICK, "2.5", 2.5),
])  # fmt: skip
def test_images_are_2_and_volumes_are_3(found: Any, asked: Any, dims: int) -> None:
    chosen, reason = choose_dims(found, dims=asked)
    assert chosen == dims
    assert "40" in reason


@pytest.mark.parametrize(("found", "asked", "message", "fix"), [
    (PICTURES, "3", "no third axis", "--dims 2"),
    (VOLUMES, "2", "volumes, which a 2D network cannot read", "--dims 2.5"),
    (PICTURES, "2.5", "no third axis", "--dims 2"),
    (VOLUMES, "4", "'4' is unknown", "auto, 2, 2.5, 3"),
    (MIXED, "auto", "3 images .* and 2 volumes", "one run on each"),
])  # fmt: skip
def test_what_cannot_be_is_refused(found: Any, asked: Any, message: str, fix: str) -> None:
    with pytest.raises(PlanError, match=message) as caught:
        choose_dims(found, dims=asked)
    assert fix in caught.value.fix


def _stacks(shape: Any, spacing: Any, orientation: Any = "LPS", count: int = 10) -> Any:
    return fingerprint([scan(shape, spacing_mm=spacing, orientation=orientation) for _ in range(count)])


@pytest.mark.parametrize(("found", "dims", "words"), [
    (_stacks((256, 256, 24), (1, 1, 5)), 2.5, "5 times as thick .* 24 of them"),
    (_stacks((24, 256, 256), (5, 1, 1)), 2.5, "24 of them"),
    (_stacks((256, 24, 256), (1, 5, 1), "LIP"), 2.5, "24 of them"),
    (_stacks((256, 256, 24), (1, 1, 2.9)), 3, "2.9 times as thick"),
    (_stacks((256, 256, 24), (1, 1, 3)), 2.5, "3 times as thick"),
    (_stacks((256, 256, 64), (1, 1, 5)), 2.5, "64 of them"),
    (_stacks((256, 256, 65), (1, 1, 5)), 3, "but 65 of them"),
    (_stacks((256, 256, 24), (1, 1, 5), None), 2.5, "24 of them"),
    (_stacks((24, 256, 256), (5, 1, 1), None), 3, "5 times as thick"),  # K, which becomes D, is not the thick axis
    (_stacks((256, 256, 24), None, None), 3, "not all of them say"),
])  # fmt: skip
def test_few_thick_slices_are_read_one_by_one(found: Any, dims: float, words: str) -> None:
    chosen, reason = choose_dims(found)
    assert chosen == dims
    assert re.search(words, reason), reason


def test_volumes_that_do_not_agree_stay_3() -> None:
    axial, sagittal = ((256, 256, 24), (1, 1, 5)), ((24, 256, 256), (5, 1, 1))
    mixed = [scan(shape, spacing_mm=step, orientation="LPS") for shape, step in [axial, sagittal] * 5]
    assert choose_dims(fingerprint(mixed)).value == 3
    unknown = [scan((256, 256, 24), spacing_mm=(1, 1, 5), orientation="LPS"), scan((256, 256, 24))]
    assert choose_dims(fingerprint(unknown)).value == 3


@pytest.mark.parametrize(("found", "backbone_dims", "dims"), [
    (VOLUMES, (2,), 2.5), (VOLUMES, (3,), 3), (THICK, (3,), 3), (THICK, (2,), 2.5), (PICTURES, (2, 3), 2),
])  # fmt: skip
def test_a_backbone_of_one_kind_decides(found: Any, backbone_dims: Any, dims: float) -> None:
    chosen, reason = choose_dims(found, backbone_dims=backbone_dims)
    assert chosen == dims
    assert dims == 2 or "backbone" in reason


def test_scans_and_networks_of_each_kind() -> None:
    assert [(scan_dims(dims), network_dims(dims)) for dims in (2, 2.5, 3)] == [(2, 2), (3, 2), (3, 3)]
