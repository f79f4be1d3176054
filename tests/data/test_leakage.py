import random
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from medres.data.catalogue import KINDS
from medres.data.folds import inner_split, make_folds
from medres.data.leakage import leakage_findings
from medres.data.near_duplicates import NearGroup
from medres.data.spelling import lookalike_key
from medres.errors import DataError
from tests.data.making import table_of
from tests.figures import RecordProperty


def found(table, code=None, **options):
    findings = list(leakage_findings(table, **options))
    assert all(finding.code in KINDS and finding.rule == KINDS[finding.code].rule for finding in findings)
    return [finding for finding in findings if code in (None, finding.code)]


def with_alike(table, groups):
    return replace(table, scans=tuple(replace(scan, alike=groups.get(scan.sample_id, "")) for scan in table))


# --- one by one


def test_nothing_is_found_where_nothing_is_wrong():
    rows = [(f"s{n}", f"p{n // 2}", "ab"[n // 2 % 2], f"h{n}", ("train", "test")[n // 4]) for n in range(8)]
    assert found(table_of(rows)) == []
    assert found(table_of([])) == []


@pytest.mark.parametrize("rounded", ["1,23457E+11", "1.23457E+11", "1E+12"])
def test_ids_that_a_spreadsheet_rounded(rounded):
    rows = [("a", rounded, "x", "1"), ("b", rounded, "x", "2"), ("c", "12E3", "y", "3"), ("d", "E+12", "y", "4")]
    (finding,) = found(table_of(rows))
    assert (finding.code, finding.severity, finding.samples) == ("id-rounded", "error", ("a", "b"))
    assert found(replace(table_of(rows), patients_given=False)) == []


def test_identical_scans_of_one_patient_are_good_to_know_and_of_two_a_warning():
    rows = [
        ("a", "p", "x", "h"),
        ("b", "p", "x", "h"),
        ("c", "q", "x", "g"),
        ("d", "r", "x", "g"),
        ("e", "r", "x", "k"),
    ]
    one, two = found(table_of(rows))
    assert (one.code, one.severity, one.samples) == ("identical-scans", "info", ("a", "b"))
    assert (two.code, two.severity, two.samples) == ("identical-scans", "warning", ("c", "d"))
    assert one.value == "The same voxels: a = b."
    assert two.value == "The same voxels: c = d, of 2 patients (q, r)."
    # where every file was taken as a patient, nobody knows whose they are
    (alone,) = found(table_of([("a", "a", "x", "h"), ("b", "b", "x", "h")], patients_given=False))
    assert (alone.severity, alone.value) == ("info", "The same voxels: a = b.")


def test_copies_with_other_labels():
    rows = [("a", "p", "x", "h"), ("b", "p", "y", "h"), ("c", "p", None, "h")]
    (finding,) = found(table_of(rows, classes=("x", "y")), "contradicting-labels")
    assert (finding.severity, finding.samples) == ("warning", ("a", "b", "c"))
    assert finding.value == "The same voxels with different labels: a (x) = b (y) = c."


@pytest.mark.parametrize("near", [False, True])
def test_copies_across_splits_name_the_scored_one_first(near):
    rows = [("a", "p", "x", "h", "train"), ("b", "q", "x", "g" if near else "h", "test"), ("c", "r", "x", "k", "val")]
    table = table_of(rows)
    if near:
        table = with_alike(table, {"a": "a", "b": "a"})
    code = "near-duplicates-across-splits" if near else "identical-across-splits"
    (finding,) = found(table, code)
    assert (finding.severity, finding.sample_id, finding.others) == ("warning", "b", ("a",))
    assert "in test and train: b (test), a (train)." in finding.value


def test_near_duplicates_say_how_near():
    table = with_alike(
        table_of([("a", "p", "x", "h"), ("b", "q", "y", "g"), ("c", "r", "x", "k")]), {"a": "a", "b": "a"}
    )
    near = [NearGroup(members=("a", "b"), similarity=0.934, turned=True)]
    (finding,) = found(table, near=near)
    assert (finding.code, finding.severity, finding.samples) == ("near-duplicates", "warning", ("a", "b"))
    assert finding.value == (
        "Nearly the same picture (correlation 0.93, flipped or rotated): a (x), b (y), of 2 patients (p, q)."
        " Their labels differ."
    )
    (plain,) = found(table)
    assert plain.value.startswith("Nearly the same picture: a (x), b (y)")


def test_what_is_identical_is_not_nearly_so():
    rows = [("a", "p", "x", "h"), ("b", "q", "x", "h"), ("c", "q", "x", "g")]
    both = with_alike(table_of(rows), {"a": "a", "b": "a"})
    assert [finding.code for finding in found(both)] == ["identical-scans"]
    three = with_alike(table_of(rows), {"a": "a", "b": "a", "c": "a"})
    assert [finding.code for finding in found(three)] == ["identical-scans", "near-duplicates"]
    assert found(three, "near-duplicates")[0].samples == ("a", "b", "c")


def test_a_patient_on_two_sides_is_an_error_before_the_folds_refuse_it():
    rows = [(f"s{n}", f"p{n}", "ab"[n % 2], f"h{n}", ("train", "test")[n // 4]) for n in range(8)]
    table = table_of([*rows, ("t", "p1", "b", "h9", "test")])
    (finding,) = found(table)
    assert (finding.code, finding.severity, finding.samples) == ("patient-across-splits", "error", ("t", "s1"))
    assert finding.value == "Patient p1 is in test and train: t, s1."
    with pytest.raises(DataError, match="1 patient on two sides"):
        make_folds(table, num_folds=None, seed=0)


def test_patients_with_two_labels_are_one_finding():
    rows = [(f"s{n:02}", f"p{n // 3}", "ab"[n % 2], "") for n in range(12)] + [("z", "q", "a", "")]
    (finding,) = found(table_of(rows))
    assert (finding.code, finding.severity, len(finding.samples)) == ("patient-two-labels", "info", 12)
    assert finding.value == (
        "4 patients of 5 with scans of more than one class: p0 (a, b), p1 (a, b), p2 (a, b) and 1 more."
    )
    assert found(table_of(rows, patients_given=False)) == []


def test_long_groups_are_cut():
    (finding,) = found(table_of([(f"s{n:02}", "p", "x", "h") for n in range(40)]))
    assert finding.value.endswith("s09 and 30 more.")
    assert len(finding.samples) == 40


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("001", "1", True),
        (" 1", "1", True),
        ("P01", "p1", True),
        ("sub-007_a", "SUB-7_A", True),
        ("１", "1", True),
        ("a  b", "a b", True),
        ("0", "000", True),
        ("10", "1", False),
        ("100", "10", False),
        ("1.10", "1.1", False),
        ("p-1", "p1", False),
        ("", "0", False),
    ],
)
def test_ids_that_look_alike(one, other, alike):
    assert (lookalike_key(one) == lookalike_key(other)) == alike
    table = table_of([("a", one, "x", ""), ("b", other, "x", "")])
    assert len(found(table, "id-lookalike")) == alike * (one != "")
    assert found(table_of([("a", one, "x", ""), ("b", other, "x", "")], patients_given=False)) == []


def test_what_the_source_found_is_not_found_again():
    table = table_of([("a", "01", "x", ""), ("b", "1", "x", "")])
    (finding,) = found(table)
    assert finding.value == (
        "The patients '01' (1 scan) and '1' (1 scan) are taken as different; they differ in leading zeros only."
    )
    assert found(replace(table, findings=(finding,))) == []


# --- 1,000 cohorts


MESSY = ["001", "1", " 1", "01", "P1", "p1", "p01", *(f"q{n}" for n in range(16))]
SPLITS = ["train", "val", "test"]


def random_cohort(seed, *, splits):
    """Return a table with copies planted across ids, and the pairs that were planted."""
    rng = random.Random(seed)
    patients = rng.sample(MESSY, rng.randint(10, len(MESSY)))
    side = {patient: rng.choices(SPLITS, [3, 1, 2])[0] for patient in patients}
    rows = []
    for index in range(rng.randint(30, 60)):
        patient = rng.choice(patients)
        rows.append([f"s{index:03}", patient, rng.choice("ab"), f"h{index}", side[patient] if splits else None])
    identical, near = [], []
    for _ in range(rng.randint(1, 5)):
        one, other = rng.sample(range(len(rows)), 2)
        rows[other][3] = rows[one][3]
        identical.append((one, other))
    alike = {}
    for _ in range(rng.randint(0, 3)):
        one, other = rng.sample(range(len(rows)), 2)
        group = alike.setdefault(f"s{one:03}", f"s{one:03}")
        alike[f"s{other:03}"] = group
        near.append((one, other))
    table = with_alike(table_of(rows, classes=("a", "b")), alike)
    same = {key: [getattr(scan, key) for scan in table] for key in ("content_hash", "alike")}
    # a scan that was planted twice keeps its last copy only
    return (
        table,
        [pair for pair in identical if same["content_hash"][pair[0]] == same["content_hash"][pair[1]]],
        [pair for pair in near if same["alike"][pair[0]] == same["alike"][pair[1]]],
    )


def overlaps(table, left, right):
    """Return how many patients, scans and near copies are on both sides."""
    count = 0
    for key in ("patient_id", "content_hash", "alike"):
        sides = [{getattr(table.scans[row], key) for row in rows} - {""} for rows in (left, right)]
        count += len(sides[0] & sides[1])
    return count


def sides_of(table, *, num_folds, seed):
    """Yield the two sides of every division that medres makes of a table."""
    folding = make_folds(table, num_folds=num_folds, seed=seed)
    for fold in folding.folds:
        yield fold.train, fold.held_out
        yield fold.train, fold.val
        # a copy of a scored scan must not choose either
        learn = np.concatenate([fold.train, fold.val])
        yield learn, fold.held_out
        yield learn, folding.test
        try:
            yield inner_split(table, fold.train, seed=seed)
        except DataError:
            continue


def check_cohort(seed, counts):
    splits = seed % 3 > 0
    table, identical, near = random_cohort(seed, splits=splits)
    findings = defaultdict(list)
    for finding in leakage_findings(table):
        findings[finding.code].append(set(finding.samples))
    for code, pairs in (("identical-scans", identical), ("near-duplicates", near)):
        for one, other in pairs:
            pair = {f"s{one:03}", f"s{other:03}"}
            apart = table.scans[one].content_hash != table.scans[other].content_hash
            if code == "identical-scans" or apart:
                assert sum(pair <= samples for samples in findings[code]) == 1, (seed, code, pair)
                counts[code] += 1
            if splits and table.scans[one].split != table.scans[other].split and (code != "near-duplicates" or apart):
                across = "identical-across-splits" if code == "identical-scans" else "near-duplicates-across-splits"
                assert any(pair <= samples for samples in findings[across]), (seed, across, pair)
    messy = defaultdict(set)
    for scan in table:
        messy[lookalike_key(scan.patient_id)].add(scan.patient_id)
    assert len(findings["id-lookalike"]) == sum(len(ids) > 1 for ids in messy.values())
    counts["id-lookalike"] += len(findings["id-lookalike"])
    try:
        for left, right in sides_of(table, num_folds=[None, 2, 1][seed // 3 % 3], seed=seed):
            assert overlaps(table, left, right) == 0, seed
            counts["sides"] += bool(len(left) and len(right))
    except DataError:
        counts["refused"] += 1


def test_no_side_shares_anything_and_every_copy_is_reported(record_property: RecordProperty):
    counts, cohorts = Counter(), 1000
    for seed in range(cohorts):
        check_cohort(seed, counts)
    copies = counts["identical-scans"] + counts["near-duplicates"]
    record_property(
        "figure", f"{cohorts} cohorts: 0 overlaps in {counts['sides']} divisions, all {copies} copies found"
    )
    assert counts["sides"] > 3 * cohorts
    assert counts["identical-scans"] > cohorts
    assert counts["near-duplicates"] > cohorts / 2
    assert counts["id-lookalike"] > cohorts
    assert counts["refused"] < cohorts / 2


def test_the_law_fails_where_copies_are_ignored():
    # without hashes and groups, copies do fall on two sides: the test above can fail
    shared = 0
    for seed in range(20):
        table, *_ = random_cohort(seed, splits=False)
        blind = replace(table, scans=tuple(replace(scan, content_hash="", alike="") for scan in table))
        for one, other in combinations(make_folds(blind, num_folds=2, seed=0).folds, 2):
            shared += overlaps(table, one.held_out, other.held_out)
    assert shared > 20
