"""`medres preview`: the same inputs as training, one page, nothing left behind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import medres
from medres.config import FinetuneConfig
from medres.data.phantoms import write_phantoms
from medres.errors import ConfigError, OutputError
from medres.planning.plan import Plan
from medres.reporting.preview import Preview
from medres.runs.folder import RunFolder
from medres.runs.progress import Silent
from medres.workflows import design, previewing
from medres.workflows.design import make_design, make_feed
from medres.workflows.study import read_study
from tests.integration.conftest import ARCH, inside

OPTIONS: dict[str, Any] = {"arch": ARCH, "weights": "none", "device": "cpu", "seed": 3}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preview") / "images"
    write_phantoms(folder, modality="MR", spatial_dims=2, num_scans=14, size=48, seed=1)
    return folder


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preview") / "volumes"
    write_phantoms(folder, modality="CT", num_scans=12, size=24, seed=1)
    return folder


@pytest.fixture(autouse=True)
def _own_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))


def test_the_views_are_the_inputs_of_training(images: Path, tmp_path: Path) -> None:
    shown = medres.preview(images, views=2, **OPTIONS)
    config = FinetuneConfig.build(data=images, output=tmp_path / "runs", **OPTIONS)
    folder = RunFolder(tmp_path / "runs" / "run")
    folder.path.mkdir(parents=True)
    study = read_study(config, Silent())
    design = make_design(config, study, folder, Silent())
    assert shown.plan == design.plan
    feed, ids = make_feed(config, study, design, Silent()), [scan.sample_id for scan in study.table]
    assert len(shown.scans) == 6
    for scan in shown.scans:
        row = np.array([ids.index(scan.sample_id)])
        for view in scan.views:
            seeds = feed.seeds(row, seed=3, epoch=view.epoch) if view.epoch else None
            trained = feed.batch(row, seeds=seeds)
            numbers = [trained.mean(), trained.std(correction=0), trained.min(), trained.max()]
            np.testing.assert_allclose(view.numbers, [float(number) for number in numbers], rtol=1e-4, atol=1e-5)
            assert view.seed == (None if seeds is None else seeds[0])
        assert len({view.numbers for view in scan.views}) == 3


def test_the_page_holds_every_picture_and_reason_and_loads_nothing(images: Path, tmp_path: Path) -> None:
    shown = medres.preview(images, html=tmp_path / "deep" / "page.html", scans_per_class=2, views=3, **OPTIONS)
    assert shown.page is not None
    page = shown.page.read_text(encoding="utf-8")
    assert page.count("<img") == 4 * (1 + 1 + 3)
    assert "Local only." in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "<script" not in page
    for scan in shown.scans:
        assert scan.file in page
    for phrase in shown.scans[0].views[1].changes:
        assert phrase.replace("+", "&#43;") in page or phrase in page
    assert all(reason[:40] in page for reason in shown.plan.reasons.values() if "'" not in reason[:40])


def test_nothing_is_left_behind(images: Path, tmp_path: Path) -> None:
    before = sorted(images.rglob("*"))
    medres.preview(images, views=1, scans_per_class=1, html=tmp_path / "page.html", **OPTIONS)
    assert sorted(images.rglob("*")) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "temporary"]
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize(("dims", "columns"), [("3", "axial, coronal, sagittal"), ("2.5", "axial slices")])
def test_volumes(volumes: Path, tmp_path: Path, dims: str, columns: str) -> None:
    options = OPTIONS | {"scans_per_class": 1, "planning": {"shape": [16, 64, 64]}}
    if dims == "2.5":
        options["planning"] |= {"augmentation": {"slice_dropout": 0.9}}
    else:
        options |= {"arch": "resnet10", "planning": {"shape": [64, 64, 64]}}
    shown = medres.preview(volumes, dims=dims, html=tmp_path / "page.html", **options)
    assert shown.plan.dims == float(dims)
    assert columns in shown.scans[0].columns
    assert shown.scans[0].rows == ("lung", "soft_tissue", "bone")
    counts = [view.num_slices for scan in shown.scans for view in scan.views]
    if dims == "3":
        assert set(counts) == {None}
    else:
        assert counts[0] == shown.plan.shape[0] > min(counts[1:]) >= 1  # type: ignore[type-var]
        assert any("slices left out" in change for change in shown.scans[0].views[1].changes)


def test_a_plan_is_followed_as_a_file_and_as_a_run(images: Path, tmp_path: Path) -> None:
    plan = medres.preview(images, views=0, **OPTIONS).plan
    edited = plan.model_copy(update={"augmentation": plan.augmentation.model_copy(update={"noise": 0.9})})
    edited.write_yaml(tmp_path / "run" / "plan.yaml")
    for given in (tmp_path / "run", tmp_path / "run" / "plan.yaml"):
        shown = medres.preview(images, plan=given, views=1, scans_per_class=1, **OPTIONS)
        assert shown.plan == edited == Plan.read(tmp_path / "run" / "plan.yaml")
    with pytest.raises(ConfigError, match=r"holds no plan\.yaml"):
        medres.preview(images, plan=images, **OPTIONS)


def test_the_plan_of_a_run_brings_its_network(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = medres.finetune(
        images, arch=ARCH, weights="none", recipe="linear-probe", folds=2, epochs=1, output=tmp_path, tracking=False
    )
    resolved: list[str] = []
    original = design.resolve_weights
    monkeypatch.setattr(design, "resolve_weights", lambda name, **more: resolved.append(name) or original(name, **more))
    for given in (run.path, run.path / "plan.yaml"):  # neither architecture nor weights are typed: nothing is fetched
        shown = medres.preview(images, plan=given, views=0, scans_per_class=1, device="cpu")
        assert (shown.arch, shown.plan) == (ARCH, run.plan)
    assert resolved == ["none", "none"]
    other = medres.preview(images, plan=run.path, arch="resnet18", weights="none", views=0, scans_per_class=1)
    assert other.arch == "resnet18"
    copied = tmp_path / "elsewhere" / "plan.yaml"
    run.plan.write_yaml(copied)  # a plan alone knows no network
    assert medres.preview(images, plan=copied, weights="none", views=0, scans_per_class=1).arch == "resnet18"


def test_test_rows_are_not_looked_at(images: Path, tmp_path: Path) -> None:
    paths = sorted(images.rglob("*.png"))
    rows = [f"{path},{path.parent.name},{'test' if n % 2 else 'train'}" for n, path in enumerate(paths)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,split", *rows]))
    shown = medres.preview(tmp_path / "labels.csv", views=0, scans_per_class=50, folds=2, **OPTIONS)
    assert {scan.file for scan in shown.scans} == {str(path) for n, path in enumerate(paths) if n % 2 == 0}


def test_training_without_changes_is_shown_without_changes(images: Path) -> None:
    shown = medres.preview(images, scans_per_class=1, optimisation={"augment": False}, **OPTIONS)
    assert [len(scan.views) for scan in shown.scans] == [1, 1]


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_read(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(previewing, "read_study", _must_not_be_called)
    for page in (tmp_path, tmp_path / "file" / "page.html"):
        with pytest.raises(OutputError):
            medres.preview(images, html=page, **OPTIONS)


def _must_not_be_called(*_: Any) -> Preview:
    raise AssertionError("the scans were read")


# --- the command line


def run(*arguments: str | Path) -> Any:
    return inside("preview", *arguments, "--arch", ARCH, "--weights", "none", "--device", "cpu")


def test_the_json_holds_the_plan_and_what_was_drawn(images: Path, tmp_path: Path) -> None:
    done = run(images, "--html", tmp_path / "page.html", "--json", "--views", "2", "--scans-per-class", "1")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["format"] == 1
    assert document["plan"]["reasons"]["augmentation"]
    assert [view["epoch"] for view in document["scans"][0]["views"]] == [0, 1, 2]
    assert document["html"] == str(tmp_path / "page.html")


def test_the_terminal_says_what_was_decided(images: Path, tmp_path: Path) -> None:
    done = run(
        images, "--html", tmp_path / "page.html", "--scans-per-class", "1", "--set", "planning.augmentation.noise=0"
    )
    assert done.exit_code == 0, done.stderr
    assert "noise 0," in " ".join(done.stdout.split())
    assert "Nothing was trained" in done.stdout


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--set", "planning.augmentation.nois=0"], 1, "nois: unknown key"),
        (["--set", "planning.augmentation.slice_dropout=0.1"], 1, "not read slice by slice"),
        (["--plan", "nowhere.yaml"], 1, "does not exist"),
        (["--device", "cuda:99"], 1, "--device cpu"),
        (["--views", "-1"], 1, "views"),
        (["--dims", "7"], 1, "dims"),
        (["--vews", "1"], 2, "No such option"),
    ],
)
def test_bad_options_are_one_message(images: Path, tmp_path: Path, options: list[str], code: int, words: str) -> None:
    done = inside("preview", images, "--html", tmp_path / "x" / "page.html", "--weights", "none", *options)
    assert done.exit_code == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_bad_data_is_one_message(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    done = run(tmp_path / name, "--html", tmp_path / "page.html")
    assert done.exit_code == 1
    assert sum(line.startswith("medres:") for line in done.stderr.splitlines()) == 1
    assert not (tmp_path / "page.html").exists()
