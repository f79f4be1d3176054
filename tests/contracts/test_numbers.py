"""Every number of a document that people write, and every one on the command line, has a range that means something."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic
import pytest
from typer.testing import CliRunner

from medres import cli
from medres.config import FinetuneConfig, PreviewConfig
from medres.deployment.manifest import BundleManifest
from medres.errors import MedresError
from medres.finetuning.stages import Stage
from medres.planning.plan import Plan
from medres.runs.documents import Document

Place = tuple[type[Document], str]


def _documents(annotation: Any) -> Iterator[type[Document]]:
    if inspect.isclass(annotation) and issubclass(annotation, Document):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _documents(inner)


def _leaves(annotation: Any) -> Iterator[Any]:
    arguments = typing.get_args(annotation)
    if not arguments:
        yield annotation
    for inner in () if typing.get_origin(annotation) is typing.Literal else arguments:
        yield from _leaves(inner)


def _numbers(document: type[Document], seen: set[type[Document]]) -> Iterator[Place]:
    if document in seen:
        return
    seen.add(document)
    for name, field in document.model_fields.items():
        for inner in _documents(field.annotation):
            yield from _numbers(inner, seen)
        leaves = set(_leaves(field.annotation))
        if leaves & {int, float} and bool not in leaves:
            yield document, name


def _of_all() -> list[Place]:
    seen: set[type[Document]] = set()
    return [
        place
        for document in (FinetuneConfig, PreviewConfig, Stage, Plan, BundleManifest)
        for place in _numbers(document, seen)
    ]


PLACES = _of_all()


def _forms(value: object) -> list[object]:
    """The value alone, and in lists of the lengths that fields have."""
    return [value, *([value] * length for length in (1, 2, 3)), [[value, value]]]


def _accepts(document: type[Document], name: str, value: object) -> bool:
    field = document.model_fields[name]
    adapter = pydantic.TypeAdapter(typing.Annotated[field.annotation, *field.metadata, field])
    try:
        adapter.validate_python(value)
    except (pydantic.ValidationError, MedresError):
        return False
    return True


#: fp32 holds one of 1e20.
GREY_VALUES = ("scale_range", "mean", "std")

#: The rule between the fields of the document says it: `Plan` compares its axes with their number.
BY_THE_WHOLE = {("Augmentation", "flip_axes"), ("OperatingPoint", "priors")}


@pytest.mark.parametrize(("document", "name"), PLACES, ids=[f"{document.__name__}.{name}" for document, name in PLACES])
def test_numbers_that_mean_nothing_are_refused(document: type[Document], name: str) -> None:
    infinite = [float("inf"), float("-inf"), float("nan")]
    beyond: list[object] = [] if (document.__name__, name) in BY_THE_WHOLE else [10**400, "9" * 400]
    if beyond and name != "scale_range":  # voxels have any unit: `medres.data.readers.voxels.MAX_VALUE`
        beyond.append(1e300)
    if (document.__name__, name) not in BY_THE_WHOLE and name not in GREY_VALUES:
        beyond.append(10**20)
    for value in (*infinite, *beyond):
        assert not any(_accepts(document, name, form) for form in _forms(value)), value
    assert not any(_accepts(document, name, form) for form in _forms(True))


def test_the_numbers_are_walked() -> None:
    assert len(PLACES) > 70
    assert {"epochs", "shape", "seed", "lr", "tta", "temperature", "noise"} <= {name for _, name in PLACES}


def _numbers_of(callback: Any) -> Iterator[str]:
    hints = typing.get_type_hints(callback, include_extras=True)
    for name, parameter in inspect.signature(callback).parameters.items():
        leaves = set(_leaves(typing.get_args(hints[name])[0])) if typing.get_args(hints[name]) else set()
        if leaves & {int, float} and parameter.default is not inspect.Parameter.empty:
            declared = [text for text in typing.get_args(hints[name])[1].param_decls or () if text.startswith("--")]
            yield declared[0] if declared else f"--{name.rstrip('_').replace('_', '-')}"


NUMBERS = [
    ((*path, command.name or command.callback.__name__), option)  # type: ignore[union-attr]
    for path, typers in (((), cli.app), (("track",), cli.track), (("weights",), cli.weights_app))
    for command in typers.registered_commands
    for option in _numbers_of(command.callback)
]


@pytest.mark.parametrize("value", ["9" * 20, "-" + "9" * 20, "9" * 5000, "nan", "1e999"])
@pytest.mark.parametrize(("path", "option"), NUMBERS, ids=[" ".join((*path, option)) for path, option in NUMBERS])
def test_numbers_on_the_command_line(path: tuple[str, ...], option: str, value: str, tmp_path: Path) -> None:
    arguments = {
        "finetune": ["--data", str(tmp_path), "--arch", "resnet18", "--output", str(tmp_path / "runs")],
        "preview": [str(tmp_path), "--html", str(tmp_path / "page.html")], "inspect": [str(tmp_path)],
        "predict": [str(tmp_path), str(tmp_path), "-o", str(tmp_path / "out.csv")],
        "phantoms": [str(tmp_path / "new")], "archs": [], "weights": ["resnet18", "--to", str(tmp_path / "w")],
    }[path[0]]  # fmt: skip
    done = CliRunner().invoke(cli.app, [*path, *arguments, option, value])
    assert done.exit_code in (1, 2), done.output
    assert "did not expect" not in done.output
    assert len(done.output) < 1_500
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_the_numbers_of_the_command_line_are_walked() -> None:
    assert len(NUMBERS) >= 15


@pytest.mark.parametrize(
    "shape", ["1000000000000,1000000000000", "9" * 5000, "nan,1", "1e3,1", ",", "-1,5", "true,false"]
)
def test_shapes_on_the_command_line(shape: str) -> None:
    done = CliRunner().invoke(cli.app, ["archs", "--shape", shape])
    assert done.exit_code == 2
    assert "did not expect" not in done.output
    assert len(done.output) < 500
