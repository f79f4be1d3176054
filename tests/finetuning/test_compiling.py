"""`torch.compile`, asked for: refused where nothing compiles, and the same training where something does."""

from __future__ import annotations

import pytest
import torch
from torch._inductor import config as inductor

from medres.errors import ConfigError
from medres.finetuning.compiling import require_compiler
from tests.finetuning.conftest import Cohort
from tests.finetuning.test_trainer import FULL, train


def test_a_machine_without_a_compiler_is_told_before_anything_is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.compiler.reset()
    monkeypatch.setattr(inductor.cpp, "cxx", (None, "/no/such/compiler"))
    with pytest.raises(ConfigError, match=r"does not work on this machine: .*/no/such/compiler.*compile=false"):
        require_compiler(torch.device("cpu"))


@pytest.mark.slow
def test_a_compiled_stage_is_the_same_training(cohort: Cohort) -> None:
    torch.compiler.reset()
    require_compiler(torch.device("cpu"))
    plain, compiled = train(cohort, FULL)[0], train(cohort, FULL, compile=True)[0]
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], tensor, atol=2e-3, rtol=2e-2, msg=name)
