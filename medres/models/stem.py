"""The first convolution for any number of channels, with the weights of an RGB net kept.

A net that was pretrained on RGB saw ``(p - m_c) / s_c`` in channel c. For a grey value p in all three channels its
first convolution W gives ``sum_c W_c * (p - m_c) / s_c``. With the scalars s = mean(s_c), m = mean(m_c) and the
network's own input z = (p - m) / s that is, exactly,

    ``[sum_c W_c * s / s_c] * z  +  [sum_c W_c * (m - m_c) / s_c] * 1``

The first bracket is the folded kernel, divided evenly over the C input channels (grey replicated over C channels
gives the same response). The second is the kernel of a constant input. It is convolved with an image of ones, not
added as a bias, because at the zero-padded border only a part of the kernel lies on the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812  (its name everywhere)
from timm.layers import Conv2dSame, StdConv2d, StdConv2dSame, pad_same
from torch import nn
from torch.nn.modules.conv import _ConvNd

#: Channels of nets that were pretrained on photographs.
RGB = 3


class FoldedConv(_ConvNd):
    """A convolution of ``C`` channels plus the response to a constant; base of `FoldedConv2d` and `FoldedConv3d`.

    It stands in every network whose input is not RGB, with a zero ``offset_kernel`` where nothing was folded: the keys
    of a saved network do not depend on where its weights came from.
    """

    offset_kernel: torch.Tensor
    same_padding: bool
    standardise_eps: float | None
    has_offset: bool

    def adopt(self, conv: nn.Conv2d | nn.Conv3d) -> None:
        """Take over the effective weights and the padding of ``conv``, a convolution of the same geometry."""
        self.standardise_eps = standardisation_eps(conv)
        # timm's "same" convolutions pad by the size of the input, outside of their own padding
        self.same_padding = isinstance(conv, Conv2dSame) or (isinstance(conv, StdConv2dSame) and conv.same_pad)
        self.register_buffer("offset_kernel", torch.zeros_like(conv.weight.detach()[:, :1]))
        self.has_offset = False
        with torch.no_grad():
            self.weight.copy_(standardise(conv.weight, self.standardise_eps))
            if self.bias is not None and conv.bias is not None:
                self.bias.copy_(conv.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve ``(B, C, *spatial)``."""
        y = self._convolve(x, self.weight, self.bias)
        if self.has_offset:
            y = y + self._convolve(x.new_ones(1, 1, *x.shape[2:]), self.offset_kernel, None)
        return y

    def _convolve(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        if self.same_padding:
            x = pad_same(x, self.kernel_size, self.stride, self.dilation)
        return self._conv_forward(x, weight, bias)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        # kept as a flag: asking the buffer at each step would wait for the device
        self.has_offset = not self.offset_kernel.is_meta and bool(self.offset_kernel.any())


class FoldedConv2d(FoldedConv, nn.Conv2d):
    """`FoldedConv` of images."""


class FoldedConv3d(FoldedConv, nn.Conv3d):
    """`FoldedConv` of volumes."""


def folded_conv(conv: nn.Conv2d | nn.Conv3d) -> FoldedConv2d | FoldedConv3d:
    """Return a `FoldedConv` with the geometry and the effective weights of ``conv``, which stays as it is.

    A weight-standardised convolution becomes a plain one: it is standardised here, once, because standardising after
    folding would undo the folding.
    """
    kind: Any = FoldedConv3d if isinstance(conv, nn.Conv3d) else FoldedConv2d
    folded: FoldedConv2d | FoldedConv3d = kind(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        bias=conv.bias is not None,
        padding_mode=conv.padding_mode,
    )
    folded.adopt(conv)
    return folded


@dataclass(frozen=True, eq=False)
class AdaptedStem:
    """Pretrained tensors for a stem.

    Args:
        weight: Kernel ``(O, C, *k)``; of another shape than the stem's where no rule leads there.
        offset: Kernel of a constant ``(O, 1, *k)``, None for a stem that has none.
        how: What was done, empty for nothing.
    """

    weight: torch.Tensor
    offset: torch.Tensor | None
    how: str


def adapt_stem(
    kernel: torch.Tensor,
    offset: torch.Tensor | None,
    *,
    conv: nn.Module,
    mean: Sequence[float],
    std: Sequence[float],
) -> AdaptedStem:
    """Bring a pretrained first kernel to the channels of ``conv``.

    Args:
        kernel: ``(O, D, *k)``: D = 3 is folded, D = 1 divided evenly over the channels.
        offset: Its kernel of a constant, where the weights come from a network with a `FoldedConv`.
        conv: The stem of the network: a `FoldedConv`, or the plain convolution of an RGB net.
        mean: Input mean of the weights, one for each of its channels or one for all.
        std: The same for the standard deviation.
    """
    in_channels = int(cast(Any, conv).in_channels)
    if not isinstance(conv, FoldedConv):
        is_grey = kernel.shape[1] == 1 and standardisation_eps(conv) is None and (offset is None or not offset.any())
        weight = spread(kernel, in_channels) if is_grey else kernel
        return AdaptedStem(weight, None, f"divided over {in_channels} channels" if is_grey else "")
    if offset is None:
        # a kernel with an offset was standardised when its network was built
        kernel, offset = standardise(kernel, conv.standardise_eps), torch.zeros_like(kernel[:, :1])
    if kernel.shape[1] == in_channels:
        return AdaptedStem(kernel, offset, "")
    if kernel.shape[1] == RGB and len(mean) in (1, RGB) and not offset.any():
        means, stds = (tuple(values) * RGB if len(values) == 1 else values for values in (mean, std))
        weight, offset = fold_kernel(kernel, mean=means, std=stds, in_channels=in_channels)
        return AdaptedStem(weight, offset, f"RGB folded to {in_channels} channel{'s' if in_channels > 1 else ''}")
    if kernel.shape[1] == 1:
        return AdaptedStem(spread(kernel, in_channels), offset, f"divided over {in_channels} channels")
    return AdaptedStem(kernel, offset, "")


def fold_kernel(
    kernel: torch.Tensor, *, mean: Sequence[float], std: Sequence[float], in_channels: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fold an RGB kernel and its input statistics to ``in_channels`` channels of one scalar mean and deviation.

    Args:
        kernel: ``(O, 3, *k)``.
        mean: Mean of each of the three channels that the weights were trained with.
        std: Their standard deviations.
        in_channels: Channels of the new kernel.

    Returns:
        ``(weight (O, in_channels, *k), offset_kernel (O, 1, *k))``.

    Example:
        >>> weight, offset = fold_kernel(torch.ones(1, 3, 1, 1), mean=(0.5,) * 3, std=(0.5,) * 3, in_channels=1)
        >>> weight.item(), offset.item()
        (3.0, 0.0)
    """
    scalar_mean, scalar_std = scalar_statistic(mean), scalar_statistic(std)
    per_channel = (1, RGB, *[1] * (kernel.ndim - 2))
    # float64: the sum of three rounded products would cost a digit of the 1e-5 that is promised
    means = torch.tensor(mean, dtype=torch.float64).view(per_channel)
    stds = torch.tensor(std, dtype=torch.float64).view(per_channel)
    exact = kernel.double()
    weight = (exact * scalar_std / stds).sum(1, keepdim=True)
    offset = (exact * (scalar_mean - means) / stds).sum(1, keepdim=True)
    return spread(weight, in_channels).to(kernel.dtype), offset.to(kernel.dtype)


def spread(kernel: torch.Tensor, in_channels: int) -> torch.Tensor:
    """Divide a one-channel kernel evenly over ``in_channels`` channels."""
    return kernel.expand(-1, in_channels, *kernel.shape[2:]) / in_channels


def scalar_statistic(values: Sequence[float]) -> float:
    """Return the mean of per-channel statistics; equal values give that very value, without rounding.

    Example:
        >>> scalar_statistic((0.1, 0.1, 0.1))
        0.1
    """
    return values[0] if len(set(values)) == 1 else sum(values) / len(values)


def standardisation_eps(conv: nn.Module) -> float | None:
    """Return the epsilon of timm's weight-standardised convolutions, None for plain ones."""
    return float(conv.eps) if isinstance(conv, (StdConv2d, StdConv2dSame)) else None


def standardise(kernel: torch.Tensor, eps: float | None) -> torch.Tensor:
    """Return each filter with mean 0 and variance 1 (Qiao et al. 2019, arXiv:1903.10520), as timm's StdConv2d does."""
    if eps is None:
        return kernel
    flat = kernel.reshape(1, kernel.shape[0], -1)
    return F.batch_norm(flat, None, None, training=True, momentum=0.0, eps=eps).reshape_as(kernel)


def first_conv(modules: dict[str, nn.Module]) -> str:
    """Return the path of the first convolution below ``modules``, in their order."""
    for name, module in modules.items():
        for path, child in module.named_modules():
            if isinstance(child, (nn.Conv2d, nn.Conv3d)):
                return f"{name}.{path}".rstrip(".")
    raise ValueError("a stem without a convolution")
