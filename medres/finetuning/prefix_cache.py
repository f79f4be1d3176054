"""The frozen part of a network, run once: its activations are kept on disk for all epochs, folds and views.

A frozen layer gives the same activations for the same scan in every epoch and in every fold: they depend on its
tensors, the prepared scan and the seed of the view, and on nothing else. What is kept is found again by a digest of
all that. Pooled features are kept in fp32, since reported probabilities are made of them; feature maps in half
precision, where they fit into it (the largest half is 65,504), since only training reads them.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from medres.data.survey_memory import SURVEY_VERSION
from medres.finetuning.activations import Activations, mark_used, sweep_unused, view_key
from medres.finetuning.feed import Feed, Rows
from medres.finetuning.finite import require_finite
from medres.finetuning.inference import eval_mode, fp32_arithmetic, laid_out
from medres.finetuning.ranks import ALONE, Ranks
from medres.models.classifier import ClassificationModel
from medres.planning.plan import Plan
from medres.preprocessing.packed import PackedCache
from medres.preprocessing.stacks import Inputs
from medres.runs.atomic import make_private
from medres.runs.documents import digest_of
from medres.runs.progress import Progress

#: Raised whenever other activations are kept for the same digest.
_VERSION = 1
_LARGEST_HALF = float(np.finfo(np.float16).max)
#: Activations that are held in memory: features of the head, mostly.
_HELD_BYTES = 256 * 2**20

Autocast = Callable[[], AbstractContextManager[Any]]
OnEvent = Callable[..., object]


class _OverflowError(Exception):
    """An activation is beyond what half precision holds."""


@dataclass(frozen=True, kw_only=True)
class PrefixCache:
    """Computes and keeps the activations of frozen parts.

    Args:
        feed: Prepared scans.
        plan: Batch size and byte budget.
        folder: Where they are kept, shared by all runs.
        seed: Of the run: views are drawn from it.
        augment: Whether views after the first differ from the scan.
        autocast: Arithmetic of training, for what only training reads.
        storage: ``half``, or ``single`` to keep feature maps in fp32, too.
        progress: Shows batches.
        on_event: Called with the kind and the fields of each event.
        ranks: Processes that share the work; all of them call `open`, rank 0 writes.
    """

    feed: Feed
    plan: Plan
    folder: Path
    seed: int
    augment: bool
    autocast: Autocast
    storage: str
    progress: Progress
    on_event: OnEvent
    ranks: Ranks = ALONE

    def open(
        self, model: ClassificationModel, cut: str, *, groups: Sequence[Rows], views: int, exact: bool = False
    ) -> Activations | str:
        """Return the activations in front of a stage, computed where they are missing, or why there is no room.

        Args:
            model: Frozen before `cut` (`medres.finetuning.freezing.freeze_to`).
            cut: The stage that reads them.
            groups: Rows of the feed that are wanted; those of a group are computed in the same batches whenever it is
                asked for.
            views: How many views of each.
            exact: Whether they are computed in fp32: reported numbers are made of them. Else in training's arithmetic.

        Raises:
            TrainingError: The frozen part gives values that are not finite.
            OutputError: The disk is full or cannot be written.
        """
        prefix, _ = model.split_at(cut)
        probe = self._run(prefix, self._wanted(groups[0][:1], 1), exact)[0]
        kept = np.float32 if exact or cut == "head" or self.storage == "single" else np.float16
        kind = _Kind(cut, exact, np.dtype(kept), drawn=self.augment and views > 1)
        cache = self._cache(model, prefix, kind, probe)
        batches = [batch for rows in groups for batch in self._batches(rows, views)]
        refusal = self.ranks.first(lambda: self._no_room(cache, batches))
        if refusal:
            return refusal
        try:
            return self._filled(cache, prefix, batches, kind)
        except _OverflowError:
            self.on_event("activations_in_fp32", cut=cut, largest_half=_LARGEST_HALF)
            return replace(self, storage="single").open(model, cut, groups=groups, views=views, exact=exact)

    def _filled(
        self, cache: PackedCache, prefix: nn.Module, batches: Sequence[Sequence[_Wanted]], kind: _Kind
    ) -> Activations:
        self._fill(cache, prefix, batches, kind)
        if self.ranks.is_first:
            mark_used(cache)
        keys = _keys(batches)
        in_memory = len(keys) * cache.row_bytes <= _HELD_BYTES
        return Activations(
            feed=self.feed, cache=cache, slicewise=self.plan.slicewise,
            held=dict(zip(keys, cache.read_each(keys), strict=True)) if in_memory else {},
        )  # fmt: skip

    def _cache(
        self, model: ClassificationModel, prefix: nn.Module, kind: _Kind, probe: npt.NDArray[Any]
    ) -> PackedCache:
        # in 2.5D one with the most slices: (C, slices, *map)
        shape = (probe.shape[0], self.plan.shape[0], *probe.shape[2:]) if self.plan.slicewise else probe.shape
        key = self._key(model, prefix, kind)
        return PackedCache(self.folder, key=key, shape=shape, dtype=kind.dtype, ragged=self.plan.slicewise)

    def _key(self, model: ClassificationModel, prefix: nn.Module, kind: _Kind) -> str:
        # without views that are drawn, runs of all seeds read the same activations
        plan = self.plan
        return digest_of(
            {
                "version": _VERSION, "prefix": tensors_digest(prefix), "network": repr(prefix), "cut": kind.cut,
                "arch": model.backbone.arch, "seed": self.seed if kind.drawn else None, "dtype": kind.dtype.str,
                "preparation": self.feed.preprocessor.cache_key, "intensity": plan.intensity.to_mapping(),
                "augmentation": plan.augmentation.to_mapping() if kind.drawn else None,
                "drawn_by": SURVEY_VERSION if kind.drawn else None,  # of the same scan it changes with the survey alone
                "channels": [plan.in_channels, plan.neighbours],
                "arithmetic": "fp32" if kind.exact else plan.precision, "device": self.feed.device.type,
            }
        )  # fmt: skip

    def _fill(self, cache: PackedCache, prefix: nn.Module, batches: Sequence[Sequence[_Wanted]], kind: _Kind) -> None:
        wanted = _keys(batches)
        if self.ranks.first(lambda: cache.contains(wanted)):
            cache.refresh()
            return
        waiting = partial(self.progress.note, "another process computes the same frozen part: waiting for it")
        with cache.locked(on_wait=waiting) if self.ranks.is_first else nullcontext():
            due = self.ranks.first(lambda: _due(batches, set(cache.missing(wanted))))
            computed = self._computed(prefix, [batches[number] for number in due], kind)
            if self.ranks.is_first:
                cache.add(computed)
            else:  # nothing comes out of it, rank 0 gets all
                deque(computed, maxlen=0)
        self.ranks.wait()
        cache.refresh()

    def _computed(
        self, prefix: nn.Module, batches: Sequence[Sequence[_Wanted]], kind: _Kind
    ) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """Yield all activations on rank 0; every process computes one batch in turn."""
        ranks = self.ranks
        for start in self.progress.track(
            range(0, len(batches), ranks.size), description=f"frozen part before {kind.cut}",
            total=ranks.share_size(len(batches)),
        ):  # fmt: skip
            mine = batches[start : start + ranks.size][ranks.rank : ranks.rank + 1]
            arrays = [array for batch in mine for array in self._run(prefix, batch, kind.exact)]
            if ranks.largest(any(_overflows(array, kind.dtype) for array in arrays)):
                raise _OverflowError
            stored = ranks.gathered_first([_stored(array, kind.dtype) for array in arrays])
            keys = _keys(batches[start : start + ranks.size])
            yield from zip(keys, stored, strict=ranks.is_first)

    def _batches(self, rows: Rows, views: int) -> list[list[_Wanted]]:
        wanted, size = self._wanted(rows, views), self.ranks.share_size(self.plan.batch_size)
        return [wanted[start : start + size] for start in range(0, len(wanted), size)]

    def _wanted(self, rows: Rows, views: int) -> list[_Wanted]:
        """Return every scan once a view: identical scans have one key."""
        keys = {self.feed.keys[row]: int(row) for row in reversed(rows)}
        return [_Wanted(view_key(key, view), keys[key], view) for view in range(views) for key in sorted(keys)]

    def _run(self, prefix: nn.Module, batch: Sequence[_Wanted], exact: bool) -> list[npt.NDArray[np.float32]]:
        inputs = _joined([self._inputs(batch, view) for view in dict.fromkeys(item.view for item in batch)])
        with eval_mode(prefix), torch.no_grad(), fp32_arithmetic() if exact else self.autocast():
            out = prefix(laid_out(inputs), *inputs.beside).float().cpu()
        if inputs.slice_mask is None:
            return list(out.numpy())
        # slices that a view left out are not kept: without them the attention pools the same features
        masks = inputs.slice_mask.cpu().numpy()
        return [np.moveaxis(row[mask], 0, 1) for row, mask in zip(out.numpy(), masks, strict=True)]

    def _inputs(self, batch: Sequence[_Wanted], view: int) -> Inputs:
        rows = np.array([item.row for item in batch if item.view == view], dtype=np.int64)
        # epochs are counted from 1: a view never repeats the augmentation of an epoch
        seeds = self.feed.seeds(rows, seed=self.seed, epoch=-view) if view and self.augment else None
        return self.feed.inputs(rows, seeds=seeds)

    def _no_room(self, cache: PackedCache, batches: Sequence[Sequence[_Wanted]]) -> str:
        """Return why activations cannot be kept; empty where they can, or are there already."""
        keys, budget = _keys(batches), self.plan.activation_bytes
        needed = cache.row_bytes * len(keys)
        if needed > budget:
            return f"{_in_bytes(needed)} of activations are more than the plan's {_in_bytes(budget)}"
        make_private(self.folder)
        # what is there takes no more room: the next fold, or a run that goes on, decides as the first did
        due = cache.row_bytes * len(cache.missing(keys))
        if shutil.disk_usage(self.folder).free < 2 * due:
            mark_used(cache)
            sweep_unused(self.folder)
        free = shutil.disk_usage(self.folder).free
        return (
            f"{_in_bytes(due)} of activations are more than half of the {_in_bytes(free)} free"
            if free < 2 * due
            else ""
        )


class _Kind(NamedTuple):
    """What is kept: in front of which stage, computed in fp32 or not, as which type, and whether views are drawn."""

    cut: str
    exact: bool
    dtype: np.dtype[Any]
    drawn: bool


class _Wanted(NamedTuple):
    """One view of one scan."""

    key: str
    row: int
    view: int


def _keys(batches: Sequence[Sequence[_Wanted]]) -> list[str]:
    return [item.key for batch in batches for item in batch]


def _in_bytes(num_bytes: int) -> str:
    return f"{num_bytes:,} bytes"


def tensors_digest(module: nn.Module) -> str:
    """Return the SHA-256 of all parameters and buffers of a module, names, types and shapes included."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _stored(array: npt.NDArray[np.float32], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    require_finite(array, what="values")
    return np.ascontiguousarray(array, dtype=dtype)


def _overflows(array: npt.NDArray[np.float32], dtype: np.dtype[Any]) -> bool:
    # what is not finite is refused, however it would be stored
    return dtype == np.float16 and bool(np.isfinite(array).all()) and bool(np.abs(array).max() > _LARGEST_HALF)


def _due(batches: Sequence[Sequence[_Wanted]], missing: set[str]) -> list[int]:
    """Return which batches are computed.

    Whole batches, whatever is missing of them: how a sum is rounded may depend on the batch, and a run that is
    continued must find the same bits.
    """
    return [number for number, batch in enumerate(batches) if any(item.key in missing for item in batch)]


def _joined(parts: Sequence[Inputs]) -> Inputs:
    """Return inputs of several views as one batch; stacks are filled up to the most slices."""
    if len(parts) == 1:
        return parts[0]
    if parts[0].slice_mask is None:
        return Inputs(torch.cat([part.scans for part in parts]))
    depth = max(part.scans.shape[1] for part in parts)
    scans = [_deepened(part.scans, depth) for part in parts]
    masks = [_deepened(part.slice_mask, depth) for part in parts if part.slice_mask is not None]
    return Inputs(torch.cat(scans), torch.cat(masks))


def _deepened(tensor: torch.Tensor, depth: int) -> torch.Tensor:
    missing = depth - tensor.shape[1]
    return (
        torch.cat([tensor, tensor.new_zeros((len(tensor), missing, *tensor.shape[2:]))], dim=1) if missing else tensor
    )
