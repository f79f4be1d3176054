from dataclasses import replace

import pytest

from medres.data.catalogue import KINDS
from medres.data.exclusion import excluded_scans, require_known_codes, without_excluded
from medres.data.findings import Finding
from medres.errors import DataError, UsageError
from tests.data.making import table_of

TABLE = table_of([(f"s{n}", f"p{n}", "ab"[n % 2], "", ("test", "train", "val")[n % 3]) for n in range(12)])


def finding(code, *samples):
    return Finding(code=code, severity="warning", sample_id=samples[0], others=samples[1:], rule="r", value="v")


def test_every_code_of_the_catalogue_is_known():
    require_known_codes(KINDS)


@pytest.mark.parametrize(("code", "hint"), [("constnat", "'constant'"), ("Identical-Scans", "'identical-scans'")])
def test_a_misspelt_code_is_refused_with_what_is_close(code, hint):
    with pytest.raises(UsageError, match=f"Did you mean .*{hint}") as caught:
        require_known_codes([code])
    assert caught.value.exit_code == 2


def test_a_code_that_is_like_none_points_to_the_list():
    with pytest.raises(UsageError, match=r"'zzz'. docs/reference/findings.md lists all"):
        require_known_codes(["zzz"])


@pytest.mark.parametrize(("code", "expected"), [
    ("constant", ("s0", "s3", "s1")), ("contradicting-labels", ("s0", "s3", "s1")),
    ("identical-scans", ("s3", "s1")), ("near-duplicates", ("s3", "s1")),
    ("identical-across-splits", ("s1",)), ("patient-across-splits", ("s1",)),  # s0 and s3 are of the test split
])  # fmt: skip
def test_which_scans_of_a_group_are_left_out(code, expected):
    assert excluded_scans(TABLE, [finding(code, "s0", "s3", "s1")], [code]) == {code: expected}


def test_no_scan_is_left_out_twice():
    findings = [finding("constant", "s0"), finding("mixed-color", "s0"), finding("mixed-color", "s1")]
    assert excluded_scans(TABLE, findings, ["constant", "mixed-color"]) == {"constant": ("s0",), "mixed-color": ("s1",)}


def test_findings_about_files_leave_out_nothing():
    about_a_file = Finding(code="file-not-listed", severity="warning", file="x", rule="r", value="v")
    assert excluded_scans(TABLE, [about_a_file], ["file-not-listed"]) == {"file-not-listed": ()}


def test_the_rest_keeps_its_classes_and_its_findings():
    known = (finding("patient-missing", "s0"), finding("patient-missing", "s1"))
    rest = without_excluded(replace(TABLE, findings=known), {"constant": ("s0", "s2")})
    assert [scan.sample_id for scan in rest] == [f"s{n}" for n in (1, *range(3, 12))]
    assert rest.classes == TABLE.classes
    assert rest.findings == known[1:]


@pytest.mark.parametrize(("gone", "message"), [
    (range(12), r"constant \(12 scans\) leaves no scan\."), (range(0, 12, 2), r"leaves no scan of class 'a'"),
])  # fmt: skip
def test_nothing_left_is_refused(gone, message):
    with pytest.raises(DataError, match=message):
        without_excluded(TABLE, {"constant": tuple(f"s{n}" for n in gone)})


def test_data_without_labels_may_lose_scans():
    blank = replace(TABLE, classes=(), scans=tuple(replace(scan, label=None) for scan in TABLE))
    assert len(without_excluded(blank, {"constant": ("s0",)})) == 11
