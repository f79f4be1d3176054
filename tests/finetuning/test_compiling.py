"""`torch.compile`, asked for: refused where nothing compiles, and the same training where something does."""

from __future__ import annotations

import pytest
import torch
from torch._inductor import config as inductor

from medres.errors import ConfigError
from medres.finetuning.compiling import require_compiler
from tests.finetuning.conftest import Cohort
from tests.finetuning.test_trainer import FULL, train


def test_a_machine_without_a_compiler_is_told_before_anything_is_prepared() -> None:
    torch.compiler.reset()
    with (
        inductor.patch({"cpp.cxx": (None, "/no/such/compiler")}),
        pytest.raises(ConfigError, match=r"does not work on this machine: .*/no/such/compiler.*compile=false"),
    ):
        require_compiler(torch.device("cpu"))


@pytest.mark.slow
def test_a_compiled_stage_is_the_same_training(cohort: Cohort) -> None:
    torch.compiler.reset()
    require_compiler(torch.device("cpu"))
    # AdamW steps by the sign of a gradient that is nearly 0, so that rounding alone would set the two apart
    gentle = FULL.model_copy(update={"epochs": 1, "lr": 1e-5})
    plain, compiled = (train(cohort, gentle, optimiser="sgd", compile=choice)[0] for choice in (False, True))
    start = dict(cohort.make_model().named_parameters())
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    for (name, parameter), (_, other) in zip(plain.named_parameters(), compiled.named_parameters(), strict=True):
        moved = torch.dist(parameter.detach(), start[name].detach())
        assert moved > 0, name
        assert torch.dist(parameter.detach(), other.detach()) < 1e-2 * moved, name
    for (name, buffer), (_, other) in zip(plain.named_buffers(), compiled.named_buffers(), strict=True):
        torch.testing.assert_close(other, buffer, atol=2e-3, rtol=2e-2, msg=name)
