"""`inspect` ends with 1 (or refuses) where `finetune` would refuse, and says the same; with 0 where it would train."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medres.config import DataConfig, FinetuneConfig
from medres.errors import MedresError
from medres.runs.progress import Silent
from medres.workflows.inspection import run_inspect
from medres.workflows.study import read_study
from tests.data.making import volume, write_medmnist, write_nifti, write_pngs

NAMES = [f"{label}/{n}.png" for label in "ab" for n in range(5)]


def images(names: Iterable[str]) -> Callable[[Path], Path]:
    kept = tuple(names)
    return lambda root: write_pngs(root / "d", kept)


plain = images(NAMES)


def table(*lines: str, names: list[str] = NAMES, file: str = "labels.csv") -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        write_pngs(root / "d", names)
        (root / "d" / file).write_text("\n".join(lines) + "\n")
        return root / "d"

    return make


def rows(header: str, cells: str) -> Callable[[Path], Path]:
    """Make a table of ten scans; ``half`` is the same in a class folder, ``pair`` in two neighbours."""

    def row(n: int, name: str) -> str:
        return cells.format(
            n=n, name=name, odd=n % 2, half=n // 5, pair=n // 2, point=".0" * (n % 2), zero="0" * (n % 2),
            letter="aA"[n % 3 == 1], some="train" if n % 5 else "", side=("train", "test")[n % 2],
            nobody="unknown" if n < 2 else n, word=("NA", "b")[n // 5],
        )  # fmt: skip

    return table(header, *(row(n, name) for n, name in enumerate(NAMES)))


def archive(**arrays: np.ndarray | None) -> Callable[[Path], Path]:
    return lambda root: write_medmnist(root / "m.npz", counts=(12, 6, 6), **arrays)


def data_list(entries: object) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        write_pngs(root / "d", NAMES)
        (root / "d/dataset.json").write_text(json.dumps({"training": entries}))
        return root / "d"

    return make


def lesions(root: Path) -> Path:
    for n in range(10):
        write_nifti(root / f"d/{n}.nii", volume((8, 8, 8), seed=n), affine=np.eye(4))
    lines = ["path,label,center_x_mm,center_y_mm,center_z_mm", *(f"{n}.nii,{'ab'[n % 2]},4,4,4" for n in range(10))]
    (root / "d/labels.csv").write_text("\n".join(lines))
    return root / "d"


LABELS = np.arange(12)[:, None] % 2
REFUSED = {
    "a pattern that misses files": (plain, {"patient_pattern": r"P(\d+)_"}),
    "a pattern without a group": (plain, {"patient_pattern": "x"}),
    "a positive class that is none": (plain, {"positive": "c"}),
    "a column without a table": (plain, {"label_column": "grade"}),
    "a suffix without BIDS": (plain, {"suffix": "T1w"}),
    "masks without a table": (plain, {"mask_column": "roi"}),
    "a size without a region": (plain, {"roi_size_mm": (9, 9, 9)}),
    "several labels an image": (archive(train_labels=np.zeros((12, 14), np.uint8)), {}),
    "labels that are no whole numbers": (archive(train_labels=LABELS.astype(np.float32)), {}),
    "too few labels": (archive(train_labels=LABELS[:5].astype(np.uint8)), {}),
    "no labels of one split": (archive(val_labels=None), {}),
    "labels without images": (archive(train_images=None), {}),
    "one class": (archive(train_labels=np.zeros((12, 1), np.uint8), val_labels=np.zeros((6, 1), np.uint8),
                          test_labels=np.zeros((6, 1), np.uint8)), {}),
    "no column of labels": (rows("path,grade", "{name},{half}"), {}),
    "no label in any row": (rows("path,label", "{name},nan"), {}),
    "one label in all rows": (rows("path,label", "{name},a"), {}),
    "a label for each": (rows("path,label", "{name},l{n}"), {}),
    "labels written in two ways": (rows("path,label", "{name},{letter}{odd}"), {}),
    "a patient column that does not exist": (rows("path,label", "{name},{half}"), {"patient_column": "who"}),
    "a unit column that does not exist": (rows("path,label", "{name},{half}"), {"unit_column": "who"}),
    "units with two labels": (rows("path,label,unit", "{name},{odd},u{pair}"), {"unit_column": "unit"}),
    "units without patients": (rows("path,label,unit", "{name},{half},u{pair}{half}"), {"unit_column": "unit"}),
    "one patient in two spellings": (rows("path,label,patient", "{name},{half},{pair}{point}"), {}),
    "patients of nobody": (rows("path,label,patient", "{name},{odd},{nobody}"), {}),
    "splits in some rows": (rows("path,label,split", "{name},{half},{some}"), {}),
    "splits of other names": (rows("path,label,split", "{name},{half},part{odd}"), {}),
    "no train split": (rows("path,label,split", "{name},{half},test"), {}),
    "files that do not exist": (rows("path,label", "x{name},{half}"), {}),
    "sequences that do not exist": (rows("path,label", "{name},{half}"), {"sequences": ("t1", "t2")}),
    "labels of another suffix": (table("path,label", names=["1.png"], file="labels.txt"), {}),
    "a list of segmentations": (data_list([{"image": name, "label": name} for name in NAMES]), {}),
    "a list of several labels": (data_list([{"image": name, "label": [0, 1]} for name in NAMES]), {}),
    "a list without labels": (data_list(NAMES), {}),
    "a region without a size": (lesions, {}),
    "one class of each split": (images(f"{split}/a/{n}.png" for split in ("train", "test") for n in range(4)), {}),
    "a class of one patient": (images(["a/1.png", *NAMES[5:]]), {}),
    "two patients, two classes": (rows("path,label,patient", "{name},{half},{half}"), {}),
    "masks that do not exist": (rows("path,label,roi", "{name},{half},m{n}.png"), {"mask_column": "roi"}),
    "a code of no finding": (plain, {"exclude_findings": ("nothing",)}),
}  # fmt: skip
TRAINED = {
    "class folders": (plain, {}),
    "a pattern that fits": (plain, {"patient_pattern": r"^(.*)\.png$"}),
    "a table": (rows("path,label,patient", "{name},{half},p{n}"), {}),
    "a label that may be a class": (rows("path,label", "{name},{word}"), {}),
    "ids that may be two": (rows("path,label,patient", "{name},{half},{zero}{pair}"), {}),
    "an archive": (archive(), {}),
    "a list": (data_list([{"image": name, "label": name[0]} for name in NAMES]), {}),
    "a region with a size": (lesions, {"roi_size_mm": (4, 4, 4)}),
}  # fmt: skip


def refusal(work: Callable[[], object]) -> str:
    try:
        work()
    except MedresError as error:
        return error.problem
    return ""


def inspected(data: Path, options: dict) -> list[str]:
    """Return why ``medres inspect`` ends with another code than 0: what it raised, or its errors."""
    found = []
    raised = refusal(lambda: found.append(run_inspect(DataConfig.build(data=data, **options))))
    if raised:
        return [raised]
    assert found[0].exit_code == (1 if found[0].num_errors else 0)
    return [finding.value for finding in found[0].survey.findings if finding.severity == "error"]


def studied(data: Path, options: dict, output: Path) -> str:
    def study() -> object:
        config = FinetuneConfig.build(
            data=data, arch="resnet18", weights="none", output=output, tracking=False, **options
        )
        return read_study(config, Silent())

    return refusal(study)


@pytest.mark.parametrize(("make", "options"), REFUSED.values(), ids=REFUSED)
def test_what_training_refuses_inspection_does_not_call_fine(tmp_path, make, options):
    data = make(tmp_path)
    said, refused = inspected(data, options), studied(data, options, tmp_path / "runs")
    assert refused
    assert any(value in refused for value in said), (said, refused)


def test_a_patient_on_two_sides_is_refused_by_both_in_words_of_their_own(tmp_path):
    data = rows("path,label,split,patient", "{name},{half},{side},p{pair}")(tmp_path)
    assert inspected(data, {})[0].startswith("Patient p0 is in test and train")
    assert "on two sides of the given splits: p0" in studied(data, {}, tmp_path / "runs")


@pytest.mark.parametrize(("make", "options"), TRAINED.values(), ids=TRAINED)
def test_what_inspection_calls_fine_can_be_trained_on(tmp_path, make, options):
    data = make(tmp_path)
    assert (inspected(data, options), studied(data, options, tmp_path / "runs")) == ([], "")


@pytest.mark.parametrize("number", [2, 4])
def test_data_for_fewer_folds_than_the_default_is_told(tmp_path, number):
    data = write_pngs(tmp_path / "d", [*NAMES[:5], *NAMES[5 : 5 + number]])
    inspection = run_inspect(DataConfig.build(data=data))
    (finding,) = [one for one in inspection.survey.findings if one.code == "few-patients"]
    assert (inspection.exit_code, finding.value) == (0, studied(data, {}, tmp_path / "runs"))
    assert f"--folds {number}" in finding.fix
    assert inspection.verdict().endswith("medres finetune divides the data with fewer --folds only.")
    assert studied(data, {"folds": number}, tmp_path / "runs") == ""


def test_copies_that_are_not_grouped_are_not_counted_as_one(tmp_path):
    """Near copies leave one patient of a class; with ``--near-duplicates ignore`` both commands see two."""
    data = write_pngs(tmp_path / "d", [f"{label}/{n}.png" for label in "ab" for n in range(9)])
    rng = np.random.default_rng(0)
    for n in range(9):
        noise = rng.integers(0, 255, (8, 8), dtype=np.uint8)
        Image.fromarray(noise).resize((64, 64), Image.Resampling.BICUBIC).save(data / f"a/{n}.png")
    for n in range(2, 9):
        (data / f"b/{n}.png").unlink()
    big = Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).resize((64, 64), Image.Resampling.BICUBIC)
    big.save(data / "b/0.png")
    big.resize((48, 48)).save(data / "b/1.png")
    for options, refused in (({}, True), ({"near_duplicates": "ignore"}, False)):
        assert bool(inspected(data, options)) == refused
        assert bool(studied(data, {**options, "folds": 2}, tmp_path / str(refused))) == refused


def test_scans_without_labels_are_checked_all_the_same(tmp_path):
    for n in range(3):
        write_nifti(tmp_path / f"d/{n}.nii.gz", volume(seed=n))
    assert inspected(tmp_path / "d", {}) == []
    assert "no class folders and no labels.csv" in inspected(tmp_path / "d", {"patient_pattern": "(.)"})[0]
    np.savez(tmp_path / "x.npz", test_images=np.random.default_rng(0).integers(0, 255, (3, 28, 28), dtype=np.uint8))
    assert inspected(tmp_path / "x.npz", {}) == []
