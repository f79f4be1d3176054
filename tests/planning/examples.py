"""Data sets, backbones and machines that the tests of planning are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from medres.data.statistics import PERCENTILES, Modality, ScanStatistics
from medres.planning.facts import BackboneFacts, MachineFacts
from medres.planning.fingerprint import Fingerprint, make_fingerprint

IMAGENET = {"input_mean": (0.485, 0.456, 0.406), "input_std": (0.229, 0.224, 0.225)}

CPU = MachineFacts(device="cpu", num_cores=2, memory_bytes=6 * 2**30)
GPU = MachineFacts(device="cuda", num_cores=16, memory_bytes=24 * 2**30, bf16=True)


def backbone(dims: int, *, pretrained: bool = False, **changes: Any) -> BackboneFacts:
    """A resnet18, inflated in 3D."""
    given = (
        {"pretrained": True, "input_size": 224, "weights_source": "resnet18.tv_in1k", **IMAGENET} if pretrained else {}
    )
    parameters = 11_170_000 if dims == 2 else 33_160_000
    base = {"arch": "resnet18", "spatial_dims": dims, "total_stride": 32, "num_features": 512}
    return BackboneFacts.from_mapping({**base, "num_parameters": parameters, **given, **changes})


def scan(
    shape: Sequence[int], *, modality: Modality = "other", dtype: str = "float32", low: float = 0.0, high: float = 1.0,
    box: Sequence[tuple[int, int]] | None = None, **changes: Any,
) -> ScanStatistics:  # fmt: skip
    """Statistics of a scan with values spread evenly from low to high."""
    levels = {f"{level:g}": low + (high - low) * level / 100 for level in PERCENTILES}
    return ScanStatistics(
        spatial_shape=tuple(shape), dtype=dtype, num_channels=changes.pop("num_channels", 1), minimum=low, maximum=high,
        percentiles=changes.pop("percentiles", levels), foreground_fraction=0.5,
        foreground_box=tuple(box or ((0, size) for size in shape)), modality=modality, evidence="as drawn", **changes,
    )  # fmt: skip


def fingerprint(scans: Iterable[ScanStatistics]) -> Fingerprint:
    return make_fingerprint({f"patient-{index}": item for index, item in enumerate(scans)})


def chest_ct(count: int = 40) -> list[ScanStatistics]:
    """Isotropic chest CT, LPS, with a table and air around."""
    rng = np.random.default_rng(0)
    return [_ct((512, 512, int(rng.integers(280, 340))), (0.7, 0.7, 1.0), trim=60) for _ in range(count)]


def thick_ct(count: int = 40, slices: int = 30) -> list[ScanStatistics]:
    """CT of 5 mm slices."""
    return [_ct((512, 512, slices + index % 5), (0.6, 0.6, 5.0), trim=0) for index in range(count)]


def brain_mr(count: int = 40) -> list[ScanStatistics]:
    """Isotropic head MR in PSR order, each with a scale of its own."""
    return [
        scan((256, 256, 180), modality="MR", dtype="int16", high=300.0 * 1.3**index, spacing_mm=(1.0, 1.0, 1.0),
             orientation="PSR", box=((30, 220), (40, 230), (20, 160)))
        for index in range(count)
    ]  # fmt: skip


def pictures(count: int = 40) -> list[ScanStatistics]:
    """8-bit pictures of mixed sizes with black borders."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(180, 640, size=(count, 2))
    return [
        scan((int(h), int(w)), dtype="uint8", high=255, box=((h // 8, h - h // 8), (w // 8, w - w // 8)))
        for h, w in sizes
    ]


def medmnist(dims: int, count: int = 40) -> list[ScanStatistics]:
    return [scan((28,) * dims, dtype="uint8", high=255) for _ in range(count)]


def identity_cubes(count: int = 40) -> list[ScanStatistics]:
    """51^3 in [0, 1] with a legal identity affine."""
    return [scan((51, 51, 51), spacing_mm=(1.0, 1.0, 1.0), orientation="RAS") for _ in range(count)]


def _ct(shape: Sequence[int], spacing: Sequence[float], *, trim: int) -> ScanStatistics:
    box = ((trim, shape[0] - trim), (trim, shape[1] - trim), (0, shape[2]))
    return scan(shape, modality="CT", dtype="int16", low=-1024, high=1500, spacing_mm=tuple(spacing),
                orientation="LPS", box=box)  # fmt: skip


DATA_SETS = {
    "chest CT": chest_ct, "thick CT": thick_ct, "brain MR": brain_mr, "pictures": pictures,
    "MedMNIST 2D": lambda: medmnist(2), "MedMNIST 3D": lambda: medmnist(3), "cubes": identity_cubes,
}  # fmt: skip

# --- families for hypothesis

_CODES = ("RAS", "LPS", "LAS", "PSR", "RPI", "ASL", "SPL", "IPR")
_VALUES = st.floats(-1e6, 1e6, allow_nan=False, width=32)


@st.composite
def any_scan(draw: st.DrawFn, dims: int, *, placed: bool) -> ScanStatistics:
    shape = draw(st.tuples(*[st.integers(1, 700)] * dims))
    box = tuple(
        (start, draw(st.integers(start + 1, size))) for size in shape for start in [draw(st.integers(0, size - 1))]
    )
    low, high = sorted((draw(_VALUES), draw(_VALUES)))
    knows = dims == 3 and placed
    spacings = st.tuples(*[st.floats(0.05, 20)] * 3)
    return scan(
        shape, box=box, low=low, high=high, modality=draw(st.sampled_from(("CT", "MR", "other"))),
        dtype=draw(st.sampled_from(("uint8", "int16", "uint16", "float32", "float64"))),
        num_channels=draw(st.sampled_from((1, 3))) if dims == 2 else 1,
        spacing_mm=draw(spacings) if knows or (dims == 3 and draw(st.booleans())) else None,
        orientation=draw(st.sampled_from(_CODES)) if knows else None,
    )  # fmt: skip


@st.composite
def any_fingerprint(draw: st.DrawFn, dims: int) -> Fingerprint:
    placed = draw(st.booleans())
    return fingerprint(draw(st.lists(any_scan(dims, placed=placed), min_size=1, max_size=6)))


@st.composite
def any_backbone(draw: st.DrawFn, dims: int) -> BackboneFacts:
    colours = draw(st.sampled_from((1, 3)))
    return BackboneFacts(
        arch="drawn", spatial_dims=dims, total_stride=draw(st.sampled_from((4, 8, 16, 24, 32, 64))),
        num_features=draw(st.sampled_from((64, 512, 2048, 8192))),
        num_parameters=draw(st.integers(10_000, 400_000_000)),
        input_size=draw(st.none() | st.sampled_from((32, 64, 224, 448))), pretrained=draw(st.booleans()),
        input_mean=(0.4, 0.5, 0.6)[:colours], input_std=(0.2, 0.25, 0.3)[:colours],
        stem_stride=draw(st.none() | st.sampled_from(((2, 2, 2), (1, 2, 2)))) if dims == 3 else None,
        stem=draw(st.sampled_from(("free", "stated", "fixed"))),
    )  # fmt: skip


any_machine = st.builds(
    MachineFacts, device=st.sampled_from(("cpu", "cuda", "mps")), memory_bytes=st.integers(0, 200 * 2**30),
    num_cores=st.integers(1, 256), bf16=st.booleans(),
)  # fmt: skip
