"""`archs` and `phantoms`: what there is to try."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from medres.data.phantoms import write_phantoms
from medres.errors import ModelError, UsageError
from medres.planning.plan import MAX_BATCH_SIZE, MAX_SIDE
from medres.runs.atomic import require_writable
from medres.runs.host import independent_of_host
from medres.runs.plain_data import shortened

#: Side of the input and scans a step that memory is told for, by spatial dims: what a CPU's plan has at most.
_SIDE = {2: 224, 3: 96}
_BATCH_SIZE = {2: 16, 3: 4}


@dataclass(frozen=True, kw_only=True)
class ArchRecord:
    """One backbone.

    Args:
        name: What to give to ``--arch``.
        parameters: Number of parameters, with one input channel and without the head.
        features: Width of the pooled features.
        weights: What can be given to ``--weights``: ``imagenet``, ``medicalnet``, tags of timm; empty where none is
            known.
        memory_bytes: Of training all layers in fp32, about.
        plugin: Package that it comes from; empty for medres itself.
    """

    name: str
    parameters: int
    features: int
    weights: tuple[str, ...]
    memory_bytes: int
    plugin: str = ""


@dataclass(frozen=True, kw_only=True)
class UnusablePlugin:
    """An installed plug-in backbone that `create_model` refuses.

    Args:
        name: That it registers.
        package: That it comes from.
        reason: Why it cannot be used.
    """

    name: str
    package: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Archs:
    """All backbones for images or volumes.

    Args:
        spatial_dims: 2 or 3.
        shape: Spatial shape of the input that the memory is for.
        batch_size: Scans a step that the memory is for.
        records: One for each name.
        unusable_plugins: Installed plug-ins that cannot be used; also those of which it is not known whether they are
            for images or volumes.
    """

    spatial_dims: int
    shape: tuple[int, ...]
    batch_size: int
    records: tuple[ArchRecord, ...]
    unusable_plugins: tuple[UnusablePlugin, ...] = ()

    @property
    def names(self) -> list[str]:
        """Names alone."""
        return [record.name for record in self.records]

    def summary(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return asdict(self)

    def screen(self) -> Group:
        """Return what the command line prints."""
        return Group(self._table(), *(Text(plugin.reason) for plugin in self.unusable_plugins))

    def _table(self) -> Table:
        size = "x".join(map(str, self.shape))
        table = Table(
            title=f"{len(self.records)} backbones in {self.spatial_dims}D; memory to train all layers, batches of "
            f"{self.batch_size} at {size}, fp32",
            box=SIMPLE_HEAD, title_justify="left",
        )  # fmt: skip
        table.add_column("name", no_wrap=True)
        for column in ("parameters", "features", "memory"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("pretrained weights")
        for record in self.records:
            table.add_row(
                record.name, f"{record.parameters / 1e6:.1f} M", str(record.features),
                f"{record.memory_bytes / 2**30:.1f} GiB", _weights_text(record),
            )  # fmt: skip
        return table


@independent_of_host()
def archs(*, spatial_dims: int = 2, shape: Sequence[int] | None = None, batch_size: int | None = None) -> Archs:
    """Return the backbones for images (2) or volumes (3) with what they cost and which weights are known.

    Args:
        spatial_dims: 2 or 3.
        shape: Spatial shape of the input that the memory is told for, (H, W) or (D, H, W); 224 pixels or 96 voxels a
            side by default.
        batch_size: Scans a step; 16 images or 4 volumes by default.

    Raises:
        ModelError: Another number of dimensions. Plug-ins that cannot be used are not raised but told.
        UsageError: The shape or the batch size cannot be.
    """
    from medres.models.names import builtin_archs

    names = builtin_archs(spatial_dims=spatial_dims)
    sizes = (_SIDE[spatial_dims],) * spatial_dims if shape is None else tuple(shape)
    batch = _BATCH_SIZE[spatial_dims] if batch_size is None else batch_size
    _check_sizes(sizes, batch, spatial_dims)
    records = tuple(_record(name, spatial_dims, sizes, batch) for name in names)
    added, unusable = _of_plugins(spatial_dims, sizes, batch)
    return Archs(
        spatial_dims=spatial_dims, shape=sizes, batch_size=batch, records=records + added, unusable_plugins=unusable
    )


def parse_shape(text: str) -> tuple[int, ...]:
    """Return the sizes in ``--shape``.

    Raises:
        UsageError: They are no whole numbers.

    Example:
        >>> parse_shape("32,128,128"), parse_shape("224x224")
        ((32, 128, 128), (224, 224))
    """
    try:
        return tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        raise UsageError(
            f"--shape {shortened(text)!r} is no shape.",
            fix="Write whole numbers: H,W such as 224,224, or D,H,W such as 64,64,64.",
        ) from None


def _check_sizes(shape: tuple[int, ...], batch_size: int, spatial_dims: int) -> None:
    axes = {2: "H,W", 3: "D,H,W"}[spatial_dims]
    if len(shape) != spatial_dims:
        raise UsageError(
            f"Shape {shortened(list(shape))} cannot be that of an input in {spatial_dims}D.",
            fix=f"Give {spatial_dims} sizes, order {axes}, or the other --dims.",
        )
    if min((*shape, batch_size)) < 1 or max(shape) > MAX_SIDE or batch_size > MAX_BATCH_SIZE:
        raise UsageError(
            f"Batches of {shortened(batch_size)} at {shortened(list(shape))} cannot be.",
            fix=f"Sizes are from 1 to {MAX_SIDE:,}, the batch from 1 to {MAX_BATCH_SIZE:,}.",
        )


def _of_plugins(
    spatial_dims: int, shape: Sequence[int], batch_size: int
) -> tuple[tuple[ArchRecord, ...], tuple[UnusablePlugin, ...]]:
    from medres.models.factory import dims_of
    from medres.models.plugins import packages_of, plugin_names

    records, unusable = [], []
    for name in plugin_names():
        package = ", ".join(packages_of(name))
        try:
            if spatial_dims in dims_of(name):
                records.append(_record(name, spatial_dims, shape, batch_size, plugin=package))
        except ModelError as error:
            unusable.append(UnusablePlugin(name=name, package=package, reason=str(error)))
    return tuple(records), tuple(unusable)


def _record(name: str, spatial_dims: int, shape: Sequence[int], batch_size: int, *, plugin: str = "") -> ArchRecord:
    from medres.models.arch_facts import arch_facts
    from medres.models.weights import known_weights

    facts = arch_facts(name, spatial_dims=spatial_dims)
    return ArchRecord(
        name=name, parameters=facts.parameters, features=facts.features,
        weights=known_weights(name, spatial_dims=spatial_dims),
        memory_bytes=round(facts.training_bytes(shape, batch_size=batch_size)), plugin=plugin,
    )  # fmt: skip


def _weights_text(record: ArchRecord) -> str:
    if record.plugin:
        return f"plug-in {record.plugin}"
    words = [word for word in ("imagenet", "medicalnet") if word in record.weights]
    tags = len(record.weights) - len(words)
    return ", ".join([*words, *([f"{tags} tag{'s' if tags > 1 else ''} of timm"] if tags else [])]) or "none known"


@independent_of_host()
def phantoms(
    folder: Path, *, modality: str = "CT", spatial_dims: int = 3, num_scans: int = 60, num_classes: int = 2,
    size: int = 48, signal: float = 1.0, seed: int = 0,
) -> str:  # fmt: skip
    """Write synthetic labelled scans and return the sentence that says so.

    Raises:
        UsageError: The modality is unknown or the folder is in use.
    """
    if modality not in ("CT", "MR"):
        raise UsageError(f"modality {modality!r} is unknown.", fix="Use CT or MR.")
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty.", fix="Give a new folder; nothing was overwritten.")
    require_writable(folder, option="FOLDER")
    write_phantoms(
        folder, modality=cast("Literal['CT', 'MR']", modality), spatial_dims=cast("Literal[2, 3]", spatial_dims),
        num_scans=num_scans, num_classes=num_classes, size=size, signal=signal, seed=seed,
    )  # fmt: skip
    return f"Wrote {num_scans} synthetic {modality} scans of {num_classes} classes to {folder}."
