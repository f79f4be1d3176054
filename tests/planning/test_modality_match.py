"""Whether a scan is of the training scans' modality: every pair of headers and looks."""

from __future__ import annotations

from typing import Any

import pytest

from medres.data.statistics import ScanStatistics
from medres.planning.facts import MachineFacts
from medres.planning.modality_match import match_modality
from medres.planning.overrides import PlanOverrides
from medres.planning.plan import Plan
from medres.planning.planner import make_plan
from tests.planning.examples import backbone, fingerprint, scan

SIZE = (64, 64, 64)
KINDS: dict[str, dict[str, Any]] = {
    "CT": {"modality": "CT", "dtype": "int16", "low": -1000.0, "high": 1500.0},
    "MR": {"modality": "MR", "dtype": "int16", "low": 0.0, "high": 1800.0},
    "8 bit": {"modality": "other", "dtype": "uint8", "low": 0.0, "high": 255.0},
}


def one(kind: str, header: str | None = None, **changed: Any) -> ScanStatistics:
    return scan(
        SIZE, spacing_mm=(1.0, 1.0, 1.0), orientation="LPS", header_modality=header, **{**KINDS[kind], **changed}
    )


def planned(*scans: ScanStatistics, **wishes: Any) -> tuple[Any, Plan]:
    found = fingerprint(scans)
    return found, make_plan(
        found, backbone=backbone(3), machine=MachineFacts(), num_training_scans=len(scans),
        overrides=PlanOverrides(**wishes),
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("header", [None, "CT", "MR"])
def test_a_training_scan_always_matches(kind: str, header: str | None) -> None:
    trained = one(kind, header)
    assert match_modality(trained, *planned(*[trained] * 20)) is None


@pytest.mark.parametrize(
    ("trained", "new", "code", "certain"),
    [
        (("CT", None), ("MR", None), "mixed-modality", True),
        (("CT", None), ("8 bit", None), "mixed-modality", True),
        (("CT", None), ("8 bit", "US"), "mixed-modality", True),
        (("CT", "CT"), ("MR", "MR"), "mixed-modality", True),
        (("CT", "CT"), ("8 bit", "US"), "mixed-modality", True),
        (("CT", "CT"), ("8 bit", "CT"), "not-hounsfield", True),
        (("CT", "CT"), ("CT", "PT"), "mixed-modality", True),
        (("MR", "MR"), ("CT", "CT"), "mixed-modality", True),
        (("MR", None), ("CT", None), "mixed-modality", True),
        (("MR", None), ("8 bit", "US"), "mixed-modality", True),
        (("8 bit", None), ("CT", "CT"), "mixed-modality", True),
        # what cannot be told is said, and not more: a magnitude image may have been scaled, a picture may show anything
        (("MR", None), ("8 bit", None), "mixed-modality", False),
        (("8 bit", None), ("8 bit", "US"), "mixed-modality", False),
        (("8 bit", None), ("MR", "MR"), "mixed-modality", False),
    ],
)
def test_what_is_another_modality(
    trained: tuple[str, str | None], new: tuple[str, str | None], code: str, certain: bool
) -> None:
    found = match_modality(one(*new), *planned(*[one(*trained)] * 20))
    assert found is not None
    assert (found.code, found.certain) == (code, certain)


@pytest.mark.parametrize("new", [("CT", None), ("CT", "CT")])
def test_files_with_and_without_headers_of_one_modality_match(new: tuple[str, str | None]) -> None:
    for trained in (("CT", None), ("CT", "CT")):
        assert match_modality(one(*new), *planned(*[one(*trained)] * 20)) is None


def test_one_stray_scan_in_training_does_not_make_its_modality_usual() -> None:
    cts, mr = [one("CT")] * 39, one("MR")
    found = match_modality(mr, *planned(*cts, mr))
    assert found is not None
    assert found.certain
    assert match_modality(mr, *planned(*cts[:9], mr)) is None  # a tenth of them is no stray scan


def test_what_the_user_said_of_the_scans_counts() -> None:
    found, plan = planned(*[one("8 bit")] * 20, modality="MR")
    assert match_modality(one("MR", "MR"), found, plan) is None
    assert plan.modality == "MR"
