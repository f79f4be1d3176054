"""Backbones of other packages: an installed one keeps the whole contract, broken ones are refused with the reason."""

from __future__ import annotations

import copy
import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from medres.errors import ModelError, WeightsError
from medres.models.classifier import ClassificationModel
from medres.models.factory import backbone_facts, create_model, dims_of, list_archs
from medres.models.fetching import published
from medres.models.names import check_arch
from medres.models.weights import resolve_weights
from medres.workflows.catalogue import archs
from tests.contracts.test_backbones import (  # noqa: F401 -- collected here with the plug-in's networks
    test_every_tensor_has_exactly_one_stage,
    test_gradient_reaches_every_parameter,
    test_halves_share_every_parameter,
    test_prefix_and_suffix_are_the_whole_bit_for_bit,
    test_saved_and_loaded_it_computes_the_same,
    test_shapes,
)
from tests.contracts.test_freezing import (  # noqa: F401 -- likewise
    test_frozen_tensors_are_bit_identical_after_training,
    test_groups_hold_every_trainable_parameter_once,
)

PACKAGE = Path(__file__).parent / "plugin_package"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that pip installed the package into."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(PACKAGE, folder / "source")  # a build writes into its source
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-index", "--no-build-isolation"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", folder / "site", folder / "source"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return folder / "site"


@pytest.fixture(scope="module")
def _installed(site: Path) -> Iterator[None]:
    sys.path.append(str(site))
    yield
    sys.path.remove(str(site))
    sys.modules.pop("tiny_backbone", None)


@pytest.fixture(scope="module", params=[(2, "tiny_net"), (3, "tiny_net_3d")], ids=["2D", "3D"])
def model(request: pytest.FixtureRequest, _installed: None) -> ClassificationModel:
    dims, arch = request.param
    torch.manual_seed(0)
    return create_model(arch, spatial_dims=dims, num_classes=3).eval()


@pytest.fixture
def network(model: ClassificationModel) -> ClassificationModel:
    return copy.deepcopy(model)


@pytest.mark.usefixtures("_installed")
def test_an_installed_backbone_is_one_of_the_names() -> None:
    assert list_archs(spatial_dims=2)[-1] == "tiny_net"
    assert list_archs(spatial_dims=3)[-1] == "tiny_net_3d"
    facts = backbone_facts("tiny_net", spatial_dims=2, in_channels=2)
    assert (facts.total_stride, facts.num_features) == (16, 24)
    record = archs().records[-1]
    assert (record.name, record.features, record.weights, record.plugin) == ("tiny_net", 24, (), "tiny-backbone 1.0")
    for arch, dims, words in (("tiny_net", 3, "exists in 2D only"), ("tiny_net_3d", 2, "exists in 3D only")):
        with pytest.raises(ModelError, match=f"'{arch}' {words}"):
            check_arch(arch, spatial_dims=dims)
    with torch.device("meta"):
        assert next(create_model("tiny_net", num_classes=2).parameters()).is_meta


@pytest.mark.usefixtures("_installed")
def test_its_geometry_is_its_own() -> None:
    assert create_model("tiny_net_3d", spatial_dims=3, num_classes=2, geometry="standard", stem_stride=(2, 2, 2))
    for options in ({"geometry": "medicalnet"}, {"stem_stride": (1, 2, 2)}):
        with pytest.raises(ModelError, match="whose geometry is its own"):
            create_model("tiny_net_3d", spatial_dims=3, num_classes=2, **options)  # type: ignore[arg-type]


@pytest.mark.usefixtures("_installed")
def test_its_weights_are_a_file(tmp_path: Path) -> None:
    trained = create_model("tiny_net", num_classes=2)
    save_file(trained.state_dict(), tmp_path / "ours.safetensors")
    again = create_model("tiny_net", num_classes=2, weights=str(tmp_path / "ours.safetensors"))
    assert torch.equal(again.backbone.net["stem"][0].weight, trained.backbone.net["stem"][0].weight)  # type: ignore[index]
    assert "of a plug-in" in create_model("tiny_net", num_classes=2, weights="auto").loading_report.summary()
    with pytest.raises(WeightsError, match="network of a plug-in"):
        resolve_weights("imagenet", arch="tiny_net", spatial_dims=2)


@pytest.mark.usefixtures("_installed")
def test_medicalnet_published_no_weights_of_it() -> None:
    for refused in (published, resolve_weights):
        with pytest.raises(
            WeightsError, match=r"MedicalNet published no weights of tiny_net_3d\. It has those of resnet"
        ):
            refused("medicalnet", arch="tiny_net_3d", spatial_dims=3)
    with pytest.raises(ModelError, match=r"'tiny_net_3d' exists in 3D only\. For volumes use --dims 3\."):
        published("imagenet", arch="tiny_net_3d", spatial_dims=2)


def test_without_the_package_there_is_no_such_name(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(site)])
    assert "tiny_net" not in list_archs(spatial_dims=2)
    with pytest.raises(ModelError, match="'tiny_net' is not known"):
        create_model("tiny_net", num_classes=2)


@pytest.mark.usefixtures("_installed")
def test_the_random_numbers_of_a_run_are_left_alone() -> None:
    torch.manual_seed(0)
    create_model("tiny_net", num_classes=2)
    first = torch.rand(1)
    torch.manual_seed(0)
    from tiny_backbone import build_tiny_net

    ClassificationModel(build_tiny_net(in_channels=1), num_classes=2)
    assert torch.equal(torch.rand(1), first)


_HEAD = """
import torch
from torch import nn
from medres.models.backbone import Backbone

def build(*, in_channels):
    conv = lambda a, b: nn.Conv2d(a, b, 3, stride=2, padding=1)
    net = {"stem": conv(in_channels, 4), "layer1": conv(4, 4), "layer2": conv(4, 4), "layer3": conv(4, 4),
           "layer4": conv(4, 4), "pool": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1))}
    parts = {name: (name,) for name in net}
    said = dict(arch="other", spatial_dims=2, in_channels=in_channels, num_features=4, stem_conv="stem")
    kind = Backbone
"""

_BROKEN = {
    "no-dims": ("    return kind(net, parts=parts, **said)\n", "spatial_dims is None, not 2 or 3"),
    "not-a-backbone": ("    return nn.Sequential(*net.values())\nbuild.spatial_dims = 2\n", "returns a Sequential"),
    "raises": ("    raise KeyError('lost')\nbuild.spatial_dims = 2\n", "raises KeyError"),
    "another-name": (
        "    said['arch'] = 'else'\n    return kind(net, parts=parts, **said)\nbuild.spatial_dims = 2\n",
        "'else', 2, 1"),
    "no-such-part": (
        "    parts['layer3'] = ('lost',)\n    return kind(net, parts=parts, **said)\nbuild.spatial_dims = 2\n",
        "part 'lost' does not exist"),
    "tensor-without-stage": (
        "    net['extra'] = nn.Linear(2, 2)\n    return kind(net, parts=parts, **said)\nbuild.spatial_dims = 2\n",
        "'net.extra.weight' belongs to no stage"),
    "empty-stage": (
        "    parts['layer3'] = ()\n    net.pop('layer3')\n    return kind(net, parts=parts, **said)\n"
        "build.spatial_dims = 2\n", "layer3 have no parameters"),
    "twice": (
        "    parts['layer4'] = ('layer4', 'layer3')\n    return kind(net, parts=parts, **said)\n"
        "build.spatial_dims = 2\n", "name a module twice"),
    "stem": (
        "    said['stem_conv'] = 'pool'\n    return kind(net, parts=parts, **said)\nbuild.spatial_dims = 2\n",
        "no Conv2d of 1 channels"),
    "features": (
        "    said['num_features'] = 5\n    return kind(net, parts=parts, **said)\nbuild.spatial_dims = 2\n",
        "features have shape"),
    "fails": (
        "    net['layer3'] = nn.Conv2d(9, 4, 3)\n    return kind(net, parts=parts, **said)\nbuild.spatial_dims = 2\n",
        "raises RuntimeError on an input of 64 voxels"),
    "not-finite": (
        "    net['layer4'].bias.data += float('nan')\n    return kind(net, parts=parts, **said)\n"
        "build.spatial_dims = 2\n", "not finite"),
    "halves": (
        "    class Kind(Backbone):\n        def forward(self, x): return 2 * super().forward(x)\n"
        "    return Kind(net, parts=parts, **said)\nbuild.spatial_dims = 2\n", "cut at stem, its two halves"),
    "exits-when-imported": ("    pass\nraise SystemExit(3)\n", "cannot be imported (SystemExit: 3)"),
    "exits-when-made": ("    raise SystemExit(3)\nbuild.spatial_dims = 2\n", "its factory raises SystemExit: 3"),
    "exits-when-it-computes": (
        "    class Kind(Backbone):\n        def forward(self, x): raise SystemExit(3)\n"
        "    return Kind(net, parts=parts, **said)\nbuild.spatial_dims = 2\n", "raises SystemExit on an input"),
    "no-function": ("    pass\nbuild = 3\n", "is a int, not a function"),
    "import": ("    pass\nimport no_such_package_at_all\n", "cannot be imported (ModuleNotFoundError"),
}  # fmt: skip


def _plugin(folder: Path, name: str, code: str, *, module: str = "other_backbone", package: str = "other") -> None:
    """Lay down a package as pip leaves it: a module and its metadata."""
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{package}-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text(f"[medres.backbones]\n{name} = {module}:build\n")


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("other_backbone", None)


@pytest.mark.parametrize("case", _BROKEN)
def test_a_broken_backbone_is_refused_when_it_is_made(other: Path, case: str) -> None:
    body, words = _BROKEN[case]
    _plugin(other, "other", _HEAD + body)
    with pytest.raises(ModelError) as caught:
        create_model("other", num_classes=2)
    assert words in str(caught.value), str(caught.value)
    assert "plug-in backbone 'other' of other 2.0 cannot be used" in str(caught.value)
    assert "resnet18" in list_archs(spatial_dims=2)  # the others are not in its way


@pytest.mark.parametrize("case", ["import", "exits-when-imported", "no-dims", "raises", "features"])
def test_the_list_says_which_plugins_cannot_be_used_and_why(other: Path, case: str) -> None:
    body, words = _BROKEN[case]
    _plugin(other, "other", _HEAD + body)
    found = archs(spatial_dims=2)
    assert "other" not in found.names
    assert "resnet18" in found.names
    (plugin,) = found.unusable_plugins
    assert (plugin.name, plugin.package) == ("other", "other 2.0")
    assert words in plugin.reason
    assert found.summary()["unusable_plugins"] == (asdict(plugin),)
    console = Console(width=500, file=io.StringIO(), record=True)
    console.print(found.screen())
    assert plugin.reason in console.export_text()


def test_the_list_says_that_a_name_is_taken(other: Path) -> None:
    _plugin(other, "resnet10", _HEAD + "    return kind(net, parts=parts, **said)\nbuild.spatial_dims = 2\n")
    two, three = archs(spatial_dims=2), archs(spatial_dims=3)
    assert "resnet10" not in two.names
    assert (three.names.count("resnet10"), three.records[0].plugin) == (1, "")
    assert two.unusable_plugins == three.unusable_plugins
    assert "'resnet10' belongs to medres" in two.unusable_plugins[0].reason
    assert "resnet10" not in list_archs(spatial_dims=2)


def test_the_same_code_without_a_fault_is_taken(other: Path) -> None:
    _plugin(other, "other", _HEAD + "    return kind(net, parts=parts, **said)\nbuild.spatial_dims = 2\n")
    assert create_model("other", num_classes=2).backbone.num_features == 4


def test_one_that_is_not_asked_for_is_not_imported(other: Path) -> None:
    _plugin(other, "other", _HEAD + "    return kind(net, parts=parts, **said)\nbuild.spatial_dims = 2\n")
    assert dims_of("test_resnet") == (2,)
    assert dims_of("resnet18") == (2, 3)
    create_model("test_resnet", num_classes=2)
    backbone_facts("resnet10", spatial_dims=3)
    with pytest.raises(ModelError, match="not known"):
        check_arch("others", spatial_dims=2)
    assert "other_backbone" not in sys.modules
    assert dims_of("other") == (2,)
    assert "other_backbone" in sys.modules


@pytest.mark.parametrize(("name", "dims"), [("resnet18", 2), ("resnet10", 3), ("resnet18", 3)])
def test_names_of_medres_cannot_be_taken(other: Path, name: str, dims: int) -> None:
    _plugin(other, name, _HEAD + "    return kind(net, parts=parts, **said)\nbuild.spatial_dims = 2\n")
    with pytest.raises(ModelError, match=f"'{name}' belongs to medres, but the plug-in other 2.0 registers the same"):
        create_model(name, spatial_dims=dims, num_classes=2)


def test_two_packages_with_one_name(other: Path) -> None:
    code = _HEAD + "    return kind(net, parts=parts, **said)\nbuild.spatial_dims = 2\n"
    _plugin(other, "other", code)
    _plugin(other, "other", code, module="third_backbone", package="third")
    with pytest.raises(ModelError, match=r"registered by other 2\.0 and by third 2\.0"):
        create_model("other", num_classes=2)
