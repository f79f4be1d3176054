"""The table of costs is what the networks measure, and memory is what a real step keeps."""

from __future__ import annotations

import json

import pytest
import torch

from medres import workflows
from medres.errors import ModelError, UsageError
from medres.models.arch_facts import ArchFacts, arch_facts, count_macs, kept_bytes, measure
from medres.models.arch_table import MEASURED
from medres.models.factory import create_model
from medres.models.names import builtin_archs
from tests.integration.conftest import inside

FAST = [
    (2, "resnet18"),
    (2, "resnetv2_50"),
    (2, "convnext_atto"),
    (2, "regnety_002"),
    (2, "densenet121"),
    (3, "resnet10"),
]
ALL = [(dims, arch) for dims in (2, 3) for arch in builtin_archs(spatial_dims=dims)]


@pytest.mark.parametrize(
    ("dims", "arch"), [pytest.param(*case, marks=() if case in FAST else (pytest.mark.slow,)) for case in ALL]
)
def test_the_table_is_what_is_measured(dims: int, arch: str) -> None:
    assert ArchFacts(*MEASURED[dims][arch]) == measure(arch, spatial_dims=dims)


def test_the_table_holds_every_name() -> None:
    for dims in (2, 3):
        assert list(MEASURED[dims]) == builtin_archs(spatial_dims=dims)
    assert len(ALL) > 200


@pytest.mark.parametrize(
    ("dims", "arch", "shape"),
    [(2, "resnet18", (96, 128)), (2, "convnext_atto", (96, 96)), (2, "densenet121", (64, 96)),
     (2, "regnety_002", (96, 96)), (3, "resnet10", (32, 64, 32))],
)  # fmt: skip
def test_memory_is_what_a_real_step_keeps(dims: int, arch: str, shape: tuple[int, ...]) -> None:
    """On the CPU, at another size and batch than the table was measured with."""
    torch.manual_seed(0)
    backbone = create_model(arch, spatial_dims=dims, num_classes=2).backbone.train()
    kept = kept_bytes(backbone, torch.randn(3, 1, *shape))
    facts = arch_facts(arch, spatial_dims=dims)
    with_weights = facts.training_bytes(shape, batch_size=3)
    alone = facts.training_bytes(shape, batch_size=0)
    assert with_weights - alone == pytest.approx(kept, rel=0.1)
    assert alone == 20 * sum(parameter.numel() for parameter in backbone.parameters())


def test_networks_whose_costs_are_known_are_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building all would take half a minute."""
    built: list[str] = []
    monkeypatch.setattr(torch.nn.Module, "__init__", lambda self, *_, **__: built.append(type(self).__name__))
    monkeypatch.setattr("medres.models.arch_facts.measure", lambda arch, **_: built.append(arch))
    for dims in (2, 3):
        assert len(workflows.archs(spatial_dims=dims).records) == len(builtin_archs(spatial_dims=dims))
    assert built == []


def test_archs_of_both_dims() -> None:
    two, three = workflows.archs(), workflows.archs(spatial_dims=3, shape=(32, 128, 128), batch_size=2)
    assert two.names == builtin_archs(spatial_dims=2)
    assert (two.shape, two.batch_size, three.shape, three.batch_size) == ((224, 224), 16, (32, 128, 128), 2)
    by_name = {record.name: record for record in two.records}
    assert by_name["resnet50"].parameters == pytest.approx(23.5e6, rel=0.01)
    assert {"imagenet", "resnet50.a1_in1k"} <= set(by_name["resnet50"].weights)
    assert by_name["resnet50t"].weights == ()
    assert all(record.memory_bytes > 20 * record.parameters for record in two.records)
    assert {"imagenet", "medicalnet"} <= set({r.name: r for r in three.records}["resnet50"].weights)
    assert two.summary()["records"][0]["name"] == two.names[0]


def test_the_screen_names_everything() -> None:
    from rich.console import Console

    console = Console(width=110, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(workflows.archs(spatial_dims=3).screen())
    text = console.export_text()
    for words in ("7 backbones in 3D", "96x96x96", "resnet10", "46.2 M", "2048", "GiB", "medicalnet"):
        assert words in text
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize("options", [{"shape": (64,)}, {"shape": ()}, {"shape": (0, 64)}, {"batch_size": 0}])
def test_impossible_sizes(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="cannot be"):
        workflows.archs(**options)


def test_the_command_line_tells_memory_for_a_shape_and_a_batch() -> None:
    answer = inside("archs", "--dims", "3", "--shape", "32,128,128", "--batch-size", "2", "--json")
    assert answer.exit_code == 0, answer.output
    said = json.loads(answer.output)
    assert said == json.loads(json.dumps(workflows.archs(spatial_dims=3, shape=(32, 128, 128), batch_size=2).summary()))
    first = arch_facts("resnet10", spatial_dims=3).training_bytes((32, 128, 128), batch_size=2)
    assert (said["shape"], said["records"][0]["memory_bytes"]) == ([32, 128, 128], round(first))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shape", "64,64,64"], "Shape [64, 64, 64] cannot be that of an input in 2D. Give 2 sizes, order H,W"),
        (
            ["--dims", "3", "--shape", "64x64"],
            "Shape [64, 64] cannot be that of an input in 3D. Give 3 sizes, order D",
        ),
        (["--dims", "3", "--shape", "64"], "Shape [64] cannot be"),
        (["--shape", "64,large"], "--shape '64,large' is no shape. Write whole numbers"),
        (["--shape", ""], "--shape '' is no shape"),
        (["--shape", "64,-1"], "Batches of 16 at [64, -1] cannot be"),
        (["--batch-size", "0"], "Batches of 0 at [224, 224] cannot be"),
    ],
)
def test_the_command_line_refuses_impossible_sizes(options: list[str], words: str) -> None:
    answer = inside("archs", *options)
    assert answer.exit_code == 2
    assert words in answer.output


def test_dimensions() -> None:
    with pytest.raises(ModelError, match="spatial_dims is 4"):
        workflows.archs(spatial_dims=4)


@pytest.mark.parametrize(
    ("arch", "spatial_dims", "slicewise", "shape", "published"),
    [
        # multiply-adds of 3 x 224 x 224 (He et al. 2015, table 1, count the first two as 1.8 and 3.8 billion)
        ("resnet18", 2, False, (3, 224, 224), 1.82e9),
        ("resnet50", 2, False, (3, 224, 224), 4.11e9),
    ],
)
def test_multiply_adds_are_the_published_ones(
    arch: str, spatial_dims: int, slicewise: bool, shape: tuple[int, ...], published: float
) -> None:
    network = create_model(
        arch, spatial_dims=spatial_dims, slicewise=slicewise, num_classes=1000, in_channels=3, weights="none"
    )
    assert count_macs(network, shape) == pytest.approx(published, rel=0.01)


def test_multiply_adds_of_slices_grow_with_their_number() -> None:
    few, many = (
        count_macs(create_model("test_resnet", spatial_dims=3, slicewise=True, num_classes=2), (depth, 1, 64, 64))
        for depth in (4, 12)
    )
    assert many == pytest.approx(3 * few, rel=0.01)
