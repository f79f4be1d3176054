"""``last.ckpt``: what a killed fold continues from, whole or not there, without pickle.

A safetensors file: tensors under their names, everything else as JSON in its header. Each tensor has a checksum, since
a disk may lose what the file system promised. No random state is in it: every draw of a training step depends on the
run's seed, the epoch and the step alone, so that there is none to restore.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from medres.errors import StoppedError, TrainingError
from medres.runs.atomic import atomic_write
from medres.runs.plain_data import parse_json

#: Raised whenever older files could not be continued.
FORMAT = 1
_KEY = "medres"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state of a fold between two steps.

    Args:
        identity: Digest of all that the state depends on; a run of other settings does not continue from it.
        facts: Plain values (JSON).
        tensors: By name.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "last.ckpt"
        >>> Checkpoint(identity="a", facts={"epoch": 3}, tensors={"w": torch.ones(2)}).write(path)
        >>> Checkpoint.read(path).facts
        {'epoch': 3}
    """

    identity: str
    facts: dict[str, Any]
    tensors: dict[str, torch.Tensor]

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            OutputError: The disk is full (naming the bytes that were needed) or cannot be written.
        """
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.tensors.items()}
        checksums = {name: _checksum(tensor) for name, tensor in tensors.items()}
        header = {"format": FORMAT, "identity": self.identity, "facts": self.facts, "checksums": checksums}
        content = safetensors.torch.save(tensors, metadata={_KEY: json.dumps(header)})
        with atomic_write(path, num_bytes=len(content)) as file:
            file.write(content)

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Read the file and check every tensor.

        Raises:
            TrainingError: It is damaged, or of another version of medres.
        """
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                header = parse_json((file.metadata() or {})[_KEY], allow_nan=True)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 -- it has no __iter__
        except (safetensors.SafetensorError, KeyError, ValueError, OSError, struct.error) as error:
            raise _damaged(path, str(error)) from None
        if header["format"] != FORMAT:
            raise TrainingError(
                f"{path} is of format {header['format']}, this medres continues format {FORMAT}.",
                fix="Continue it with the version of medres that began it, or remove the file to train the fold anew.",
            )
        if {name: _checksum(tensor) for name, tensor in tensors.items()} != header["checksums"]:
            raise _damaged(path, "a checksum does not agree")
        return cls(identity=header["identity"], facts=header["facts"], tensors=tensors)


def part_of(tensors: Mapping[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    """Return the tensors under ``part/`` by the rest of their names.

    Example:
        >>> list(part_of({"model/w": torch.ones(1), "average/w": torch.ones(1)}, "model"))
        ['w']
    """
    return {name.removeprefix(f"{part}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{part}/")}


def named_part(tensors: Mapping[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    """Return tensors under ``part/``: what `part_of` undoes."""
    return {f"{part}/{name}": tensor for name, tensor in tensors.items()}


def _checksum(tensor: torch.Tensor) -> int:
    return zlib.crc32(tensor.contiguous().flatten().view(torch.uint8).numpy().data)


def _damaged(path: Path, reason: str) -> StoppedError:
    return StoppedError(
        f"{path} is damaged ({reason}).", fix="Remove it and resume: this fold is then trained from its beginning."
    )
