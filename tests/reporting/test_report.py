from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from medres.errors import ConfigError, OutputError
from medres.finetuning.scoring import main_block
from medres.reporting.report import render_report, write_report
from medres.runs.folder import RunFolder
from tests.reporting.conftest import HOSTILE, RUNS
from tests.reporting.fake_runs import CANARIES

VOID = {"meta", "br", "img", "hr", "input", "link"}


class Page(HTMLParser):
    """Collect text, tags and attributes; fail on tags that do not close in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module", params=list(RUNS))
def rendered(request: pytest.FixtureRequest, runs: dict[str, RunFolder]) -> tuple[RunFolder, str]:
    folder = runs[request.param]
    return folder, render_report(folder)


def test_every_kind_of_run_is_rendered() -> None:
    assert len(RUNS) == 10


def test_page_is_well_formed_and_stands_alone(rendered: tuple[RunFolder, str]) -> None:
    page = Page(rendered[1])
    assert not {"script", "link", "iframe", "object", "embed", "img", "base", "form"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "srcset", "xmlns")]
    # links lead to marks inside the page only
    assert all(value.startswith("#") for name, value in page.attributes if name.endswith("href"))
    assert not re.search(r"https?:|@import|url\((?!#)|//[a-z]+\.", rendered[1])


def test_marks_that_figures_refer_to_are_there(rendered: tuple[RunFolder, str]) -> None:
    page = Page(rendered[1])
    ids = {value for name, value in page.attributes if name == "id"}
    used = {value[1:] for name, value in page.attributes if name.endswith("href")}
    used |= {match for _, value in page.attributes for match in re.findall(r"url\(#([^)]+)\)", value)}
    assert used
    assert used <= ids


def test_page_shows_every_score_with_its_interval_and_counts(rendered: tuple[RunFolder, str]) -> None:
    folder, text = rendered
    words = Page(text).words
    metrics = json.loads(folder.metrics.read_text())
    blocks = [block for block in (metrics["pooled"], metrics["test"]) if block]
    shown = 0
    for block in blocks:
        for score in block["scores"].values():
            value = "-" if score["value"] is None else f"{score['value']:.3f}"
            bounds = (
                f"none: {score['reason']}" if score["low"] is None else f"{score['low']:.3f} to {score['high']:.3f}"
            )
            row = f"{value} {bounds} {score['n_patients']} {score['n_units']} {score['n_events']}"
            assert row in words, row
            shown += 1
    assert shown == sum(len(block["scores"]) for block in blocks) > 5


def test_page_shows_every_class_and_fold(rendered: tuple[RunFolder, str]) -> None:
    folder, text = rendered
    words = Page(text).words
    metrics = json.loads(folder.metrics.read_text())
    for name, scores in main_block(metrics)[1]["per_class"].items():
        assert f"{' '.join(name.split())} {scores['n_patients']} {scores['n_units']}" in words
    for fold in metrics["folds"]:
        assert f"{fold['temperature']:.2f}" in words


def test_no_path_and_no_id_comes_onto_the_page(rendered: tuple[RunFolder, str]) -> None:
    folder, text = rendered
    assert [canary for canary in CANARIES if canary in text] == []
    assert str(folder.path.parent) not in text


def test_the_canaries_are_in_what_the_report_reads(run: RunFolder) -> None:
    read = "".join(path.read_text() for path in (run.findings, run.events))
    assert all(canary in read for canary in CANARIES)


def test_hostile_names_are_shown_as_text(runs: dict[str, RunFolder]) -> None:
    text = render_report(runs["hostile names"])
    page = Page(text)
    assert "<script" not in text
    assert "<img" not in text
    for name in HOSTILE:
        assert " ".join(name.split()) in page.words


def test_a_name_in_a_hand_edited_prediction_is_withheld(run: RunFolder, tmp_path: Path) -> None:
    copy = _copy(run, tmp_path)
    copy.predictions.write_text(re.sub(r"\b[pu]-", "Doe^John-", run.predictions.read_text()))
    text = render_report(copy)
    assert "Doe^John" not in text
    assert "(withheld)" in text


def test_findings_are_counted_by_code(run: RunFolder) -> None:
    assert "warning identical-scans 2 info no-spacing 1" in Page(render_report(run)).words


def test_worst_errors_are_wrong_and_in_order(run: RunFolder) -> None:
    part = Page(render_report(run)).words.split("Most confident errors")[1].split("Most probable class against")[0]
    rows = re.findall(r"u-[0-9a-f]{12} p-[0-9a-f]{12} \d (benign|malignant) (benign|malignant) ([01]\.\d+)", part)
    assert 1 <= len(rows) <= 10
    assert all(label != predicted for label, predicted, _ in rows)
    assert [float(row[2]) for row in rows] == sorted((float(row[2]) for row in rows), reverse=True)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("three classes", "The ensemble of all folds, which is what is served, can only be scored on a test split"),
        ("given split", "one model on the given test split"),
        ("single split", "another division gives other scores"),
    ],
)
def test_limits_fit_the_kind_of_division(runs: dict[str, RunFolder], name: str, sentence: str) -> None:
    assert sentence in Page(render_report(runs[name])).words


@pytest.mark.parametrize("missing", ["predictions", "plan", "fingerprint", "findings", "events"])
def test_a_missing_document_costs_its_section_only(run: RunFolder, tmp_path: Path, missing: str) -> None:
    copy = _copy(run, tmp_path)
    getattr(copy, missing).unlink()
    words = Page(render_report(copy)).words
    assert "AUROC" in words
    assert "Limits" in words


def test_written_file_is_the_page_and_nothing_else_is_left(run: RunFolder, tmp_path: Path) -> None:
    copy = _copy(run, tmp_path)
    before = {path.name for path in copy.path.iterdir()}
    path = write_report(copy)
    assert path == copy.report
    assert Page(path.read_text(encoding="utf-8")).words.startswith("run-0 · medres report")
    assert {item.name for item in copy.path.iterdir()} == {*before, "report.html"}


def test_the_same_run_gives_the_same_page(run: RunFolder) -> None:
    stamp = re.compile(r"written \d{4}-\d\d-\d\d \d\d:\d\d")
    assert stamp.sub("", render_report(run)) == stamp.sub("", render_report(run))


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"metrics\.json is missing"):
        write_report(RunFolder(tmp_path))


def test_a_damaged_plan_is_refused_by_name(run: RunFolder, tmp_path: Path) -> None:
    copy = _copy(run, tmp_path)
    copy.plan.write_text("spatial_dims: 7\n")
    with pytest.raises(ConfigError, match=r"plan\.yaml"):
        render_report(copy)


def _copy(run: RunFolder, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(run.path, tmp_path / run.name, ignore=shutil.ignore_patterns("report.html"))))
