from medres.data.catalogue import _NOTES, KINDS
from medres.data.checks.notes import NOTE_FIXES, check_notes
from tests.data.checks.describing import data_set, entry, found


def test_each_note_is_a_finding_with_the_severity_of_the_catalogue():
    known = {"a": entry(notes=("orientation-unknown: nothing is set", "units: was in metres.")), "b": entry()}
    findings = list(check_notes(data_set(known), known))
    assert [(f.code, f.severity) for f in findings] == [("orientation-unknown", "warning"), ("units", "info")]
    assert [f.value for f in findings] == ["a: nothing is set.", "a: was in metres."]


def test_every_code_of_a_note_can_be_told():
    known = {code: entry(notes=(f"{code}: said",)) for code in KINDS if KINDS[code].severity != "error"}
    assert found(check_notes, known) == {code: {code} for code in known}
    assert set(NOTE_FIXES) <= set(_NOTES)
