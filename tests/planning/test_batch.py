from __future__ import annotations

import pytest

from medres.planning.batch import choose_batch_size, choose_precision
from medres.planning.facts import MachineFacts
from medres.planning.overrides import PlanOverrides
from tests.planning.examples import CPU, GPU, backbone

NO_WISH = PlanOverrides()


@pytest.mark.parametrize(
    ("scans", "batch"), [(0, 4), (1, 4), (47, 4), (85, 8), (107, 8), (200, 16), (436, 32), (9999, 64)]
)
def test_ten_steps_an_epoch(scans: int, batch: int) -> None:
    chosen = choose_batch_size((96, 96), backbone=backbone(2), machine=GPU, num_training_scans=scans, wishes=NO_WISH)
    assert chosen.value == batch
    assert scans < 40 or scans // chosen.value >= 10


def test_memory_limits_the_batch_and_says_so() -> None:
    machine = GPU.model_copy(update={"memory_bytes": 8 * 2**30})
    chosen = choose_batch_size(
        (96,) * 3, backbone=backbone(3), machine=machine, num_training_scans=9999, wishes=NO_WISH
    )
    assert chosen.value == 32
    none = MachineFacts(device="cuda", memory_bytes=2**28)
    tight = choose_batch_size((96,) * 3, backbone=backbone(3), machine=none, num_training_scans=99, wishes=NO_WISH)
    assert tight.value == 4
    assert "may not fit" in tight.reason


def test_bf16_where_it_is_fast() -> None:
    assert choose_precision(GPU, wishes=NO_WISH).value == "bf16"
    assert choose_precision(CPU, wishes=NO_WISH).value == "fp32"
    assert choose_precision(GPU, wishes=PlanOverrides(precision="fp32")).value == "fp32"
