from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medres.data.readers.rules import ReadingRules
from medres.data.table import Scan, ScanTable
from medres.errors import DataError, PlanError
from medres.planning.fingerprint import Fingerprint
from medres.planning.plan import Plan
from medres.planning.planner import check_plan, make_plan
from medres.planning.reading import choose_reading
from tests.planning.examples import CPU, backbone, chest_ct, fingerprint, scan

REGION = ReadingRules(roi_size_mm=(40, 30, 50))
NAMES = ("t1", "flair")


def table_of(*scans: Scan) -> ScanTable:
    return ScanTable(root=Path("/none"), scans=scans, classes=("a", "b"), source="test")


def row(index: int = 0, **fields: Any) -> Scan:
    return Scan(sample_id=f"s{index}", patient_id=f"s{index}", path=Path(f"/none/{index}.nii"), label="a", **fields)


def sequences(*names: str) -> dict[str, Path]:
    return {name: Path(f"/none/{name}.nii") for name in names}


def regions(count: int = 40) -> list[Any]:
    """Crops of 40 x 30 x 50 mm out of chest CTs."""
    return [
        scan((57, 43, 50), modality="CT", dtype="int16", low=-1024, high=900, spacing_mm=(0.7, 0.7, 1.0),
             orientation="LPS", region=((200, 257), (100, 143), (index, index + 50)),
             box=((20, 40), (15, 30), (10, 30)))
        for index in range(count)
    ]  # fmt: skip


def stacks(count: int = 40, *, modality: Any = "MR", names: tuple[str, ...] = NAMES, **values: Any) -> list[Any]:
    given = {"dtype": "int16", "low": 0, "high": 900, **values}
    return [
        scan((240, 240, 155), modality=modality, num_channels=len(names), channel_names=names,
             spacing_mm=(1.0, 1.0, 1.0), orientation="LPS", **given)
        for _ in range(count)
    ]  # fmt: skip


def plan_of(found: Fingerprint, **options: Any) -> Plan:
    facts = backbone(3, **options.pop("facts", {}))
    return make_plan(found, backbone=facts, machine=CPU, num_training_scans=40, **options)


# --- before anything is read


def test_whole_scans_of_one_image_need_no_choice() -> None:
    rules, reason = choose_reading(table_of(row(0), row(1)), rules=ReadingRules(volume=2))
    assert rules == ReadingRules(volume=2)
    assert reason == "A scan is one image. Scans are read whole. Of 4D scans volume 2 is taken."


def test_columns_become_channels_in_the_order_asked_for() -> None:
    table = table_of(*(row(n, sequences=sequences("t1", "flair", "t2")) for n in range(3)))
    assert choose_reading(table, rules=ReadingRules())[0].sequences == ("t1", "flair", "t2")
    chosen, reason = choose_reading(table, rules=ReadingRules(sequences=("t2", "t1")))
    assert chosen.sequences == ("t2", "t1")
    assert "t2, t1 are channels" in reason


@pytest.mark.parametrize("asked", [(), ("t1", "flair")])
def test_scans_without_a_sequence_are_named(asked: tuple[str, ...]) -> None:
    table = table_of(row(0, sequences=sequences("t1", "flair")), row(1, sequences=sequences("t1")), row(2))
    with pytest.raises(DataError, match=r"2 scans of 3 come without .* t1, flair: s1, s2") as caught:
        choose_reading(table, rules=ReadingRules(sequences=asked))
    assert "--sequences" in caught.value.fix


def test_a_given_size_needs_a_region_and_is_kept() -> None:
    located = table_of(row(0, center_ras_mm=(1.0, 2.0, 3.0)), row(1))
    assert choose_reading(located, rules=REGION)[0] == REGION
    with pytest.raises(DataError, match="no scan says where it is") as caught:
        choose_reading(table_of(row(0)), rules=REGION)
    assert "center_x_mm" in caught.value.fix


def test_centres_alone_need_a_size() -> None:
    with pytest.raises(DataError, match=r"2 scans say where .* not how large") as caught:
        choose_reading(table_of(*(row(n, center_ras_mm=(1.0, 2.0, 3.0)) for n in range(2))), rules=ReadingRules())
    assert "--roi-size-mm" in caught.value.fix


def test_masks_give_a_size(tmp_path: Path) -> None:
    rows = []
    for n in range(5):
        mask = np.zeros((40, 40, 40), np.uint8)
        mask[10 : 11 + 4 * n, 10:12, 10:12] = 1
        path = tmp_path / f"{n}.nii.gz"
        nib.save(nib.Nifti1Image(mask, np.diag([2.0, 1, 1, 1])), path)
        rows.append(row(n, mask=path))
    (tmp_path / "broken.nii.gz").write_bytes(b"no mask")  # told when it is read for its scan
    table = table_of(*rows, row(9, mask=tmp_path / "broken.nii.gz"))
    rules, reason = choose_reading(table, rules=ReadingRules())
    assert rules.roi_size_mm == (49, 30, 30)  # 1.5 times the 95th percentile of 2, 10, 18, 26, 34 mm
    assert "95 % of the 5 marked regions" in reason


# --- in the plan


def test_regions_are_left_whole_and_set_the_extent() -> None:
    found = fingerprint(regions())
    plan = plan_of(found, reading=REGION)
    assert found.num_regions == 40
    assert plan.reading == REGION
    assert plan.crop == "none"
    assert "regions of interest already" in plan.reasons["crop"]
    assert "40 x 30 x 50 mm" in plan.reasons["reading"]
    assert plan.spacing_mm is not None
    reach = [side * step for side, step in zip(plan.shape, plan.spacing_mm, strict=True)]
    assert reach == pytest.approx([50, 30.1, 39.9], rel=0.01)  # D, H, W of SPL
    assert plan_of(found, reading=REGION, reading_reason="So it was asked.").reasons["reading"] == "So it was asked."


@pytest.mark.parametrize(
    ("scans", "scheme", "channels"),
    [
        (stacks(), "robust_zscore", 2),
        (stacks(modality="CT", low=-1024), "hu_windows", 6),
        (stacks(dtype="uint8", high=255, modality="other"), "scaled", 2),
        (stacks(modality="other", low=-5, high=3000, dtype="float32"), "robust_zscore", 2),
        (stacks(names=("t1", "t2", "flair")), "robust_zscore", 3),
    ],
)
@pytest.mark.parametrize("pretrained", [False, True])
def test_sequences_become_channels(scans: Any, scheme: str, channels: int, pretrained: bool) -> None:
    found = fingerprint(scans)
    plan = plan_of(found, facts={"pretrained": pretrained})
    assert plan.reading.sequences == found.sequences == scans[0].channel_names
    assert (plan.intensity.scheme, plan.in_channels) == (scheme, channels)
    assert "sequences" in plan.reasons["in_channels"]
    assert len(plan.intensity.mean) in (1, channels)
    check_plan(plan, fingerprint=found, backbone=backbone(3))
    assert Plan.from_mapping(plan.to_mapping()) == plan


def test_three_sequences_are_not_true_colour() -> None:
    assert "colour" not in plan_of(fingerprint(stacks(names=("a", "b", "c")))).reasons["in_channels"]


def test_scans_with_different_sequences_are_refused() -> None:
    with pytest.raises(DataError, match="1 with flair, t1; 2 with t1, flair") as caught:
        fingerprint([*stacks(2), *stacks(1, names=("flair", "t1"))])
    assert "--sequences" in caught.value.fix


REFUSED: dict[str, tuple[list[Any], ReadingRules, str]] = {
    "sequences that are not there": (chest_ct(), ReadingRules(sequences=NAMES), "reading.sequences"),
    "another order": (stacks(), ReadingRules(sequences=NAMES[::-1]), "reading.sequences"),
    "a region that is not there": (chest_ct(), REGION, "roi_size_mm .* 40 of 40 scans are whole"),
    "some without a region": ([*regions(3), *chest_ct(2)], REGION, "2 of 5 scans are whole"),
    "regions that are not asked for": (regions(), ReadingRules(), "40 of 40 are regions"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_rules_that_scans_were_not_read_by_are_refused(name: str) -> None:
    scans, rules, message = REFUSED[name]
    found = fingerprint(scans)
    with pytest.raises(PlanError, match=message) as caught:
        plan_of(found, reading=rules)
    assert caught.value.fix


def test_a_given_plan_is_checked_against_the_scans() -> None:
    plan = plan_of(fingerprint(regions()), reading=REGION)
    with pytest.raises(PlanError, match="roi_size_mm"):
        check_plan(plan, fingerprint=fingerprint(chest_ct()), backbone=backbone(3))
    multi = plan_of(fingerprint(stacks()))
    with pytest.raises(PlanError, match=r"reading.sequences is \['t1', 'flair'\], the scans have \[\]"):
        check_plan(multi, fingerprint=fingerprint(chest_ct()), backbone=backbone(3))
    with pytest.raises(PlanError, match=r"reading\.sequences"):
        check_plan(plan_of(fingerprint(chest_ct())), fingerprint=fingerprint(stacks()), backbone=backbone(3))


def test_headers_are_told_and_contradictions_with_them() -> None:
    good = [replace_statistics(item, header_modality="CT") for item in chest_ct(9)]
    found = fingerprint(good)
    assert found.header_modalities == {"CT": 9}
    assert found.evidence.endswith("Headers say CT (9).")
    raw = scan((64, 64, 64), modality="other", dtype="uint16", high=4000, header_modality="CT")
    found = fingerprint([raw] * 3)
    assert found.modality == "other"
    assert "3 scans that are CT by their headers are no Hounsfield units" in found.evidence
    assert plan_of(found).intensity.scheme != "hu_windows"


def replace_statistics(item: Any, **changes: Any) -> Any:
    return item.model_copy(update=changes)


def test_unknown_orientations_are_looked_up_in_the_findings() -> None:
    mixed = [*chest_ct(3), scan((64, 64, 64), modality="CT", dtype="int16", low=-1024, high=900)]
    with pytest.raises(PlanError) as caught:
        plan_of(fingerprint(mixed))
    assert "findings.json lists them (orientation-unknown)" in caught.value.fix
