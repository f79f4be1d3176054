"""`FinetuneConfig`: what was asked for. None means: choose. What was decided stands in the plan.

A key and its command-line option bear the same name; ``--set section.key=value`` reaches the sections.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import pydantic

from medres.data.readers.rules import MAX_VOLUME, ReadingRules
from medres.errors import ConfigError
from medres.finetuning.optimisation import Optimisation
from medres.finetuning.recipes import RecipeName, check_stages, is_recipe_file, read_recipe
from medres.finetuning.stages import MAX_EPOCHS, Stage
from medres.models.typed_path import existing_path
from medres.planning.overrides import PlanOverrides
from medres.planning.plan import MAX_BATCH_SIZE
from medres.runs.documents import Document, WholeNumber, read_yaml
from medres.runs.plain_data import PlainDataError, parse_yaml, shortened

#: No key of a configuration lies deeper: `planning.augmentation.noise`.
_SECTIONS = 2

#: Of one part of a path.
_NAME_BYTES = 255


def _words(value: Any) -> Any:
    """Return the words of a text with commas, of a list of such texts, or of a list of words."""
    texts = (value,) if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise ValueError("must be words with commas between them, or a list of words")
    return tuple(word.strip() for text in texts for word in text.split(",") if word.strip())


def _edges(value: Any) -> Any:
    """Return three edges in mm from one number, three, or a text of them."""
    if isinstance(value, str):
        try:
            value = [float(part) for part in value.replace("x", ",").split(",")]
        except ValueError:
            raise ValueError(f"must be millimetres, such as 40 or 40,40,60; got {shortened(value)!r}") from None
    numbers = [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else value
    if numbers is None:
        return None
    if not isinstance(numbers, (list, tuple)) or len(numbers) not in (1, 3) or not all(map(_is_edge, numbers)):
        raise ValueError("must be one edge in mm or three (left-right, back-front, feet-head), each from 1 to 1000")
    return tuple(numbers) * 3 if len(numbers) == 1 else tuple(numbers)


def _recipe(value: Any) -> Any:
    """Return the stages of a recipe's file or of a list; the name of a recipe as it is."""
    if is_recipe_file(value):
        return read_recipe(Path(value))
    if isinstance(value, (list, tuple)):
        return check_stages(value)
    if value not in get_args(RecipeName):
        raise ValueError(f"must be {', '.join(get_args(RecipeName))}, or a YAML file with a list of stages")
    return value


def _is_edge(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 1 <= value <= 1000


class DataConfig(Document):
    """Which scans, and how files become scans: what ``medres finetune`` and ``medres inspect`` share.

    Args:
        data: Folder, table, data list or ``.npz`` with the labelled scans.
        labels: Table of labels that lies elsewhere.
        label_column: Its column with the class.
        patient_column: Its column with the patient.
        patient_pattern: Regular expression with one group that finds the patient in a file's path.
        unit_column: Its column with what is scored as one (a lesion, a patient).
        positive: The class that counts as positive, of two.
        suffix: Which images of a BIDS data set, such as ``T1w``; None = the one that every subject has.
        series: Regular expression that chooses among the DICOM series of a study.
        sequences: Columns of images that become channels, such as ``t1`` and ``flair``; empty = by the table.
        mask_column: Column with masks of the regions of interest; None looks for ``mask``.
        volume: Which volume of a 4D scan, from 0; None refuses 4D.
        gantry_tilt: ``correct`` a tilted CT, or ``refuse`` it.
        uneven_slices: ``resample`` slices at uneven distances, or ``refuse`` them.
        roi_size_mm: Edges of the region of interest in mm, one number or three (left-right, back-front, feet-head).
        near_duplicates: ``group`` keeps near copies on one side of every split (of given splits, out of training);
            ``ignore`` only reports them.
        exclude_findings: Codes of findings whose scans are left out.
    """

    model_config = pydantic.ConfigDict(populate_by_name=True)

    data: Path
    labels: Path | None = None
    label_column: str = "label"
    patient_column: str | None = None
    patient_pattern: str | None = None
    unit_column: str | None = None
    positive: str | None = None
    suffix: str | None = None
    series: str | None = None
    sequences: Annotated[tuple[str, ...], pydantic.BeforeValidator(_words)] = ()
    mask_column: str | None = None
    volume: WholeNumber | None = pydantic.Field(default=None, ge=0, le=MAX_VOLUME)
    gantry_tilt: Literal["correct", "refuse"] = "correct"
    uneven_slices: Literal["resample", "refuse"] = "resample"
    roi_size_mm: Annotated[tuple[float, float, float] | None, pydantic.BeforeValidator(_edges)] = None
    near_duplicates: Literal["group", "ignore"] = "group"
    exclude_findings: Annotated[tuple[str, ...], pydantic.BeforeValidator(_words)] = ()

    @pydantic.model_validator(mode="after")
    def _names_can_be(self) -> Self:
        for key, value in self:
            if isinstance(value, Path) and any(len(part.encode(errors="ignore")) > _NAME_BYTES for part in value.parts):
                given = shortened(str(value))
                raise ValueError(f"{key}: no file system takes a name of more than {_NAME_BYTES} bytes; got {given!r}")
        return self

    def reading_rules(self) -> ReadingRules:
        """Return how files become scans, as far as it was asked for."""
        return ReadingRules(
            volume=self.volume, series=self.series, gantry_tilt=self.gantry_tilt, uneven_slices=self.uneven_slices,
            sequences=self.sequences, roi_size_mm=self.roi_size_mm,
        )  # fmt: skip

    @classmethod
    def build(cls, *, file: Path | None = None, assignments: tuple[str, ...] = (), **options: Any) -> Self:
        """Merge a YAML file, then options that are not None, then ``section.key=value`` assignments.

        Raises:
            ConfigError: A key is unknown or a value is not valid; all of them are named.

        Example:
            >>> DataConfig.build(data="scans", assignments=("roi_size_mm=40",)).roi_size_mm
            (40.0, 40.0, 40.0)
        """
        values: dict[str, Any] = {}
        if file is not None:
            values = _mapping(read_yaml(file), source=str(file))
        values |= {key: value for key, value in options.items() if value is not None}
        for assignment in assignments:
            _assign(values, assignment)
        return cls.from_mapping(values, source=str(file) if file else "The configuration")


class FinetuneConfig(DataConfig):
    """All choices of ``medres finetune``: those of `DataConfig`, and these.

    Args:
        arch: Backbone, such as ``resnet50``.
        weights: ``auto``, ``imagenet``, ``none``, a timm tag, ``hf-hub:...`` or a path.
        weights_dir: Folder with weights for machines without internet.
        recipe: ``auto``, the name of a recipe, a YAML file with a list of stages, or that list.
        dims: ``auto``, ``2``, ``2.5`` or ``3``.
        folds: Number of folds; None = 5, or the given splits.
        seed: Of splits, order, augmentation and random weights.
        epochs: Fine-tuning epochs; None = by device.
        batch_size: Samples a step; None = by plan.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:<n>`` or ``mps``.
        output: Folder of all runs.
        name: Name of this run; None = made from architecture and time.
        plan: A ``plan.yaml`` to follow instead of planning.
        cache_dir: Folder of prepared scans, shared by runs; None = ``<output>/cache``.
        tracking: Whether the run is mirrored to MLflow.
        tracking_uri: MLflow server or database; None = ``MLFLOW_TRACKING_URI``, or ``<output>/mlflow.db``.
        experiment: MLflow experiment; None = ``MLFLOW_EXPERIMENT_ID``, ``MLFLOW_EXPERIMENT_NAME``, or ``medres``.
        register_name: Name in the model registry (key and option ``register``); None = do not register.
        planning: Wishes for the plan.
        optimisation: How stages are trained.
    """

    arch: str
    weights: str = "auto"
    weights_dir: Path | None = None
    recipe: Annotated[RecipeName | tuple[Stage, ...], pydantic.BeforeValidator(_recipe)] = "auto"
    dims: Literal["auto", "2", "2.5", "3"] = "auto"
    folds: WholeNumber | None = pydantic.Field(default=None, ge=1, le=100)
    seed: WholeNumber = pydantic.Field(default=0, ge=0, lt=2**32)
    epochs: WholeNumber | None = pydantic.Field(default=None, ge=0, le=MAX_EPOCHS)
    batch_size: WholeNumber | None = pydantic.Field(default=None, ge=1, le=MAX_BATCH_SIZE)
    device: str = "auto"
    output: Path = Path("runs")
    name: str | None = None
    plan: Path | None = None
    cache_dir: Path | None = None
    tracking: bool = True
    tracking_uri: str | None = None
    experiment: str | None = None
    register_name: str | None = pydantic.Field(default=None, alias="register")
    planning: PlanOverrides = PlanOverrides()
    optimisation: Optimisation = Optimisation()

    @pydantic.field_validator("dims", mode="before")
    @classmethod
    def _dims_as_text(cls, value: Any) -> Any:
        # YAML reads `dims: 3` as a number
        return str(value) if isinstance(value, (int, float)) else value

    @pydantic.model_validator(mode="after")
    def _no_epochs_beside_stages(self) -> Self:
        if not isinstance(self.recipe, str) and self.epochs is not None:
            raise ValueError("a list of stages says the epochs of each: leave --epochs out")
        return self

    @property
    def cache_folder(self) -> Path:
        """Where prepared scans and what was remembered about files are kept."""
        return self.cache_dir or self.output / "cache"

    @property
    def survey_memory(self) -> Path:
        """What is remembered of files that were read: a second survey decodes nothing."""
        return self.cache_folder / "survey.json"

    def located(self) -> Self:
        """Return the same with absolute paths: a run that goes on may be called from another folder."""
        paths = {name: value.absolute() for name, value in self if isinstance(value, Path)}
        if (weights := existing_path(self.weights)) is not None:
            return self.model_copy(update={**paths, "weights": str(weights.absolute())})
        return self.model_copy(update=paths)

    def to_parameters(self) -> dict[str, str | int | float | bool]:
        """Return what may leave the hospital as flat values: no path, no name of a column or file."""
        paths = {"data", "labels", "weights", "weights_dir", "output", "plan", "cache_dir", "tracking_uri"}
        names = {"name", "experiment", "label_column", "patient_column", "patient_pattern", "unit_column"}
        names |= {"series", "sequences", "suffix", "mask_column"}
        local = paths | names
        return _flat({key: value for key, value in self.to_mapping().items() if key not in local})

    def to_mapping(self) -> dict[str, Any]:
        """Return plain values under the names of the options."""
        return self.model_dump(mode="json", by_alias=True)


class PreviewConfig(FinetuneConfig):
    """Choices of ``medres preview``: those of `FinetuneConfig`, and these.

    Args:
        arch: Backbone; what it asks of its input decides the size and the statistics.
        scans_per_class: How many scans of each class are shown.
        views: How many random changes of each, those of the epochs 1, 2, ...
    """

    arch: str = "resnet18"
    scans_per_class: WholeNumber = pydantic.Field(default=3, ge=1, le=50)
    views: WholeNumber = pydantic.Field(default=4, ge=0, le=50)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, str | int | float | bool]:
    flat: dict[str, str | int | float | bool] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        elif value is not None:
            flat[prefix + key] = value if isinstance(value, (str, int, float, bool)) else str(value)
    return flat


def _mapping(values: Any, *, source: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ConfigError(f"{source} does not hold keys and values.", fix="Write lines such as `arch: resnet18`.")
    return dict(values)


def _assign(values: dict[str, Any], assignment: str) -> None:
    path, separator, text = assignment.partition("=")
    if not separator or not path.strip():
        raise ConfigError(
            f"--set {shortened(assignment)!r} is not an assignment.",
            fix="Write --set key=value or --set section.key=value.",
        )
    *sections, key = path.strip().split(".")
    if len(sections) > _SECTIONS:
        raise ConfigError(
            f"--set {shortened(path)!r} names sections in sections.", fix="Write --set section.key=value."
        )
    target = values
    for section in sections:
        inner = target.get(section, {})
        target[section] = inner.to_mapping() if isinstance(inner, Document) else _mapping(inner, source=section)
        target = target[section]
    try:
        target[key] = parse_yaml(text)
    except PlainDataError as error:
        raise ConfigError(
            f"--set {shortened(path)}: {shortened(text)!r} is no value: {error}.",
            fix="Write a number, a text, or a list such as [1, 2].",
        ) from None
