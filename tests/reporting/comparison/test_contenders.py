from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from medres.errors import UsageError
from medres.reporting.comparison.contenders import (
    MAX_CONTENDERS,
    Contender,
    choices_of,
    differing_choices,
    group_runs,
    stages_text,
)
from medres.reporting.comparison.recorded import RecordedRun, read_run
from tests.reporting.comparison.made import Data, make_run, make_runs

SMALL = Data(patients=20)


def _read(*folders: Path) -> list[RecordedRun]:
    return [read_run(folder) for folder in folders]


def _grouped(*folders: Path, **groups: list[int]) -> dict[str, tuple[int, ...]]:
    return {contender.name: contender.seeds for contender in group_runs(_read(*folders), groups)}


def test_runs_that_differ_in_their_seed_only_are_one(tmp_path: Path) -> None:
    folders = [
        *make_runs(tmp_path / "r18", [0, 1, 2], data=SMALL),
        *make_runs(tmp_path / "r50", [2, 0], data=SMALL, arch="resnet50"),
        make_run(tmp_path / "other", data=SMALL, arch="resnet34"),
    ]
    assert _grouped(*folders) == {"r18": (0, 1, 2), "r50": (2, 0), "other": (0,)}
    assert _grouped(*reversed(folders)) == {"other": (0,), "r50": (0, 2), "r18": (2, 1, 0)}


@pytest.mark.parametrize(
    "options",
    [
        {"arch": "resnet50"}, {"recipe": "gradual"}, {"epochs": 5}, {"folds": 4}, {"weights": "imagenet"},
        {"assignments": ("optimisation.ema=false",)}, {"near_duplicates": "ignore"}, {"patient_column": "pid"},
    ],
)  # fmt: skip
def test_every_choice_makes_a_contender(options: dict[str, object], tmp_path: Path) -> None:
    given = {"data": SMALL, "folds": 5, **options}
    assert len(_grouped(make_run(tmp_path / "a", data=SMALL), make_run(tmp_path / "b", seed=1, **given))) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"output": "elsewhere"}, {"tracking": False}, {"experiment": "e"}, {"cache_dir": "/tmp/cache"}, {"folds": 5},
        {"device": "cpu"}, {"weights_dir": "/srv"}, {"register": "model"}, {"tracking_uri": "http://x"},
        {"labels": "/mnt/labels.csv"},
    ],
)  # fmt: skip
def test_circumstances_make_none(options: dict[str, object], tmp_path: Path) -> None:
    a, b = read_run(make_run(tmp_path / "a", data=SMALL)), read_run(make_run(tmp_path / "b", data=SMALL, **options))  # type: ignore[arg-type]
    assert choices_of(a) == choices_of(b)


def test_the_user_may_take_runs_together(tmp_path: Path) -> None:
    folders = [
        make_run(tmp_path / "a", data=SMALL),
        make_run(tmp_path / "b", data=SMALL, seed=1),
        make_run(tmp_path / "c", data=SMALL, seed=2, arch="resnet50"),
    ]
    contenders = group_runs(_read(*folders), {"mine": [1, 2]})
    assert [(contender.name, contender.places) for contender in contenders] == [("a", (0,)), ("mine", (1, 2))]
    assert contenders[1].mixed == ("arch",)
    # repetitions of one seed are a contender each, when they are named
    repeated = [make_run(tmp_path / name, data=SMALL) for name in ("x", "y")]
    assert _grouped(*repeated, again=[1]) == {"x": (0,), "again": (0,)}


def test_names_are_different(tmp_path: Path) -> None:
    folders = [
        make_run(tmp_path / "one" / "run", data=SMALL),
        make_run(tmp_path / "two" / "run", data=SMALL, arch="resnet50"),
        make_run(tmp_path / "three" / "run", data=SMALL, arch="resnet34"),
    ]
    assert list(_grouped(*folders)) == ["run", "run (2)", "run (3)"]
    assert list(_grouped(*folders, run=[2])) == ["run (2)", "run (3)", "run"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("r18-s0", "r18-s1"), "r18"), (("r18-seed0", "r18-seed1"), "r18"), (("a0", "b1"), "a0"),
        (("r18.0", "r18.1"), "r18"),
    ],
)  # fmt: skip
def test_several_runs_are_named_after_their_common_beginning(
    names: tuple[str, str], expected: str, tmp_path: Path
) -> None:
    folders = [make_run(tmp_path / name, data=SMALL, seed=seed) for seed, name in enumerate(names)]
    other = make_run(tmp_path / "other", data=SMALL, arch="resnet50")
    assert list(_grouped(*folders, other)) == [expected, "other"]


def test_what_is_no_comparison_is_refused(tmp_path: Path) -> None:
    a, b = make_runs(tmp_path / "r18", [0, 1], data=SMALL)
    with pytest.raises(UsageError, match=r"are one contender: they differ in their seed only \(0, 1\)"):
        _grouped(a, b)
    again = make_run(tmp_path / "again", data=SMALL)
    with pytest.raises(UsageError, match="r18-s0 and again are one method with the same seed, 0"):
        _grouped(a, again)
    copy = Path(shutil.copytree(a, tmp_path / "copy"))
    with pytest.raises(UsageError, match="are the same run"):
        _grouped(a, copy, mine=[1])
    many = [
        make_run(tmp_path / f"m{number}", data=Data(patients=12), folds=2, epochs=number)
        for number in range(1, MAX_CONTENDERS + 2)
    ]
    with pytest.raises(UsageError, match="21 runs are 21 contenders; at most 20"):
        _grouped(*many)


def test_choices_that_differ(tmp_path: Path) -> None:
    folders = [make_run(tmp_path / "a", data=SMALL), make_run(tmp_path / "b", data=SMALL, epochs=9, seed=1)]
    contenders: tuple[Contender, ...] = group_runs(_read(*folders), {})
    assert differing_choices(contenders) == {"stages": ("full from stem 4", "full from stem 9")}
    assert stages_text(read_run(folders[1])) == "full from stem 9"
