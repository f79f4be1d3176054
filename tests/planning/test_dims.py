from __future__ import annotations

from typing import Any

import pytest

from medres.errors import PlanError
from medres.planning.dims import choose_dims
from tests.planning import examples
from tests.planning.examples import fingerprint

MIXED = fingerprint([*examples.pictures(3), *examples.chest_ct(2)])
PICTURES, VOLUMES = fingerprint(examples.pictures()), fingerprint(examples.chest_ct())


@pytest.mark.parametrize(("found", "asked", "dims"), [
    (PICTURES, "auto", 2), (PICTURES, "2", 2), (VOLUMES, "auto", 3), (VOLUMES, "3", 3),
])  # fmt: skip
def test_images_are_2_and_volumes_are_3(found: Any, asked: Any, dims: int) -> None:
    chosen, reason = choose_dims(found, dims=asked)
    assert chosen == dims
    assert "40" in reason


@pytest.mark.parametrize(("found", "asked", "message", "fix"), [
    (VOLUMES, "2", "volumes, which a 2D network cannot read", "--dims 3"),
    (PICTURES, "3", "no third axis", "--dims 2"),
    (VOLUMES, "2.5", "not available yet", "--dims 3"),
    (PICTURES, "2.5", "not available yet", "--dims 2"),
    (VOLUMES, "4", "'4' is unknown", "auto, 2, 3"),
    (MIXED, "auto", "3 images .* and 2 volumes", "one run on each"),
])  # fmt: skip
def test_what_cannot_be_is_refused(found: Any, asked: Any, message: str, fix: str) -> None:
    with pytest.raises(PlanError, match=message) as caught:
        choose_dims(found, dims=asked)
    assert fix in caught.value.fix
