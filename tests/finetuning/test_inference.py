from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from medres.finetuning.inference import compute_logits, eval_mode, fp32_arithmetic
from medres.planning.plan import Augmentation, Intensity, Plan
from medres.preprocessing.preprocessor import Preprocessor
from medres.preprocessing.views import views_of

CPU = torch.device("cpu")
OPERATIONS = (
    torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn, torch.backends.mkldnn.matmul,
    torch.backends.mkldnn.conv, torch.backends.mkldnn.rnn,
)  # fmt: skip


class TinyNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.conv = nn.Conv2d(1, 4, 3)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.dropout(self.conv(self.norm(x)).mean((2, 3))))
        return logits


@pytest.fixture
def preprocessor() -> Preprocessor:
    intensity = Intensity(scheme="scaled", scale_range=(0, 255))
    return Preprocessor(
        Plan(spatial_dims=2, modality="other", shape=(8, 8), in_channels=1, batch_size=4, intensity=intensity,
             augmentation=Augmentation())
    )  # fmt: skip


@pytest.fixture
def stored() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (7, 1, 8, 8), dtype=np.uint8)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100])
def test_logits_are_those_of_plain_torch(
    preprocessor: Preprocessor, stored: np.ndarray[Any, Any], batch_size: int
) -> None:
    net = TinyNet()
    found = compute_logits(net, preprocessor, lambda part: stored[part], 7, batch_size=batch_size, device=CPU)
    with torch.no_grad():
        expected = net.eval()((torch.from_numpy(stored).float() / 255 - 0.5) / 0.5).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("batch_size", [2, 7])
def test_with_test_time_augmentation_logits_are_the_means_over_the_views(
    preprocessor: Preprocessor, stored: np.ndarray[Any, Any], batch_size: int
) -> None:
    net = TinyNet()
    found = compute_logits(net, preprocessor, lambda part: stored[part], 7, batch_size=batch_size, device=CPU, tta=3)
    inputs = preprocessor.inputs(stored, device=CPU)
    with torch.no_grad():
        each = [net.eval()(view(inputs).scans).double() for view in views_of(preprocessor.plan, tta=3)]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, torch.stack(each).mean(dim=0), atol=1e-6)
    assert np.abs(found - each[0].numpy()).max() > 1e-4


def test_no_samples_give_no_rows(preprocessor: Preprocessor, stored: np.ndarray[Any, Any]) -> None:
    found = compute_logits(TinyNet(), preprocessor, lambda part: stored[part], 0, batch_size=4, device=CPU)
    assert found.shape == (0, 3)


def test_the_model_is_left_as_it_was(preprocessor: Preprocessor, stored: np.ndarray[Any, Any]) -> None:
    net = TinyNet().train()
    net.norm.eval()  # a frozen layer in a model that trains
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    compute_logits(net, preprocessor, lambda part: stored[part], 7, batch_size=4, device=CPU)
    assert (net.training, net.norm.training, net.dropout.training) == (True, False, True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_autocast_of_the_caller_does_not_reach_it(preprocessor: Preprocessor, stored: np.ndarray[Any, Any]) -> None:
    net = TinyNet()
    plain = compute_logits(net, preprocessor, lambda part: stored[part], 7, batch_size=4, device=CPU)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = compute_logits(net, preprocessor, lambda part: stored[part], 7, batch_size=4, device=CPU)
        assert torch.is_autocast_enabled("cpu")
    np.testing.assert_array_equal(found, plain)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_reduced_precision_is_off_inside_and_back_outside(precision: str) -> None:
    torch.set_float32_matmul_precision(precision)
    before = [operation.fp32_precision for operation in OPERATIONS]
    try:
        with fp32_arithmetic():
            assert {operation.fp32_precision for operation in OPERATIONS} == {"ieee"}
        assert [operation.fp32_precision for operation in OPERATIONS] == before
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision("highest")


def test_settings_come_back_after_an_exception() -> None:
    before = [operation.fp32_precision for operation in OPERATIONS]
    net = TinyNet().train()

    def fail() -> None:
        with fp32_arithmetic(), eval_mode(net):
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [operation.fp32_precision for operation in OPERATIONS] == before
    assert net.training


def test_a_model_without_a_linear_head_is_refused(preprocessor: Preprocessor) -> None:
    net = nn.Sequential()
    net.head = nn.Identity()
    with pytest.raises(TypeError, match="Identity"):
        compute_logits(net, preprocessor, lambda part: np.empty(0), 0, batch_size=4, device=CPU)
