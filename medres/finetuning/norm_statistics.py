"""Running statistics of batch normalisation that fit the weights that a stage ends with.

While a stage trains, they trail behind: a moving mean over batches, of two or four volumes at times, under weights that
change with every step. The weights that are kept in the end, an average or those of an earlier epoch, never had these
statistics; the logits of such a network can be off by a constant, another one in each fold. Here they are computed anew
for weights that stand still, as mean and variance of all scans of an epoch together ("precise BN": Wu & Johnson,
arXiv:2105.07576, 2021; for averaged weights Izmailov et al., UAI 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from medres.finetuning.inference import eval_mode
from medres.finetuning.ranks import ALONE, Ranks
from medres.preprocessing.stacks import Inputs


class Moments(NamedTuple):
    """Mean and squared deviations of values that came in parts.

    Args:
        number: Of values a channel.
        mean: ``(C,)``.
        squares: Sum of their squared deviations from the mean, ``(C,)``.
    """

    number: int
    mean: torch.Tensor
    squares: torch.Tensor

    @classmethod
    def of(cls, values: torch.Tensor) -> Moments:
        """Return the moments of feature maps ``(B, C, *spatial)``, or of features ``(B, C)``."""
        number = values.numel() // values.shape[1]
        axes = [axis for axis in range(values.ndim) if axis != 1]
        variance, mean = torch.var_mean(values.float(), dim=axes, correction=0)
        return cls(number, mean, variance * number)

    def joined(self, other: Moments) -> Moments:
        """Return the moments of both together (Chan, Golub & LeVeque, Am. Stat. 1983).

        The mean of the batches' variances would be too small: what differs between batches is not in it.
        """
        number, apart = self.number + other.number, other.mean - self.mean
        between = apart.square() * (self.number * other.number / number)
        return Moments(number, self.mean + apart * (other.number / number), self.squares + other.squares + between)


@torch.no_grad()
def renew_statistics(network: nn.Module, batches: Iterable[Inputs], *, ranks: Ranks = ALONE) -> None:
    """Replace the running statistics of all batch normalisations by those of some batches, in place.

    Each layer is normalised by its batch on the way, as in training; dropout and stochastic depth are off, as in use.

    Args:
        network: With the weights that are kept; its modules stay in the modes that they came in.
        batches: What it reads; of several processes each brings its share, and all bring as many batches.
        ranks: Processes whose batches count together.

    Example:
        >>> network = nn.Sequential(nn.BatchNorm1d(1))
        >>> renew_statistics(network, [Inputs(torch.tensor([[1.0], [2.0]])), Inputs(torch.tensor([[6.0], [7.0]]))])
        >>> network[0].running_mean.item(), round(network[0].running_var.item(), 3)
        (4.0, 8.667)
    """
    layers = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not layers:
        return
    found = _moments(network, layers, batches)
    of_ranks = ranks.gathered(list(found.values()))
    for layer, parts in zip(found, zip(*of_ranks, strict=True), strict=True):
        number, mean, squares = reduce(Moments.joined, parts)
        layer.get_buffer("running_mean").copy_(mean)
        layer.get_buffer("running_var").copy_(squares / max(1, number - 1))


def _moments(network: nn.Module, layers: Sequence[_BatchNorm], batches: Iterable[Inputs]) -> dict[_BatchNorm, Moments]:
    """Return what each layer reads of some batches, but for layers that the network does not use."""
    found: dict[nn.Module, Moments] = {}

    def see(layer: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        seen = Moments.of(args[0])
        found[layer] = found[layer].joined(seen) if layer in found else seen

    with eval_mode(network), _normalised_by_batch(layers, see):
        for batch in batches:
            network(batch.scans, *batch.beside)
    read = {layer: found[layer] for layer in layers if layer in found}
    return {layer: Moments(number, mean.cpu(), squares.cpu()) for layer, (number, mean, squares) in read.items()}


@contextmanager
def _normalised_by_batch(layers: Sequence[_BatchNorm], see: Callable[..., None]) -> Iterator[None]:
    """Normalise by the batch inside the block, leave the buffers alone, and show `see` what each layer reads."""
    hooks = [layer.register_forward_pre_hook(see) for layer in layers]
    for layer in layers:
        layer.training, layer.track_running_stats = True, False
    try:
        yield
    finally:
        for layer, hook in zip(layers, hooks, strict=True):
            layer.track_running_stats = True
            hook.remove()
