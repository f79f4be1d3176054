from __future__ import annotations

import html
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import medres
from medres.errors import MedresError, OutputError, UsageError
from medres.evaluation.comparison import COMPARED_SCORES
from medres.reporting.comparison.result import Comparison
from medres.workflows.comparison import parse_groups
from tests.integration.conftest import inside
from tests.reporting.comparison.made import CANARY, Data, make_run, make_runs


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two seeds of a weak method, three of a stronger one, and one run of a third; each patient has one scan."""
    folder = tmp_path_factory.mktemp("runs")
    data = Data(patients=80)
    return [
        *make_runs(folder / "r18", [0, 1], data=data, signal=0.5),
        *make_runs(folder / "r50", [0, 1, 2], data=data, signal=1.8, arch="resnet50"),
        make_run(folder / "<b>r34", data=data, arch="resnet34", seed=7, patient_pattern="ward-(secret)"),
    ]


@pytest.fixture(scope="module")
def comparison(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return medres.compare(folders, html=tmp_path_factory.mktemp("page") / "deeper" / "compare.html")


def test_what_is_compared(comparison: Comparison) -> None:
    assert [contender.name for contender in comparison.contenders] == ["r18", "r50", "<b>r34"]
    assert comparison.reference == "r18"
    assert set(comparison.scores["differences"]) == {"r50", "<b>r34"}
    better = comparison.scores["differences"]["r50"]["auroc"]
    assert better["low"] > 0.05
    assert "r50 ranks better" in " ".join(comparison.conclusions()["r50"])
    test = comparison.scores["delong"]["r50"]
    assert test["p"] < 0.01
    assert test["p_holm"] == pytest.approx(2 * test["p"])
    assert test["value"] == pytest.approx(better["value"], abs=1e-12)


def test_costs_are_what_was_recorded(comparison: Comparison) -> None:
    cost = comparison.costs["r50"]
    assert (cost.parameters, cost.models, cost.epochs, cost.macs) == (11_170_000, 5, 4, None)
    assert all(seconds == pytest.approx(52.5, abs=1) for seconds in cost.seed_seconds)


@pytest.mark.parametrize("reference", ["r50", "r50-s1", "path"])
def test_the_reference_may_be_named_by_contender_run_or_path(folders: list[Path], reference: str) -> None:
    assert medres.compare(folders, reference=folders[3] if reference == "path" else reference).reference == "r50"


def test_groups_take_runs_together(folders: list[Path]) -> None:
    found = medres.compare(folders[:2], groups={"deep": folders[2:]})
    assert [(contender.name, contender.seeds) for contender in found.contenders] == [
        ("r18", (0, 1)),
        ("deep", (0, 1, 2, 7)),
    ]
    assert "arch" in found.contenders[1].mixed
    assert any("the runs of deep also differ in arch" in table.note for table in found.tables())


def test_the_same_comparison_gives_the_same_numbers(folders: list[Path], comparison: Comparison) -> None:
    again = medres.compare([str(folder) for folder in folders])
    assert again.scores == comparison.scores


@pytest.mark.parametrize(
    "data",
    [Data(classes=("a", "b", "c"), patients=75), Data(scans=3, units=True), Data(split=True, patients=80)],
)
def test_every_kind_of_run_has_a_screen_and_a_page(data: Data, tmp_path: Path) -> None:
    folders = [make_run(tmp_path / "a", data=data), make_run(tmp_path / "b", data=data, seed=1, arch="resnet50")]
    done = inside("compare", *folders, "--html", tmp_path / "page.html", "--quiet")
    assert done.exit_code == 0, done.output
    assert ("DeLong" in done.output) == (data.scans == 1 or data.units or len(data.classes) > 2)
    assert (tmp_path / "page.html").stat().st_size > 20_000


# ---- the page ----


def test_the_page_holds_no_id_no_path_and_nothing_from_outside(comparison: Comparison, folders: list[Path]) -> None:
    assert comparison.page is not None
    page = comparison.page.read_text(encoding="utf-8")
    for secret in (CANARY, "/mnt/hospital", str(folders[0].parent), "secret", "<b>r34"):
        assert secret not in page
    assert "&lt;b&gt;r34" in page
    assert "(not shown)" in page  # the pattern of patients differs, and its value stays here
    assert not re.findall(r"(?:src|href)=\"(?!#)|url\((?!#)|<script|@import", page)
    figures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(figures) == 2
    for figure in figures:
        ET.fromstring(figure.replace("&nbsp;", " "))
    for table in comparison.tables():
        assert table.title in html.unescape(page)


def test_the_page_says_what_the_screen_says(comparison: Comparison) -> None:
    assert comparison.page is not None
    page = comparison.page.read_text(encoding="utf-8")
    for name, scores in comparison.scores["scores"].items():
        for score in COMPARED_SCORES:
            assert f"{scores[score]['value']:.3f}" in page, (name, score)


# ---- the command line ----


def test_json_is_all_of_it(folders: list[Path]) -> None:
    done = inside("compare", *folders, "--json", "--reference", "r50")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["format"] == 1
    assert (document["n_units"], document["n_patients"], document["reference"]) == (80, 80, "r50")
    assert document["contenders"]["r18"]["seeds"] == [0, 1]
    assert document["contenders"]["r18"]["runs"] == [str(folder) for folder in folders[:2]]
    assert document["differences"]["r18"]["auroc"]["high"] < 0
    assert document["conclusions"]["r18"]


def test_the_screen_names_contenders_scores_and_what_can_be_concluded(folders: list[Path]) -> None:
    screen = inside("compare", *folders, "--quiet").stdout
    assert screen.startswith("6 runs, 3 contenders on pooled held-out folds: 80 patients, 80 scans; benign 40")
    for text in ("Contenders", "Cost", "Scores, mean over seeds", "Differences from r18", "p, Holm", "<b>r34"):
        assert text in screen
    assert "The interval does not contain 0: r50 ranks better" in re.sub(r"\s+", " ", screen)


def test_groups_on_the_command_line(folders: list[Path]) -> None:
    group = f"deep={folders[2]},{folders[3]}"
    done = inside("compare", folders[0], folders[1], "--group", group, "--json")
    assert json.loads(done.stdout)["contenders"]["deep"]["seeds"] == [0, 1]


@pytest.mark.parametrize("text", ["deep", "deep=", "=a,b", "deep=,"])
def test_a_group_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no group. Write --group NAME=RUN,RUN"):
        parse_groups([text])


def test_a_group_twice() -> None:
    with pytest.raises(UsageError, match="The group deep is there twice"):
        parse_groups(["deep=a", "deep=b"])


def _message(*arguments: str | Path) -> tuple[int, str]:
    done = inside("compare", *arguments, "--quiet")
    assert "Traceback" not in done.output
    assert len(done.stderr.strip().splitlines()) == 1
    return done.exit_code, done.stderr


def test_bad_input_is_one_message(folders: list[Path], tmp_path: Path) -> None:
    a, c = folders[0], folders[2]
    (tmp_path / "folder").mkdir()
    cases: list[tuple[int, str, tuple[str | Path, ...]]] = [
        (2, "0 run is no comparison", ()),
        (2, "1 run is no comparison", (a,)),
        (2, "is given twice", (a, c, a)),
        (2, "is given twice", (a, c, "--group", f"x={a.parent / '.' / a.name}")),
        (2, "101 runs are given; at most 100", (a,) * 101),
        (2, "are one contender", tuple(folders[:2])),
        (2, "The reference r99 is none of the contenders: r18-s0, r50-s0", (a, c, "--reference", "r99")),
        (1, "there is no such folder", (a, tmp_path / "nowhere")),
        (1, "Give the runs in it", (a, a.parent)),
        (1, "a folder stands where the file should be", (a, c, "--html", tmp_path / "folder")),
        (1, "different classes", (a, make_run(tmp_path / "x", data=Data(classes=("p", "q"))))),
        (1, "different classes", (a, make_run(tmp_path / "y", data=Data(classes=("a", "b", "c"), patients=75)))),
        (1, "given test split", (a, make_run(tmp_path / "z", data=Data(split=True, patients=80)))),
    ]
    for code, text, arguments in cases:
        assert _message(*arguments)[0] == code, text
        assert text in _message(*arguments)[1]


def test_a_page_that_cannot_be_written_is_refused(folders: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a file stands where the folder should be"):
        medres.compare(folders, html=tmp_path / "file" / "page.html")


def test_from_python_a_group_needs_runs(folders: list[Path]) -> None:
    with pytest.raises(MedresError, match="The group x has no runs"):
        medres.compare(folders, groups={"x": []})
