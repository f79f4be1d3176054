import pytest

from medres.data.checks.content import check_content
from medres.data.statistics import CANNOT_TELL
from tests.data.checks.describing import data_set, entry, found

MR = {"modality": "MR", "levels": {"0.5": 0.0, "99.5": 900.0}}


def findings(known):
    return list(check_content(data_set(known), known))


def test_scans_of_one_kind_give_none():
    assert findings({f"s{n}": entry() for n in range(20)}) == []


def test_constant_scans_are_errors_and_name_their_file():
    [finding] = findings({"a": entry(), "b": entry(levels={"50": 7.0}, minimum=7, maximum=7)})
    assert (finding.code, finding.severity) == ("constant", "error")
    assert finding.value == "/data/b has the value 7 everywhere."


@pytest.mark.parametrize(("fraction", "is_empty"), [(0.0009, True), (0.0011, False), (1.0, True), (0.3, False)])
def test_nearly_empty(fraction, is_empty):
    known = {"a": entry(levels={"50": 0.0}, minimum=0, maximum=1, foreground_fraction=fraction)}
    assert found(check_content, known) == ({"nearly-empty": {"a"}} if is_empty else {})


def test_a_scan_of_many_values_is_not_nearly_empty_whatever_its_foreground():
    assert findings({"a": entry(foreground_fraction=0.0)}) == []


def test_the_rarer_dimension_is_named_scan_by_scan():
    flat = {"spatial_shape": (9, 9), "spacing_mm": None, "foreground_box": ((0, 9),) * 2}
    known = {**{f"v{n}": entry() for n in range(3)}, "i1": entry(**flat), "i2": entry(**flat)}
    assert found(check_content, known)["mixed-dimensions"] == {"i1", "i2"}
    assert "2 2D and 3 3D" in findings(known)[0].value
    known = {"v": entry(), "i1": entry(**flat)}  # of equally many, the images are the odd ones
    assert found(check_content, known)["mixed-dimensions"] == {"i1"}


def test_an_mr_among_cts_by_voxels_and_by_header():
    known = {f"ct{n}": entry() for n in range(4)} | {"mr": entry(**MR)}
    assert found(check_content, known) == {"mixed-modality": {"mr"}}
    [finding] = findings(known)
    assert finding.value == "mr looks like MR (because); 4 of 5 scans are CT."
    known["mr"] = entry(header_modality="PT", modality="CT")
    assert findings(known)[0].value == "mr is PT by its header; 4 of 5 scans are CT."


def test_two_guesses_from_values_without_a_unit_are_no_mixture():
    other = {"modality": "other", "dtype": "float32"}
    known = {f"mr{n}": entry(**MR) for n in range(4)} | {"other": entry(**other)}
    assert found(check_content, known) == {}
    known["header"] = entry(header_modality="PT", **other)
    assert found(check_content, known) == {}
    known["picture"] = entry(modality="other", dtype="uint8")
    assert found(check_content, known) == {"mixed-modality": {"picture"}}
    known["ct"] = entry()
    assert found(check_content, known) == {"mixed-modality": {"picture", "ct"}}
    assert findings(known)[0].value.endswith("5 of 8 scans are no CT and have more than 8 bits.")


def test_the_header_decides_where_voxels_are_odd():
    known = {f"ct{n}": entry() for n in range(4)} | {"odd": entry(header_modality="CT", **MR)}
    assert findings(known) == []


def test_what_may_be_ct_or_mr_is_said_and_called_neither():
    unclear = {"modality": "other", "evidence": f"{CANNOT_TELL}: values from 0 to 1500", "levels": MR["levels"]}
    known = {
        **{f"s{n}": entry() for n in range(9)},
        "s9": entry(**unclear),
        "h": entry(**unclear, header_modality="PT"),
    }
    by_code = {finding.code: finding for finding in findings(known) if finding.sample_id == "s9"}
    assert by_code["modality-unclear"].value == f"s9 may be CT or MR ({CANNOT_TELL}: values from 0 to 1500)."
    assert "s9 may be CT or MR" in by_code["mixed-modality"].value
    assert found(check_content, known)["modality-unclear"] == {"s9"}


def test_colour_among_grey():
    known = {f"s{n}": entry() for n in range(4)} | {"c": entry(color=True, num_channels=3)}
    assert found(check_content, known) == {"mixed-color": {"c"}}
    assert findings({f"s{n}": entry(color=True, num_channels=3) for n in range(4)}) == []


def test_three_sequences_are_no_colour():
    known = {"a": entry(), "b": entry(num_channels=3, channel_names=("t1", "t2", "flair"))}
    assert "mixed-color" not in found(check_content, known)
