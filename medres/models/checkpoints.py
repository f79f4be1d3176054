"""Files of tensors: safetensors and torch files, opened without running any code that they hold.

What a file is, is decided by its content. Whatever its maker wrapped around the network (a training state,
DataParallel, Lightning, an encoder inside of something larger) is taken off, so that the names left are those of
timm and torchvision (`medres.models.key_styles`).
"""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from medres.errors import WeightsError
from medres.models.key_styles import CLASSIFIER_PARTS as CLASSIFIER_PARTS
from medres.models.key_styles import TRAINING_PARTS as TRAINING_PARTS
from medres.models.key_styles import is_part_of as is_part_of
from medres.models.key_styles import plainly_named, unwrapped
from medres.models.several_networks import best_network, is_averaged
from medres.models.stored_tensors import damaged, require_stored, require_stored_plainly
from medres.runs.documents import sha256_of
from medres.runs.host_warnings import ignored_warnings
from medres.runs.plain_data import shortened

#: Suffixes of weights files.
WEIGHTS_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".th", ".ckpt")

#: Keys of a training state that hold no network.
_OF_TRAINING = re.compile(r"optim|sched|scaler|criterion|loss|^_metadata$")
_DEPTH = 8
_SHOWN = 3
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a weights file holds.

    Args:
        tensors: By name, wrappers taken off; floating point numbers in float32.
        metadata: Text of a safetensors header, empty for torch files.
        sha256: Of the file.
        names: Of the tensors as they stand in the file.
        notes: What of the file was left out, for the user.
    """

    tensors: dict[str, torch.Tensor]
    metadata: dict[str, str]
    sha256: str
    names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a weights file.

    Raises:
        WeightsError: The file is missing, truncated, no weights file, holds Python objects, tensors of a kind that
            no network here has, or values that cannot be (not finite, negative variances).
    """
    try:
        sha256 = sha256_of(path)
        state, metadata = _read_safetensors(path) if _is_safetensors(path) else (_read_torch(path), {})
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.", fix="Check the path.") from None
    given, notes = state_dict_of(state, path)
    _check_kinds(given, path)
    require_stored(given, path)
    named = plainly_named(given)
    tensors = {name: _as_float32(tensor) for name, tensor in named.tensors.items()}
    _check_finite(tensors, path)
    return Checkpoint(
        tensors=tensors, metadata=metadata, sha256=sha256, names=tuple(given), notes=(*notes, *named.notes)
    )


def hash_note(path: Path, sha256: str) -> str:
    """Return whether the file's SHA-256 agrees with its name (torch hub's convention), or nothing where it has none.

    Example:
        >>> hash_note(Path("resnet20-12fca82f.th"), "12fca82f0beb")
        'the SHA-256 agrees with the file name'
        >>> hash_note(Path("resnet20.th"), "12fca82f0beb")
        ''
    """
    found = _HASH_IN_NAME.search(path.name)
    if found is None or found[1].isdigit():  # eight digits are more often a date
        return ""
    agrees = sha256.startswith(found[1])
    return "the SHA-256 agrees with the file name" if agrees else "the SHA-256 does NOT agree with the file name"


def state_dict_of(content: Any, path: Path) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Find the network's tensors in what a training program saved, and say which other networks were left out.

    Raises:
        WeightsError: There are none.

    Example:
        >>> content = {"epoch": 3, "state_dict": {"fc.bias": torch.zeros(2)}}
        >>> list(state_dict_of(content, Path("last.pt"))[0])
        ['fc.bias']
    """
    found = dict(_tensors_by_place(content))
    if not found:
        raise WeightsError(
            f"{path.name} holds no tensors by name (it holds {_describe(content)}).",
            fix="Save the network's state_dict() into a file and give that.",
        )
    networks = {place: tensors for place, tensors in found.items() if _has_kernels(tensors)} or found
    taken = best_network({place: unwrapped(tensors) for place, tensors in networks.items()})
    left = {place: tensors for place, tensors in networks.items() if place != taken}
    notes = (_left_note(taken, left),) if left else ()
    return networks[taken], (*notes, *_unnamed_notes(content))


def _tensors_by_place(
    content: Any, place: tuple[str, ...] = (), seen: set[int] | None = None
) -> Iterator[tuple[tuple[str, ...], dict[str, torch.Tensor]]]:
    """Yield the mappings that hold tensors by name, with the keys that lead to them."""
    seen = set() if seen is None else seen
    if not isinstance(content, Mapping) or id(content) in seen or len(place) > _DEPTH:
        return
    seen.add(id(content))  # pickles may hold one mapping a million times, or inside of itself
    named = {key: value for key, value in content.items() if isinstance(key, str)}
    if tensors := {key: value for key, value in named.items() if isinstance(value, torch.Tensor)}:
        yield place, tensors
    for key, value in named.items():
        if not _OF_TRAINING.search(key.lower()):
            yield from _tensors_by_place(value, (*place, key), seen)


def _unnamed_notes(content: Any, place: tuple[str, ...] = ()) -> Iterator[str]:
    """Say which averaged weights cannot be taken: lists of tensors, without the names of theirs."""
    for key, value in content.items() if isinstance(content, Mapping) and len(place) < 2 else ():
        inner = (*place, str(key))
        if isinstance(value, (list, tuple)) and is_averaged(inner) and any(map(torch.is_tensor, value)):
            yield f"averaged weights without names were left out: {_place_name(inner)} ({len(value)} tensors)"
        yield from _unnamed_notes(value, inner)


def _has_kernels(tensors: Mapping[str, torch.Tensor]) -> bool:
    return any(tensor.ndim >= 3 for tensor in tensors.values())


def _left_note(taken: tuple[str, ...], left: Mapping[tuple[str, ...], Mapping[str, torch.Tensor]]) -> str:
    averaged = " (averaged weights)" if is_averaged(taken) else ""
    others = [f"{_place_name(place)} ({len(tensors)} tensors)" for place, tensors in list(left.items())[:_SHOWN]]
    more = f", and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
    return f"of several networks {_place_name(taken)}{averaged} was taken; left out: {', '.join(others)}{more}"


def _place_name(place: tuple[str, ...]) -> str:
    return shortened(".".join(place)) if place else "the outer one"


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise WeightsError(f"{path.name} is empty (0 bytes).", fix="Fetch it again.")
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path.name} is a Git LFS pointer, not the file itself.", fix="Run `git lfs pull`.")
    # the length of the header comes first; the format limits it to 100 MB, which no zip or pickle reads as
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= 100_000_000:
        return True
    if not head.startswith((b"PK\x03\x04", b"\x80")):
        raise WeightsError(
            f"{path.name} is neither a safetensors nor a torch file ({path.stat().st_size:,} bytes, "
            f"starting with {head[:12]!r}).",
            fix="Fetch it again: a login or error page may have been saved in its place.",
        )
    return False


def _read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except SafetensorError as error:
        raise damaged(path, error) from None


def _read_torch(path: Path) -> Any:
    is_zip = require_stored_plainly(path)
    try:
        # torch warns about the pickle protocols of files that it then reads or refuses
        with ignored_warnings(UserWarning):
            # mapped, not read: a tensor that the file only claims to hold takes no memory
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise (damaged if "invalid load key" in str(error) else _needs_pickle)(path, error) from None
    except (RuntimeError, OSError, EOFError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError,
            MemoryError, AssertionError, struct.error) as error:  # fmt: skip
        # what torch raises for a file that ends early depends on where it ends
        raise (_needs_pickle if "TorchScript" in str(error) else damaged)(path, error) from None


def _needs_pickle(path: Path, error: Exception) -> WeightsError:
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    what = found[1] if found else "TorchScript" if "TorchScript" in str(error) else "Python objects"
    return WeightsError(
        f"{path.name} cannot be opened without pickle ({what}): that would run code which the file brings along.",
        fix="If you trust its source, convert it where it was made: "
        "safetensors.torch.save_file(network.state_dict(), 'weights.safetensors').",
    )


def _check_kinds(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    kinds = {name: kind for name, tensor in tensors.items() if (kind := _kind(tensor))}
    if kinds:
        listed = ", ".join(f"{name} ({kind})" for name, kind in list(kinds.items())[:3])
        raise WeightsError(
            f"{path.name} holds tensors that are no plain numbers: {listed}"
            f"{f' and {len(kinds) - 3} more' if len(kinds) > 3 else ''}.",
            fix="Save the network's state_dict() before it is quantised or made sparse, with real numbers in float32.",
        )


def _kind(tensor: torch.Tensor) -> str:
    """Return what keeps a tensor from being read as plain numbers, empty where nothing does."""
    if tensor.is_meta:
        return "without values, on torch's meta device"
    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.is_complex():
        return "complex"
    is_packed = re.search(r"bits|x2$", str(tensor.dtype)) is not None  # several numbers a byte
    return "quantised" if tensor.is_quantized or is_packed else ""


def _as_float32(tensor: torch.Tensor) -> torch.Tensor:
    # a copy: what is mapped would change with the file
    kept = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to(kept, copy=True)


def _check_finite(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    broken = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise WeightsError(
            f"{path.name} holds values that are not finite in {', '.join(broken[:3])}"
            f"{f' and {len(broken) - 3} more' if len(broken) > 3 else ''}.",
            fix="Its training diverged or the file is damaged; use another.",
        )
    negative = [name for name, tensor in tensors.items() if name.endswith("running_var") and bool((tensor < 0).any())]
    if negative:
        raise WeightsError(
            f"{path.name} holds negative variances in {', '.join(negative[:3])}: roots of them are no numbers.",
            fix="The file is damaged, or its tensors were mixed up; use another.",
        )


def _describe(content: Any) -> str:
    if isinstance(content, Mapping):
        return "the entries " + ", ".join(map(str, list(content)[:5])) if content else "nothing"
    return f"one {type(content).__name__}"
