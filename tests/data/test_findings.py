import random

import pytest

from medres.data.findings import Finding, read_findings, summarise, write_findings


def finding(code="constant", severity="error", sample="s", value="{} is 0 everywhere.", **more):
    return Finding(code=code, severity=severity, sample_id=sample, rule="r", value=value.format(sample), **more)


def test_every_finding_is_in_one_group_whatever_their_order():
    kinds = [("a", "info", 5), ("b", "error", 2), ("c", "warning", 7), ("d", "error", 4)]
    findings = [finding(code, severity, f"{code}{n}") for code, severity, count in kinds for n in range(count)]
    for seed in range(20):
        shuffled = random.Random(seed).sample(findings, len(findings))
        groups = summarise(shuffled)
        assert [(group.code, group.count) for group in groups] == [("d", 4), ("b", 2), ("c", 7), ("a", 5)]
        assert sorted(f.sample_id for group in groups for f in group.findings) == sorted(f.sample_id for f in findings)


def test_one_code_of_two_severities_is_two_groups():
    assert len(summarise([finding(severity="info"), finding(severity="warning")])) == 2


def test_the_same_said_of_many_scans_is_said_once():
    [group] = summarise([finding(sample=f"s{n:03}") for n in range(200)])
    assert group.sentence() == "200 scans: is 0 everywhere. (s000, s001, s002 and 197 more)"
    assert group.line().startswith("error constant: 200 scans: is 0")


def test_different_values_show_the_first_three():
    [group] = summarise([finding(sample=f"s{n}", value="{} is " + str(n) + ".") for n in range(9)])
    assert group.sentence() == "9 scans: s0 is 0. s1 is 1. s2 is 2. (and 6 more)"


def test_one_finding_is_as_it_is():
    assert summarise([finding()])[0].sentence() == "s is 0 everywhere."
    assert summarise([finding(sample=None, value="Odd.")])[0].sentence() == "Odd."


def test_files_without_scans_are_counted_as_findings():
    many = [Finding(code="c", severity="warning", file=f"{n}", rule="r", value=f"{n} is odd.") for n in range(4)]
    assert summarise(many)[0].sentence(limit=1).startswith("4 findings: 0 is odd. (and 3 more)")


def test_copies_are_counted_by_group():
    groups = [finding("identical-scans", "info", f"a{n}", "Same: {}.", others=(f"b{n}", f"c{n}")) for n in range(3)]
    [group] = summarise(groups)
    assert group.samples == ("a0", "b0", "c0", "a1", "b1", "c1", "a2", "b2", "c2")
    assert group.extent() == "3 groups of 9 scans, 6 beside the first of each"


def test_the_fix_is_what_most_say():
    [group] = summarise([finding(fix="one"), finding(fix="two"), finding(fix="two"), finding(), finding(), finding()])
    assert group.fix == "two"


@pytest.mark.parametrize("excluded", [None, {}, {"constant": ("a", "b"), "unreadable": ()}])
def test_the_file_holds_every_finding_and_what_was_left_out(tmp_path, excluded):
    findings = [finding(sample=f"s{n}", others=("x",)) for n in range(200)]
    write_findings(tmp_path / "findings.json", findings, excluded=excluded)
    assert read_findings(tmp_path / "findings.json") == tuple(findings)


def test_a_file_of_an_earlier_version_is_read(tmp_path):
    (tmp_path / "f.json").write_text(
        '{"format": 1, "findings": [{"code":"x","severity":"info","rule":"r","value":"v"}]}'
    )
    assert read_findings(tmp_path / "f.json")[0].others == ()
