import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from medres.data.findings import Finding
from medres.data.sources import load_scans
from medres.data.survey import Survey, survey_scans
from medres.data.table import Scan, ScanTable
from medres.reporting import inspection_page
from medres.reporting.inspection import Inspection
from medres.reporting.inspection_facts import site_tables
from medres.reporting.inspection_figures import inspection_figures
from medres.reporting.inspection_page import render_inspection
from medres.runs.progress import Silent
from tests.data.making import volume, write_nifti, write_png, write_pngs

EVIL = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspection")
    write_pngs(folder, [f"{label}/{n}.png" for label in "ab" for n in range(15)])
    write_png(folder / "a/copy.png", seed=0)
    write_png(folder / "b/blank.png", pixels=np.full((8, 6), 7, dtype=np.uint8))
    write_png(folder / f"b/{EVIL.replace('/', '_')}.png", seed=77)
    for n in range(5):
        (folder / f"a/bad{n}.png").write_bytes(b"nonsense")
    return folder


@pytest.fixture(scope="module")
def inspection(root):
    return Inspection(survey=survey_scans(load_scans(root), progress=Silent(), refuse=False, thumbnails=True))


@pytest.fixture(scope="module")
def page(inspection):
    return render_inspection(inspection)


def screen(inspection, width=140):
    console = Console(width=width, file=open("/dev/null", "w"), record=True)  # noqa: SIM115
    console.print(inspection.screen())
    return console.export_text()


def test_the_json_holds_every_finding(inspection):
    document = json.loads(json.dumps(inspection.summary(), allow_nan=False))
    assert document["data"]["num_scans"] == 38
    assert document["data"]["num_read"] == 33
    assert document["data"]["classes"] == {"a": 21, "b": 17}
    assert len(document["findings"]) == len(inspection.survey.findings) == sum(document["num_findings"].values())
    assert [kind["code"] for kind in document["kinds"]][:2] == ["unknown-format", "constant"]
    assert sum(kind["num_findings"] for kind in document["kinds"]) == len(document["findings"])


def test_the_terminal_has_one_line_a_kind(inspection):
    text = screen(inspection)
    assert text.count("unknown-format") == 1
    assert "2 kinds of error" in text
    assert "medres finetune would refuse the data" in text
    assert "class folders" in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_terminal_may_have_any_width(inspection, width):
    assert max(map(len, screen(inspection, width).splitlines())) <= width


def test_errors_are_the_exit_code(inspection):
    assert inspection.exit_code == 1
    assert Inspection(survey=empty_survey()).exit_code == 0


def empty_survey(**changed):
    table = ScanTable(root=Path("/data"), scans=(), classes=(), source="files")
    return Survey(**{"table": table, "statistics": {}, "findings": (), "images": {}, **changed})


class Resources(HTMLParser):
    """What a page would load, and which elements it has."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.loads = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loads += [value for name, value in attributes if name in ("src", "href", "xlink:href", "srcset")]


def test_the_page_loads_nothing_and_runs_nothing(page):
    resources = Resources(page)
    assert "script" not in resources.tags
    assert len(resources.loads) > 30
    assert all(load.startswith(("data:image/jpeg;base64,", "#")) for load in resources.loads)
    assert not re.search(r"@import|url\((?!#)", page)


def test_names_from_the_data_are_text(page):
    assert EVIL.replace("/", "_") not in page
    assert "&lt;script&gt;alert" in page


def test_the_page_says_that_it_is_local(page):
    assert page.index("Local only") < page.index("medres inspect</p>")


def test_every_kind_of_finding_is_on_the_page_with_its_scans(inspection, page):
    for group in inspection.groups:
        assert f"<code>{group.code}</code>" in page
        assert group.rule.replace("'", "&#39;") in page
    for n in range(5):
        assert f"bad{n}.png" in page


def test_copies_stand_beside_each_other(page):
    section = page[page.index("<code>identical-scans</code>") :]
    section = section[: section.index("</article>")]
    assert section.count("<img") == 2
    assert "a/0" in section
    assert "a/copy" in section


def test_pictures_are_bounded(inspection, monkeypatch):
    monkeypatch.setattr(inspection_page, "MAX_OVERVIEW", 7)
    monkeypatch.setattr(inspection_page, "MAX_PICTURES_OF_KIND", 4)
    monkeypatch.setattr(inspection_page, "MAX_PICTURES_OF_FINDINGS", 5)
    ids = list(inspection.survey.thumbnails)
    many = [Finding(code=code, severity="warning", sample_id=name, rule="r", value=name)
            for code in ("mixed-color", "mixed-modality", "nearly-empty") for name in ids[:9]]  # fmt: skip
    survey = Survey(**{**vars(inspection.survey), "findings": tuple(many)})
    page = render_inspection(Inspection(survey=survey))
    assert page.count("<img") == 7 + 5
    assert "5 more scans have no picture here" in page


def test_rows_are_bounded_and_the_rest_is_counted(inspection, monkeypatch):
    monkeypatch.setattr(inspection_page, "MAX_ROWS", 3)
    many = [Finding(code="label-missing", severity="error", file=str(n), rule="r", value=f"row {n}") for n in range(9)]
    page = render_inspection(Inspection(survey=Survey(**{**vars(inspection.survey), "findings": tuple(many)})))
    assert "row 2" in page
    assert "row 3" not in page
    assert "6 more are not listed here" in page


def test_data_of_which_nothing_can_be_read(tmp_path):
    for label in "ab":
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.png").write_bytes(b"nonsense")
    survey = survey_scans(load_scans(tmp_path), progress=Silent(), refuse=False, thumbnails=True)
    inspection = Inspection(survey=survey)
    assert inspection.summary()["scans"] is None
    assert "2 of them unreadable" in screen(inspection)
    assert "1.png" in render_inspection(inspection)


def test_volumes_have_spacing_and_no_class_is_no_problem(tmp_path):
    for n in range(3):
        write_nifti(tmp_path / f"a/{n}.nii", volume(seed=n))
        write_nifti(tmp_path / f"b/{n}.nii", volume(seed=9 + n))
    survey = survey_scans(load_scans(tmp_path), progress=Silent(), refuse=False)
    assert [heading for heading, _, _ in inspection_figures(survey)] == ["Spacing", "Size", "Intensity"]
    blank = Survey(**{**vars(survey), "table": ScanTable(**{**vars(survey.table), "classes": ()})})
    assert "have no labels yet" in Inspection(survey=blank).verdict()
    assert "Colours" not in render_inspection(Inspection(survey=blank))


# --- labels by site


def by_site(rows, column="site"):
    scans = tuple(
        Scan(sample_id=str(n), patient_id=str(n), path=Path("x"), label=label, metadata={column: site, "age": str(n)})
        for n, (site, label) in enumerate(rows)
    )
    return site_tables(ScanTable(root=Path("."), scans=scans, classes=("a", "b"), source=""))


@pytest.mark.parametrize("column", ["site", "Site_ID", "hospital", "scanner", "Manufacturer", "magnet_field_strength"])
def test_columns_of_sites_are_recognised(column):
    assert [site.column for site in by_site([("x", "a"), ("y", "b")] * 5, column)] == [column]


@pytest.mark.parametrize("column", ["center_x_mm", "age", "opposite", "website_visits", "parasite"])
def test_other_columns_are_not(column):
    assert by_site([("x", "a"), ("y", "b")] * 5, column) == []


def test_association_is_0_where_classes_are_spread_alike_and_1_where_the_site_tells_the_class():
    alike, telling = [("x", "a"), ("x", "b"), ("y", "a"), ("y", "b")] * 25, [("x", "a"), ("y", "b")] * 50
    assert by_site(alike)[0].association == 0.0
    assert by_site(telling)[0].association == 1.0


def test_many_values_are_no_sites():
    assert by_site([(str(n), "ab"[n % 2]) for n in range(40)]) == []


def test_scans_without_labels_are_not_counted():
    [site] = by_site([("x", "a"), ("y", "b"), ("x", None), ("", "b")])
    assert site.rows == (("(blank)", (0, 1)), ("x", (1, 0)), ("y", (0, 1)))
