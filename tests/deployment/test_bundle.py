from __future__ import annotations

import json
import os
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

from medres.deployment.bundle import load_bundle, write_bundle
from medres.deployment.golden import TOLERANCE
from medres.deployment.integrity import published
from medres.deployment.manifest import TrainingHashes
from medres.errors import BundleError, OutputError
from medres.evaluation.operating_point import OperatingPoint
from medres.models.factory import create_model
from medres.runs.documents import read_yaml
from tests.deployment.tiny import Kind, Tiny, make_tiny, rewrite_manifest

FILES = (
    "card.md", "fingerprint.json", "golden.safetensors", "member_0.safetensors", "member_1.safetensors", "plan.yaml",
    "training_hashes.json",
)  # fmt: skip


@pytest.mark.parametrize("kind", ["CT 3D", "MR 3D", "images 2D"])
def test_what_was_written_is_what_is_loaded(tmp_path: Path, kind: Kind) -> None:
    tiny = make_tiny(tmp_path, kind, num_scans=4)
    loaded = load_bundle(tiny.bundle)
    assert loaded.manifest == tiny.manifest
    assert loaded.plan == tiny.plan
    assert loaded.fingerprint.num_scans == len(tiny.table)
    for member, trained in zip(loaded.members, tiny.members, strict=True):
        expected = safetensors.torch.load_file(trained.weights_file)
        found = member.model.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert member.manifest.temperature == trained.temperature
        assert not member.model.training


def test_a_bundle_holds_no_pickle_no_scan_and_no_path(tiny: Tiny) -> None:
    assert {path.name for path in tiny.bundle.iterdir()} == {"bundle.json", *FILES}
    content = b"".join(path.read_bytes() for path in tiny.bundle.iterdir())
    for scan in tiny.table:
        assert scan.content_hash.encode() not in content
        assert scan.path.name.encode() not in content
    assert str(tiny.bundle.parent).encode() not in content
    for document in ("bundle.json", "fingerprint.json", "plan.yaml", "training_hashes.json"):
        assert read_yaml(tiny.bundle / document)["format"] == 1


def test_the_golden_case_is_synthetic_and_calibrated(tiny: Tiny) -> None:
    golden = safetensors.numpy.load_file(tiny.bundle / "golden.safetensors")
    assert golden["prepared"].dtype == np.int16
    assert golden["prepared"].shape == (1, 1, 16, 16, 16)
    np.testing.assert_allclose(golden["probabilities"].sum(axis=1), 1)
    offset = np.linspace(-0.2, 0.3, 2)
    shifted = (golden["logits"][1].astype(np.float64) - offset) / 1.5
    np.testing.assert_allclose(golden["probabilities"][1], np.exp(shifted) / np.exp(shifted).sum(), rtol=1e-9)


def test_loading_takes_nothing_from_the_caller(tiny: Tiny) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    load_bundle(tiny.bundle)
    assert torch.equal(torch.rand(3), expected)


def test_single_members_are_loaded_by_fold(tiny: Tiny) -> None:
    assert [member.manifest.fold for member in load_bundle(tiny.bundle, folds=[1]).members] == [1]
    with pytest.raises(BundleError, match=r"no member 7.*0, 1"):
        load_bundle(tiny.bundle, folds=[7])


@pytest.mark.parametrize("name", ["bundle.json", *FILES])
def test_a_flipped_byte_is_found_in_every_file(bundle: Path, name: str) -> None:
    path = bundle / name
    content = bytearray(path.read_bytes())
    content[len(content) * 2 // 3] ^= 1
    path.unlink()  # the copy may share its place on the disk
    path.write_bytes(content)
    with pytest.raises(BundleError):
        load_bundle(bundle)


def test_every_single_byte_of_the_manifest_counts(bundle: Path) -> None:
    path = bundle / "bundle.json"
    content = path.read_bytes()
    accepted = []
    for position in range(0, len(content), 7):
        changed = bytearray(content)
        changed[position] ^= 1
        path.write_bytes(changed)
        try:
            load_bundle(bundle, verify=False)
            accepted.append((position, content[position], changed[position]))
        except BundleError:
            continue
    # what is left are bytes without meaning: white space for white space
    assert not [entry for entry in accepted if not {chr(entry[1]), chr(entry[2])} <= set(" \t\n\r")], accepted


def test_a_bundle_from_before_what_came_later_keeps_its_seal(bundle: Path) -> None:
    path = bundle / "bundle.json"
    values = json.loads(path.read_text())
    assert values.pop("tta") == 0
    assert values.pop("members_without_learning") == {}
    path.write_text(json.dumps(values))
    assert load_bundle(bundle).manifest.tta == 0


def test_members_that_learned_nothing_are_under_the_seal(bundle: Path) -> None:
    values = json.loads((bundle / "bundle.json").read_text())
    told = {**values, "members_without_learning": {"0": ["its log-loss is that of the prevalence"]}}
    (bundle / "bundle.json").write_text(json.dumps(told))
    with pytest.raises(BundleError, match="was changed after it was written"):
        load_bundle(bundle)
    rewrite_manifest(bundle, members_without_learning={0: ("its log-loss is that of the prevalence",)})
    assert list(load_bundle(bundle).manifest.members_without_learning) == [0]


def test_other_views_than_those_of_the_evaluation_fail_the_golden_case(bundle: Path) -> None:
    values = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**values, "tta": 2}))
    with pytest.raises(BundleError, match="was changed after it was written"):
        load_bundle(bundle)
    (bundle / "bundle.json").write_text(json.dumps(values))
    rewrite_manifest(bundle, tta=2)  # by somebody who knows about the seal
    with pytest.raises(BundleError, match="golden case"):
        load_bundle(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=name):
        load_bundle(bundle)


def test_a_link_in_the_place_of_a_file_is_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / "member_0.safetensors").rename(tmp_path / "elsewhere")
    (bundle / "member_0.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="not a plain file"):
        load_bundle(bundle)


ADDED: dict[str, Callable[[Path], object]] = {
    ".hidden": lambda path: path.write_text("x"),
    ".DS_Store": lambda path: path.write_text("x"),
    ".gitignore": lambda path: path.write_text("x"),
    "__pycache__": lambda path: path.mkdir(),
    ".cache": lambda path: path.mkdir(),
    "more.safetensors": lambda path: path.write_bytes(b""),
    ".link": lambda path: path.symlink_to("/etc/passwd"),
    "nowhere": lambda path: path.symlink_to("/does/not/exist"),
    "x" * 200: lambda path: path.mkdir(),
    "line\nbreak": lambda path: path.write_text("x"),
}


@pytest.mark.parametrize("name", ADDED)
@pytest.mark.parametrize("verify", [True, False])
def test_what_the_bundle_does_not_list_is_refused_hidden_or_not(bundle: Path, name: str, verify: bool) -> None:
    ADDED[name](bundle / name)
    with pytest.raises(BundleError, match=r"which the bundle does not list\. Take it out") as caught:
        load_bundle(bundle, verify=verify)
    assert repr(name)[1:-1][:20] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_many_added_files_are_a_short_message(bundle: Path) -> None:
    for number in range(50):
        (bundle / f".hidden{number:02}").write_text("x")
    with pytest.raises(BundleError, match=r"\.hidden00, .* and 45 more, which the bundle does not list"):
        load_bundle(bundle)


def test_a_linked_document_is_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / "bundle.json").rename(tmp_path / "elsewhere")
    (bundle / "bundle.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="is a link, not a plain file"):
        load_bundle(bundle)


def test_a_renamed_member_is_refused(bundle: Path) -> None:
    (bundle / "member_1.safetensors").rename(bundle / "member_2.safetensors")
    with pytest.raises(BundleError, match="member_1"):
        load_bundle(bundle)


def test_exchanged_members_are_refused(bundle: Path) -> None:
    first, second = bundle / "member_0.safetensors", bundle / "member_1.safetensors"
    contents = first.read_bytes(), second.read_bytes()
    first.unlink(), second.unlink()
    first.write_bytes(contents[1]), second.write_bytes(contents[0])
    with pytest.raises(BundleError, match="member_0"):
        load_bundle(bundle)
    rewrite_manifest(bundle)  # with checksums that agree, the golden case still tells
    with pytest.raises(BundleError, match="golden case"):
        load_bundle(bundle)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/b.safetensors", "..", ".hidden", "a\\b.x", ""])
def test_file_names_cannot_leave_the_folder(bundle: Path, name: str) -> None:
    document = json.loads((bundle / "bundle.json").read_text())
    document["members"][0]["file"] = name
    document["files"][name] = document["files"].pop("member_0.safetensors")
    (bundle / "bundle.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match="plain names"):
        load_bundle(bundle)


class _Bomb:
    def __reduce__(self) -> Any:
        return os.mkdir, ("/tmp/medres-pickle-was-executed",)


@pytest.mark.parametrize("name", ["member_0.safetensors", "golden.safetensors", "training_hashes.json", "extra.pkl"])
def test_a_pickle_is_never_executed(bundle: Path, name: str) -> None:
    (bundle / name).unlink(missing_ok=True)
    (bundle / name).write_bytes(pickle.dumps(_Bomb()))
    if name in FILES:
        rewrite_manifest(bundle)
    with pytest.raises(BundleError):
        load_bundle(bundle)
    assert not Path("/tmp/medres-pickle-was-executed").exists()


def test_yaml_objects_are_not_made(bundle: Path) -> None:
    text = (bundle / "plan.yaml").read_text() + "\nreasons: !!python/object/apply:os.mkdir [/tmp/medres-yaml]\n"
    (bundle / "plan.yaml").unlink()
    (bundle / "plan.yaml").write_text(text)
    rewrite_manifest(bundle)
    with pytest.raises(BundleError, match="plan"):
        load_bundle(bundle)
    assert not Path("/tmp/medres-yaml").exists()


@pytest.mark.parametrize("change", ["layer", "head", "normalisation"])
def test_a_changed_weight_fails_the_golden_case(bundle: Path, change: str) -> None:
    names = {"layer": "layer4", "head": "head.weight", "normalisation": "running_var"}
    path = bundle / "member_0.safetensors"
    tensors = safetensors.torch.load_file(path)
    name = next(name for name in tensors if names[change] in name and tensors[name].is_floating_point())
    tensors[name].view(-1)[: max(1, tensors[name].numel() // 2)] += 0.05
    path.unlink()
    safetensors.torch.save_file(tensors, path)
    rewrite_manifest(bundle)
    with pytest.raises(BundleError, match=r"Member 0 .* fails its golden case"):
        load_bundle(bundle)
    load_bundle(bundle, verify=False)  # it is the golden case that tells, nothing else


@pytest.mark.parametrize("change", [{"temperature": 2.0}, {"logit_offset": (0.0, 0.0)}], ids=str)
def test_a_changed_calibration_fails_the_golden_case(bundle: Path, tiny: Tiny, change: dict[str, Any]) -> None:
    first, second = tiny.manifest.members
    rewrite_manifest(bundle, members=(first, second.model_copy(update=change)))
    with pytest.raises(BundleError, match=r"Member 1 .* golden case"):
        load_bundle(bundle)


def test_weights_with_non_finite_values_fail(bundle: Path) -> None:
    path = bundle / "member_1.safetensors"
    tensors = safetensors.torch.load_file(path)
    tensors["head.bias"][0] = float("nan")
    path.unlink()
    safetensors.torch.save_file(tensors, path)
    rewrite_manifest(bundle)
    with pytest.raises(BundleError, match="golden case"):
        load_bundle(bundle)


@pytest.mark.parametrize("damage", ["another type", "another shape", "one missing", "one more"])
def test_tensors_that_do_not_fit_are_named(bundle: Path, damage: str) -> None:
    path = bundle / "member_0.safetensors"
    tensors = safetensors.torch.load_file(path)
    if damage == "another type":
        tensors["head.bias"] = tensors["head.bias"].half()
    elif damage == "another shape":
        tensors["head.bias"] = torch.zeros(3)
    elif damage == "one missing":
        del tensors["head.bias"]
    else:
        tensors["head.bias2"] = torch.zeros(2)
    path.unlink()
    safetensors.torch.save_file(tensors, path)
    rewrite_manifest(bundle)
    with pytest.raises(BundleError, match=r"'head\.bias"):
        load_bundle(bundle)


def test_a_header_that_claims_too_much_is_refused(bundle: Path) -> None:
    path = bundle / "member_0.safetensors"
    header = json.dumps({"head.bias": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    path.unlink()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    rewrite_manifest(bundle)
    with pytest.raises(BundleError, match="not a safetensors file"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arch": "resnet9999"}, "resnet9999"),
        ({"arch": "resnet34"}, "does not fit the network"),
        ({"in_channels": 1}, "another network"),
    ],
)
def test_a_manifest_of_another_network_is_refused(bundle: Path, changes: dict[str, Any], said: str) -> None:
    rewrite_manifest(bundle, **changes)
    with pytest.raises(BundleError, match=said):
        load_bundle(bundle)


@pytest.mark.parametrize("name", ["plan.yaml", "golden.safetensors", "training_hashes.json", "member_0.safetensors"])
def test_no_file_can_be_left_out_of_the_list(bundle: Path, name: str) -> None:
    document = json.loads((bundle / "bundle.json").read_text())
    del document["files"][name]
    (bundle / "bundle.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match=re.escape(name)):
        load_bundle(bundle)


def test_a_bundle_of_a_newer_medres_is_refused(bundle: Path) -> None:
    document = json.loads((bundle / "bundle.json").read_text())
    document["format"] = 2
    (bundle / "bundle.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match="format"):
        load_bundle(bundle)


@pytest.mark.parametrize("place", ["nothing", "empty", "a file"])
def test_what_is_no_bundle_is_told(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "model"
    if place == "empty":
        folder.mkdir()
    elif place == "a file":
        folder.write_text("text")
    with pytest.raises(BundleError, match="not a bundle"):
        load_bundle(folder)


def _write_again(tiny: Tiny, folder: Path, **changes: Any) -> None:
    bundle = load_bundle(tiny.bundle, verify=False)
    arguments: dict[str, Any] = {
        "arch": "resnet10", "classes": ("x", "y"), "positive": "y", "plan": tiny.plan,
        "fingerprint": bundle.fingerprint, "members": tiny.members,
        "operating_point": OperatingPoint(priors=(0.5, 0.5)),
    }  # fmt: skip
    write_bundle(folder, **{**arguments, **changes})


def test_a_bundle_replaces_an_older_one_as_a_whole(tiny: Tiny, bundle: Path) -> None:
    _write_again(tiny, bundle, members=tiny.members[:1])
    assert load_bundle(bundle).manifest.classes == ("x", "y")
    assert not (bundle / "member_1.safetensors").exists()
    assert [path.name for path in bundle.parent.iterdir()] == ["model"]


def test_what_is_no_bundle_is_not_replaced(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="something else"):
        _write_again(tiny, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_a_failure_leaves_neither_half_a_bundle_nor_a_temporary_folder(tiny: Tiny, bundle: Path) -> None:
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    with pytest.raises(BundleError, match="does not fit"):
        _write_again(tiny, bundle, arch="resnet34")
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    assert [path.name for path in bundle.parent.iterdir()] == ["model"]


def test_an_interrupted_publication_changes_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with published(tmp_path / "model") as temporary:
            (temporary / "half").write_text("")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_training_hashes_know_their_scans_and_tell_nobody_else() -> None:
    hashes = {0: ["a" * 64, "b" * 64], 3: ["b" * 64]}
    first, second = TrainingHashes.of(hashes), TrainingHashes.of(hashes)
    assert first.folds_with("a" * 64) == (0,)
    assert first.folds_with("b" * 64) == (0, 3)
    assert first.folds_with("c" * 64) == ()
    assert not set(first.members[0]) & set(second.members[0])  # two bundles cannot be compared


def test_every_architecture_is_rebuilt_by_its_name() -> None:
    rebuilt = 0
    for arch, dims in (("resnet10", 3), ("resnet18", 2), ("resnet50", 2), ("resnetv2_50", 2)):
        with torch.device("meta"):
            model = create_model(arch, spatial_dims=dims, num_classes=2, in_channels=2)
        assert all(tensor.is_meta for tensor in model.state_dict().values())
        # a tensor that is not in the state dict would stay without values after the weights are assigned
        kept = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
        assert kept == set(model.state_dict())
        rebuilt += 1
    assert rebuilt == 4


def test_the_tolerance_is_far_from_what_bf16_does(tiny: Tiny) -> None:
    member = load_bundle(tiny.bundle).members[0]
    golden = safetensors.numpy.load_file(tiny.bundle / "golden.safetensors")
    from medres.preprocessing.preprocessor import Preprocessor

    batch = Preprocessor(tiny.plan).finish(torch.from_numpy(golden["prepared"]))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = member.model(batch).float().numpy()[0]
    assert np.abs(logits - golden["logits"][0]).max() > 10 * TOLERANCE
