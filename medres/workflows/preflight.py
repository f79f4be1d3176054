"""What can be refused is refused before any scan is read: cheapest first, and nothing is made on the way.

`check_places` needs no library of training, whose import takes seconds; `check_request` needs the networks, the weights
and the store. What only the scans can tell is refused later (`medres.workflows.study`, `medres.workflows.design`).
"""

from __future__ import annotations

from pathlib import Path

from medres.config import FinetuneConfig
from medres.data.exclusion import require_known_codes
from medres.data.sources import require_data
from medres.data.table import ScanTable
from medres.errors import ModelError, UsageError
from medres.finetuning.world import World
from medres.planning.plan import Plan
from medres.runs.atomic import require_writable
from medres.runs.folder import require_new_run, require_run_name
from medres.tracking.address import resolve_tracking_uri
from medres.tracking.names import check_names

#: Pictures, which are images whatever is in them; other files may be images or volumes.
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp")


def check_places(config: FinetuneConfig, *, fold: int | None = None) -> None:
    """Refuse names, folders and addresses that cannot be used; it takes milliseconds.

    Args:
        config: What was asked for.
        fold: The fold of a job of its own, which may join a run that is there.

    Raises:
        MedresError: The first that cannot be, and what to type instead.
    """
    require_known_codes(config.exclude_findings)
    if config.register_name:
        check_names(config.register_name)
    if config.tracking or config.register_name:
        resolve_tracking_uri(config.output, config.tracking_uri)
    if World.from_environment().is_first:  # the run that the others find was made by it
        require_data(config.data)
        _check_folders(config, fold)
    if config.plan is not None:
        Plan.read(config.plan)


def check_request(config: FinetuneConfig) -> None:
    """Refuse a device, an architecture, weights and wishes that cannot be used, whatever the scans are.

    Raises:
        MedresError: The first that cannot be, and what to type instead.
    """
    from medres.finetuning.compiling import require_compiler
    from medres.finetuning.machine import choose_device, machine_facts
    from medres.models.factory import dims_of
    from medres.planning.batch import choose_precision

    device = choose_device(config.device)
    backbone_dims = dims_of(config.arch, weights=config.weights)
    choose_precision(machine_facts(device, folder=config.cache_folder), wishes=config.planning)
    given = None if config.plan is None else Plan.read(config.plan)
    check_network(config, given.dims if given else config.dims, backbone_dims=backbone_dims)
    if config.optimisation.compile:
        require_compiler(device)


def check_table(config: FinetuneConfig, table: ScanTable) -> None:
    """Refuse a network that cannot read pictures, once it is known that all scans are pictures.

    Raises:
        MedresError: It cannot, or its weights cannot.
    """
    from medres.planning.dims import require_possible

    if config.plan is not None or not all(_is_picture(scan.path) for scan in table):
        return
    require_possible(config.dims, images=len(table), volumes=0)
    if config.dims == "auto":
        check_network(config, "2", backbone_dims=(2,))


def check_network(config: FinetuneConfig, dims: str | float, *, backbone_dims: tuple[int, ...]) -> None:
    """Refuse an architecture that does not exist in these dimensions, or weights that do not fit it there.

    Args:
        config: Architecture, weights and what belongs to them.
        dims: 2, 2.5, 3 or ``auto``.
        backbone_dims: Dimensions that ``auto`` may come to.

    Raises:
        ModelError: In none of the dimensions that are possible.
    """
    from medres.models.names import check_arch
    from medres.planning.dims import network_dims

    possible = backbone_dims if dims == "auto" else (network_dims(float(dims)),)
    problems: list[ModelError] = []
    for spatial_dims in possible:
        try:
            check_arch(config.arch, spatial_dims=spatial_dims)
            _check_weights(config, spatial_dims)
            _check_drop_path(config, spatial_dims)
        except ModelError as error:
            problems.append(error)
        else:
            return
    raise problems[0]


def _check_folders(config: FinetuneConfig, fold: int | None) -> None:
    if config.name is None:
        require_writable(config.output, option="--output")
    elif fold is None:
        require_new_run(config.output, config.name)
    else:
        require_writable(config.output / require_run_name(config.name), option="--output")
    require_writable(config.cache_folder, option="--cache-dir")
    if fold is not None:
        _check_fold(config, fold)


def _check_fold(config: FinetuneConfig, fold: int) -> None:
    from medres.data.folds import DEFAULT_FOLDS  # SciPy takes a second to import

    most = DEFAULT_FOLDS if config.folds is None else config.folds
    if fold >= most:
        raise UsageError(f"--fold is {fold}; the run has {most} folds, from 0.", fix=f"Give 0 to {most - 1}.")


def _check_weights(config: FinetuneConfig, spatial_dims: int) -> None:
    from medres.models.factory import backbone_facts
    from medres.models.weights import resolve_weights

    if config.weights == "none":
        return
    weights = resolve_weights(
        config.weights, arch=config.arch, spatial_dims=spatial_dims, weights_dir=config.weights_dir
    )
    backbone_facts(config.arch, spatial_dims=spatial_dims, weights=weights)


def _check_drop_path(config: FinetuneConfig, spatial_dims: int) -> None:
    import torch

    from medres.models.factory import create_model

    if config.optimisation.drop_path:
        with torch.device("meta"):
            create_model(config.arch, spatial_dims=spatial_dims, num_classes=2, drop_path=config.optimisation.drop_path)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in _PICTURES
