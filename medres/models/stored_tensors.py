"""Whether tensors are as large as what a file stores of them, asked before any of them is touched.

A tensor of a torch file is a view: sizes and strides over a stored block. With a stride of 0 a view of 50,000 x 50,000
numbers fits into a file of 1.6 kB, and the first copy of it asks for 10 GB. Records of the archive may be compressed a
thousandfold as well. `torch.save` does neither for a network.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from medres.data.readers.zips import ZIP_ERRORS
from medres.errors import WeightsError
from medres.runs.plain_data import shortened

#: Numbers of one network: the largest that medres builds (resnetv2_152x4_bit) has 0.9e9, with its classifier.
MAX_NUMBERS = 2**32

_AGAIN = "Save the network's state_dict() again with contiguous tensors: {name: tensor.clone()}."


def require_stored(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Refuse tensors that are larger than what the file stores of them, one by one or together.

    Args:
        tensors: Dense ones, by name.
        path: Their file.

    Raises:
        WeightsError: Naming the tensor, the size that it declares and the bytes that are stored.
    """
    for name, tensor in tensors.items():
        declared, stored = _num_bytes(tensor), tensor.untyped_storage().nbytes()
        if declared > stored:
            raise WeightsError(
                f"{path.name} declares {name} as {_shape(tensor)} ({declared:,} bytes), and stores {stored:,} bytes "
                "of it.",
                fix=_AGAIN,
            )
    declared, stored = sum(map(_num_bytes, tensors.values())), path.stat().st_size
    # tied weights stand under two names
    if declared > 2 * stored:
        raise WeightsError(
            f"{path.name} declares {len(tensors)} tensors of {declared:,} bytes together, and has {stored:,} bytes.",
            fix=_AGAIN,
        )
    if (numbers := sum(tensor.numel() for tensor in tensors.values())) > MAX_NUMBERS:
        raise WeightsError(
            f"{path.name} holds a network of {numbers:,} numbers; the largest that medres builds has fewer than "
            f"{MAX_NUMBERS:,}.",
            fix="Give the weights of a network that `medres archs` lists.",
        )


def require_stored_plainly(path: Path) -> bool:
    """Return whether a torch file is an archive; refuse one that torch.save does not write.

    Raises:
        WeightsError: Naming the compressed record, its size and the bytes that are stored, or what it holds instead;
            or it is damaged, so that its records are not known.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return False
    records = _records(path)
    if not any(record.filename.endswith("/data.pkl") for record in records):
        raise WeightsError(
            f"{path.name} is a zip archive, but none of torch.save (it holds {_first(records)}).",
            fix="Give a file that torch.save or safetensors wrote.",
        )
    for record in records:
        if record.compress_type != zipfile.ZIP_STORED or record.file_size != record.compress_size:
            raise WeightsError(
                f"{path.name} holds a compressed record ({_name(record)}: {record.file_size:,} bytes out of "
                f"{record.compress_size:,}), which torch.save never writes.",
                fix="Unpack it and save the network's state_dict() again with torch.save.",
            )
    return True


def _records(path: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    # not left to torch, whose own reader may find an archive where this one does not: its records were never asked
    except ZIP_ERRORS as error:
        raise damaged(path, error) from None


def damaged(path: Path, error: Exception) -> WeightsError:
    """Return the error of a weights file that ends early or was changed, with the reader's reason."""
    reason = re.split(r"[.\n]", str(error).strip(), maxsplit=1)[0] or "it ends early"
    return WeightsError(
        f"{path.name} is truncated or damaged ({path.stat().st_size:,} bytes: {reason}).",
        fix="Fetch it again and compare its size and SHA-256 with the source.",
    )


def _first(records: Sequence[zipfile.ZipInfo]) -> str:
    return ", ".join(map(_name, records[:3])) or "nothing"


def _name(record: zipfile.ZipInfo) -> str:
    return shortened(record.filename)


def _num_bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _shape(tensor: torch.Tensor) -> str:
    return " x ".join(f"{size:,}" for size in tensor.shape) or "one number"
