"""MedicalNet's weights give MedicalNet's features: outputs and gradients of an independent network, files, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from monai.networks.nets.resnet import ResNet
from safetensors.torch import save_file

from medres.errors import ModelError, WeightsError
from medres.models import hub
from medres.models.classifier import ClassificationModel
from medres.models.factory import backbone_facts, create_model, list_archs
from medres.models.geometry import DEFAULT, KEY, Geometry, arch_of, geometry_in, geometry_of, options_of
from medres.models.medicalnet import NOTE, STATISTICS, download_bytes, release_files
from medres.models.weights import PretrainedWeights, resolve_weights
from tests.models.medicalnet_reference import DEPTHS, MILLION_PARAMETERS, MedicalNet, published, random_medicalnet
from tests.models.nets import point_hub_to, save_net

FAST = (10, 18, 34, 50)
ALL_DEPTHS = [pytest.param(depth, marks=() if depth in FAST else (pytest.mark.slow,)) for depth in DEPTHS]


@pytest.fixture(autouse=True)
def _no_weights_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEDRES_WEIGHTS_DIR", raising=False)


def _volume(side: int = 40, channels: int = 1) -> torch.Tensor:
    return torch.randn(1, channels, side, side, side, generator=torch.Generator().manual_seed(3))


def _model(depth: int, weights: str | PretrainedWeights, **options: object) -> ClassificationModel:
    return create_model(
        f"resnet{depth}", spatial_dims=3, num_classes=2, weights=weights, **options  # type: ignore[arg-type]
    ).eval()  # fmt: skip


@pytest.mark.parametrize("depth", ALL_DEPTHS)
def test_outputs_are_those_of_the_published_network(depth: int, tmp_path: Path) -> None:
    reference = random_medicalnet(depth)
    torch.save(published(reference, with_head=True), tmp_path / release_files(f"resnet{depth}")[-1])
    model = _model(depth, "medicalnet", weights_dir=tmp_path)
    x = _volume()
    with torch.no_grad():
        theirs, ours = reference(x), model.backbone.feature_map(x)
        assert ours.shape == theirs.shape == (1, model.backbone.num_features, 5, 5, 5)
        assert float((ours - theirs).abs().max()) <= 1e-5 * max(1.0, float(theirs.std()))
        pooled = model.backbone(x)
        torch.testing.assert_close(pooled, theirs.mean((2, 3, 4)), rtol=1e-4, atol=1e-5 * float(theirs.std()))
    report = model.loading_report
    assert set(report.taken) - {"conv1.offset_kernel"} == set(reference.state_dict())
    assert report.adapted == {}
    assert set(report.left_out.values()) == {"segmentation head"}
    assert NOTE in report.notes
    assert (model.input_mean, model.input_std) == (STATISTICS.mean, STATISTICS.std)


def test_the_fast_depths_have_both_kinds_of_shortcut() -> None:
    assert {DEPTHS[depth][2] for depth in FAST} == {"A", "B"}
    assert [f"resnet{depth}" for depth in DEPTHS] == list_archs(spatial_dims=3)


@pytest.mark.parametrize("depth", DEPTHS)
def test_names_shapes_and_the_published_number_of_parameters(depth: int) -> None:
    """The README's table tells shortcuts with weights from those without: at depth 18 they make 0.17 million."""
    with torch.device("meta"):
        model = _model(depth, "none", geometry="medicalnet", in_channels=3)
        reference = MedicalNet(depth)
    ours, theirs = model.backbone.net.state_dict(), reference.state_dict()
    assert set(ours) - {KEY} == set(theirs)
    assert all(ours[name].shape == tensor.shape for name, tensor in theirs.items() if name != "conv1.weight")
    counted = sum(tensor.numel() for tensor in theirs.values() if tensor.ndim) / 1e6
    assert counted == pytest.approx(MILLION_PARAMETERS[depth], abs=0.02)


@pytest.mark.parametrize("depth", [18, *(pytest.param(depth, marks=pytest.mark.slow) for depth in (10, 34, 50))])
def test_gradients_are_those_of_the_published_network_with_its_shortcuts_in_the_graph(depth: int) -> None:
    reference = random_medicalnet(depth).double()
    model = _model(depth, _weights(reference)).double()
    x, y = (_volume(24).double().requires_grad_() for _ in range(2))
    reference(x).square().mean().backward()
    model.backbone.feature_map(y).square().mean().backward()
    theirs = dict(reference.named_parameters())
    ours = dict(model.backbone.net.named_parameters())
    assert set(ours) == set(theirs)
    for name, parameter in [*theirs.items(), ("input", x)]:
        gradient = y.grad if name == "input" else ours[name].grad
        assert gradient is not None, name
        assert parameter.grad is not None, name
        assert bool(gradient.any()), name
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-7, atol=1e-9)


def test_monais_shortcut_without_weights_stops_the_gradient() -> None:
    """The reason for the mended shortcut: with silent residual branches nothing reaches MONAI's stem."""
    theirs = ResNet(
        "basic", [1, 1, 1, 1], [64, 128, 256, 512], n_input_channels=1, conv1_t_stride=2, shortcut_type="A",
        feed_forward=False, bias_downsample=False,
    ).eval()  # fmt: skip
    ours = _model(18, "none", geometry="medicalnet").backbone.net
    reached = []
    for net in (theirs, ours):
        for name, module in net.named_modules():
            if name.endswith(".bn2"):
                torch.nn.init.zeros_(module.weight)
        x = _volume(32)
        for name, child in net.named_children():
            x = x if name in ("avgpool", "pool", "fc") else child(x)
        x.sum().backward()
        gradient = net.get_submodule("conv1").weight.grad
        reached.append(gradient is not None and bool(gradient.any()))
    assert reached == [False, True]


@pytest.mark.parametrize("depth", [18, pytest.param(50, marks=pytest.mark.slow)])
def test_another_geometry_computes_other_features_of_the_same_tensors(depth: int) -> None:
    """What MONAI does, and why the tensors must not be loaded wherever they fit."""
    reference = random_medicalnet(depth)
    weights = _weights(reference)
    with pytest.raises(WeightsError, match="trained in the geometry medicalnet; the network is asked for in standard"):
        _model(depth, weights, geometry="standard")
    strided = _model(depth, "none", geometry="medicalnet")
    strided.backbone.net.load_state_dict(_model(depth, weights).backbone.net.state_dict())
    for module in strided.backbone.net["layer4"].modules():
        if isinstance(module, torch.nn.Conv3d) and module.kernel_size == (3, 3, 3):
            module.dilation = module.padding = (1, 1, 1)
    x = _volume()
    with torch.no_grad():
        right, wrong = reference(x).mean((2, 3, 4)), strided.backbone(x)
    assert float((right - wrong).abs().max()) > 0.1 * float(right.std())


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_other_channels_get_an_even_share(channels: int) -> None:
    reference = random_medicalnet(10)
    model = _model(10, _weights(reference), in_channels=channels)
    x = _volume(32)
    with torch.no_grad():
        got = model.backbone.feature_map(x.repeat(1, channels, 1, 1, 1))
        torch.testing.assert_close(got, reference(x), rtol=1e-4, atol=1e-4)
    assert f"divided over {channels} channels" in model.loading_report.adapted["conv1.weight"]


@pytest.mark.parametrize(
    "arch", ["resnet10", *(pytest.param(arch, marks=pytest.mark.slow) for arch in ("resnet18", "resnet50"))]
)
def test_a_saved_network_is_rebuilt_in_its_geometry_and_in_no_other(arch: str, tmp_path: Path) -> None:
    """Whoever rebuilds it without the weights gives the geometry, or is told so: nothing fits by accident."""
    trained = create_model(arch, spatial_dims=3, num_classes=2, geometry="medicalnet").eval()
    state = trained.state_dict()
    assert geometry_in(state) == geometry_of(trained.backbone.net) == Geometry("medicalnet")
    again = create_model(arch, spatial_dims=3, num_classes=2, **options_of(state)).eval()
    again.load_state_dict(state, strict=True)
    x = _volume(24)
    with torch.no_grad():
        assert torch.equal(again(x), trained(x))
    with pytest.raises(RuntimeError, match=r"maxpool\.geometry"):
        create_model(arch, spatial_dims=3, num_classes=2).load_state_dict(state, strict=True)
    path = save_net(trained, tmp_path / "model.safetensors")
    by_path = _model(int(arch.removeprefix("resnet")), str(path))
    with torch.no_grad():
        assert torch.equal(by_path.backbone(x), trained.backbone(x))


def test_tensors_of_one_geometry_are_refused_by_another_of_the_same_names() -> None:
    dilated = _model(10, "none", geometry="medicalnet")
    thick = _model(10, "none", stem_stride=(1, 2, 2))
    with pytest.raises(RuntimeError, match=r"stem_stride=\(1, 2, 2\)"):
        dilated.load_state_dict(thick.state_dict(), strict=True)
    with torch.device("meta"):
        empty = _model(10, "none", geometry="medicalnet")
    empty.load_state_dict(dilated.state_dict(), strict=True, assign=True)
    x = _volume(16)
    with torch.no_grad():
        assert torch.equal(empty(x), dilated(x))


def test_facts_of_the_dilated_network() -> None:
    facts = backbone_facts("resnet50", spatial_dims=3, weights=_weights(random_medicalnet(50)))
    assert (facts.total_stride, facts.input_mean, facts.input_std, facts.pretrained) == (8, (0.5,), (0.25,), True)
    assert backbone_facts("resnet50", spatial_dims=3, geometry="medicalnet").total_stride == 8
    assert backbone_facts("resnet50", spatial_dims=3).total_stride == 32


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["resnet_10.pth", "resnet_10_23dataset.pth"], "resnet_10_23dataset.pth"),
        (["resnet_10.pth"], "resnet_10.pth"),
        (["resnet_10_23dataset.safetensors"], "resnet_10_23dataset.safetensors"),
    ],
)
def test_the_weights_folder_is_looked_into_by_the_published_names(
    files: list[str], found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = published(random_medicalnet(10))["state_dict"]
    for name in files:
        if name.endswith(".safetensors"):
            save_file(tensors, tmp_path / name)
        else:
            torch.save({"state_dict": tensors}, tmp_path / name)
    monkeypatch.setenv("MEDRES_WEIGHTS_DIR", str(tmp_path))
    monkeypatch.setattr(hub, "fetch", lambda *_, **__: pytest.fail("the hub was asked"))
    for spelling in ("medicalnet", found, found.partition(".")[0]):
        weights = resolve_weights(spelling, arch="resnet10", spatial_dims=3)
        assert weights is not None
        assert (weights.source, weights.geometry) == (found, Geometry("medicalnet"))


def test_the_hub_is_asked_for_the_larger_pretraining_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(published(random_medicalnet(10)), tmp_path / "resnet_10.pth")
    asked: list[tuple[str, str]] = []

    def fetch(repo_id: str, filename: str, **_: object) -> Path:
        asked.append((repo_id, filename))
        if filename != "resnet_10.pth":
            raise FileNotFoundError(filename)
        return tmp_path / filename

    monkeypatch.setattr(hub, "fetch", fetch)
    weights = resolve_weights("medicalnet", arch="resnet10", spatial_dims=3)
    repository = "TencentMedicalNet/MedicalNet-Resnet10"
    assert asked == [(repository, "resnet_10_23dataset.pth"), (repository, "resnet_10.pth")]
    assert weights is not None
    assert weights.source == "resnet_10.pth"
    by_repository = resolve_weights(f"hf-hub:{repository}", arch="resnet10", spatial_dims=3)
    assert by_repository is not None
    assert by_repository.geometry == Geometry("medicalnet")


def test_an_offline_machine_learns_the_file_its_size_and_both_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_hub_to("http://127.0.0.1:9", tmp_path / "cache", monkeypatch)
    folder = tmp_path / "weights"
    folder.mkdir()
    with pytest.raises(WeightsError) as caught:
        resolve_weights("medicalnet", arch="resnet10", spatial_dims=3, weights_dir=folder)
    message = str(caught.value)
    for words in (
        "resnet_10_23dataset.pth", "about 58 MB", "MEDRES_WEIGHTS_DIR", str(folder), "--weights none",
        "curl -L -o resnet_10_23dataset.pth http://127.0.0.1:9/TencentMedicalNet/MedicalNet-Resnet10/resolve/main/",
    ):  # fmt: skip
        assert words in message
    # what it says works
    words = message.split()
    torch.save(published(random_medicalnet(10)), folder / words[words.index("-o") + 1])
    assert resolve_weights("medicalnet", arch="resnet10", spatial_dims=3, weights_dir=folder) is not None


def test_the_size_that_is_told_is_that_of_the_file(tmp_path: Path) -> None:
    torch.save(published(random_medicalnet(10)), tmp_path / "resnet_10.pth")
    assert download_bytes("resnet10") == pytest.approx((tmp_path / "resnet_10.pth").stat().st_size, rel=0.01)
    # resnet_50.pth of the release has 184,885,051 bytes
    assert download_bytes("resnet50") == pytest.approx(184_885_051, rel=0.01)


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("ours.pth", {}, True),
        ("ours.safetensors", {}, True),
        ("resnet_10.pth", {"prefix": ""}, True),
        ("ours.pth", {"prefix": ""}, False),
        ("ours.pth", {"prefix": "", "head": "conv_seg.0.weight"}, True),
        ("ours.pth", {"head": "conv_seg.0.weight"}, True),
        ("ours.pth", {"head": "fc.weight"}, False),
        ("ours.pth", {"bias": True}, False),
        ("ours.pth", {"channels": 3}, False),
        ("ours.pth", {"flat": True}, False),
    ],
)
def test_files_are_recognised_by_their_keys(
    name: str, change: dict[str, object], expected: bool, tmp_path: Path
) -> None:
    tensors = dict(random_medicalnet(10).state_dict())
    if "channels" in change:
        tensors["conv1.weight"] = tensors["conv1.weight"].repeat(1, 3, 1, 1, 1)
    if "flat" in change:
        tensors = {key: tensor.sum(2) if tensor.ndim == 5 else tensor for key, tensor in tensors.items()}
    if "bias" in change:
        tensors["layer2.0.downsample.0.bias"] = torch.zeros(128)
    if "head" in change:
        tensors[str(change["head"])] = torch.zeros(2, 512)
    tensors = {f"{change.get('prefix', 'module.')}{key}": tensor.contiguous() for key, tensor in tensors.items()}
    if name.endswith(".safetensors"):
        save_file(tensors, tmp_path / name)
    else:
        torch.save({"state_dict": tensors}, tmp_path / name)
    weights = resolve_weights(str(tmp_path / name), arch="resnet10", spatial_dims=3)
    assert weights is not None
    assert (weights.geometry == Geometry("medicalnet")) == expected
    assert (NOTE in weights.notes) == expected
    assert ((weights.mean, weights.std) == (STATISTICS.mean, STATISTICS.std)) == expected


@pytest.mark.parametrize(("stated", "words"), [("standard", ""), ("medicalnet", ""), ("cubic", "ours.safetensors")])
def test_a_header_states_the_geometry(stated: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "ours.safetensors"
    save_file(published(random_medicalnet(10))["state_dict"], path, {"geometry": stated})
    if words:
        with pytest.raises(WeightsError, match=r"ours\.safetensors states its geometry: Geometry 'cubic' is not"):
            resolve_weights(str(path), arch="resnet10", spatial_dims=3)
        return
    model = _model(10, str(path))
    assert geometry_of(model.backbone.net).name == stated


def test_the_note_about_an_assumed_geometry_says_how_to_state_it(tmp_path: Path) -> None:
    """Published tensors without ``module.`` and under another name: nothing but the header can tell what they are."""
    tensors = {name.removeprefix("module."): tensor for name, tensor in random_medicalnet(10).state_dict().items()}
    notes = {}
    for geometry in ("", "medicalnet"):
        save_file(tensors, tmp_path / "ours.safetensors", {"geometry": geometry})
        notes[geometry] = _model(10, str(tmp_path / "ours.safetensors")).loading_report.notes
    assert sum("a safetensors header (geometry: medicalnet)" in note for note in notes[""]) == 1
    assert not any("geometry" in note for note in notes["medicalnet"])


def test_other_3d_weights_can_be_given_the_geometry() -> None:
    reference = random_medicalnet(10)
    tensors = reference.state_dict()
    weights = PretrainedWeights(tensors=tensors, source="ours", sha256="0" * 64, mean=(0.5,), std=(0.5,))
    model = _model(10, weights, geometry="medicalnet")
    x = _volume(24)
    with torch.no_grad():
        torch.testing.assert_close(model.backbone.feature_map(x), reference(x), rtol=1e-5, atol=1e-5)
    assert not model.loading_report.notes
    assert _model(10, weights).loading_report.notes == (
        "3D weights, taken to be of a net with a stride-2 stem and without dilation; "
        "state another by the key geometry of a safetensors header (geometry: medicalnet)",
    )


def test_refusals() -> None:
    weights = _weights(random_medicalnet(18))
    with pytest.raises(WeightsError, match=r"does not fit resnet34 in 3D[\s\S]*They may fit --arch resnet18"):
        _model(34, weights)
    with pytest.raises(WeightsError, match="those of 3D networks"):
        create_model("resnet18", num_classes=2, weights="medicalnet")
    with pytest.raises(WeightsError, match="weights of a 3D network"):
        create_model("resnet18", num_classes=2, weights=weights)
    with pytest.raises(ModelError, match="geometry 'medicalnet' is a choice of 3D networks"):
        create_model("resnet18", num_classes=2, geometry="medicalnet")
    with pytest.raises(ModelError, match=r"stem_stride \(1, 2, 2\) is a choice of 3D networks"):
        create_model("resnet18", num_classes=2, stem_stride=(1, 2, 2))
    with pytest.raises(ModelError, match="MedicalNet's stem has a stride of 2"):
        _model(18, weights, stem_stride=(1, 2, 2))
    with pytest.raises(ModelError, match=r"'dilated' is not known\. Choose standard or medicalnet"):
        _model(18, "none", geometry="dilated")
    for stride in ((2, 2), (3, 2, 2), (0, 2, 2)):
        with pytest.raises(ModelError, match="three numbers, each 1 or 2"):
            _model(18, "none", stem_stride=stride)


def test_missing_and_misshapen_tensors_are_named() -> None:
    reference = random_medicalnet(10)
    for change, words in (
        ({"layer3.0.conv1.weight": torch.zeros(256, 128, 3, 3, 1)}, "layer3.0.conv1.weight: weights 256x128x3x3x1"),
        ({"layer3.0.conv1.weight": None}, "1 missing (layer3.0.conv1.weight)"),
        ({"projector.weight": torch.zeros(3)}, "1 not in the network (projector.weight)"),
    ):
        weights = _weights(reference)
        for name, tensor in change.items():
            weights.tensors.pop(name, None)
            weights.tensors.update({} if tensor is None else {name: tensor})
        with pytest.raises(WeightsError) as caught:
            _model(10, weights)
        assert words in str(caught.value)


def test_depths_are_told_by_their_blocks() -> None:
    for depth in DEPTHS:
        with torch.device("meta"):
            assert arch_of(MedicalNet(depth).state_dict()) == f"resnet{depth}"
    assert geometry_in(create_model("resnet10", spatial_dims=3, num_classes=2).state_dict()) == DEFAULT


def _weights(reference: torch.nn.Module) -> PretrainedWeights:
    tensors = {name: tensor.detach().clone().float() for name, tensor in reference.state_dict().items()}
    tensors = {name: tensor.long() if name.endswith("tracked") else tensor for name, tensor in tensors.items()}
    return PretrainedWeights(
        tensors=tensors, source="random-net", sha256="0" * 64, mean=STATISTICS.mean, std=STATISTICS.std,
        geometry=Geometry("medicalnet"),
    )  # fmt: skip
