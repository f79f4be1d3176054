from dataclasses import replace

import pytest

from medres.data.identifiers import identifier_findings
from tests.data.making import table_of


def found(ids, *, units=None):
    table = table_of([(f"s{n}", name, "a", "") for n, name in enumerate(ids)])
    if units:
        table = replace(table, scans=tuple(replace(s, unit=u) for s, u in zip(table, units, strict=True)))
    return list(identifier_findings(table))


@pytest.mark.parametrize(("ids", "severity"), [
    (("117", "117.0"), "error"), (("117", "1.17e+02"), "error"), (("p1", "p1\u200b"), "error"),
    (("Mu\u0308", "M\u00fc"), "error"), (("a  b", "a b"), "error"), (("p\u20111", "p-1"), "error"),
    (("001", "1"), "warning"), (("p1", "P1"), "warning"), (("p_1", "p-1"), "warning"), (("aB3x", "ab3X"), "warning"),
])  # fmt: skip
@pytest.mark.parametrize("unit", [False, True])
def test_ids_that_nobody_can_have_meant_as_two_are_an_error_others_a_warning(ids, severity, unit):
    findings = found(("x", "y"), units=ids) if unit else found(ids)
    assert [(one.code, one.severity, one.samples) for one in findings] == [
        ("unit-lookalike" if unit else "id-lookalike", severity, ("s0", "s1"))
    ]
    assert "differ in" in findings[0].value
    assert findings[0].value.isprintable()


def test_an_error_among_warnings_is_an_error():
    (finding,) = found(["1", "001", "1.0"])
    assert finding.severity == "error"
    assert finding.value == (
        "The patients '001' (1 scan), '1' (1 scan) and '1.0' (1 scan) are taken as different; they differ in the way a "
        "number is written and leading zeros only."
    )


def test_ordinary_ids_are_not_told():
    assert found(["1", "2", "10", "100", "1.1", "1.10", "p-1", "p-11", "sub-01", "sub-02"]) == []


def test_strangers_that_share_a_word_for_nobody_are_counted():
    (finding,) = found(["NA", "p1", "NA", "NA", "p2", "NA"])
    assert (finding.code, finding.severity, finding.samples) == (
        "patient-placeholder",
        "warning",
        ("s0", "s2", "s3", "s5"),
    )
    assert finding.value == "4 scans share the patient id 'NA', which is how R writes a missing value."


@pytest.mark.parametrize("word", ["unknown", "None", "?", "-", "anonymous", "-99", "xxx"])
def test_what_can_be_no_ones_id_is_an_error(word):
    assert [(one.code, one.severity) for one in found([word, "p1"])] == [("patient-placeholder", "error")]


@pytest.mark.parametrize(("text", "rounded"), [
    ("1,23457E+11", True), ("1.23457E+11", True), ("1E+11", True), ("1.23457e+11", True), ("1e+05", False),
    ("1.17e+02", False), ("117", False),
])  # fmt: skip
def test_numbers_that_lost_digits(text, rounded):
    assert ("id-rounded" in [one.code for one in found([text, "x"])]) == rounded


def test_where_no_patients_were_given_no_id_is_doubtful():
    table = table_of([("a", "1", "x", ""), ("b", "1.0", "x", "")], patients_given=False)
    assert list(identifier_findings(table)) == []
