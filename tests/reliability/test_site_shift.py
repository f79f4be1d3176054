"""Number 19, one half: scans of a site whose intensities differ get a finding; scans of the own site get none.

The other half, a prevalence that differs, needs labels of the new site; nothing in medres reads them today.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from medres.data.image import ScanImage
from medres.data.statistics import scan_statistics
from medres.planning.deviations import find_deviations
from tests.figures import RecordProperty
from tests.planning.test_deviations import COHORTS, Trained, as_image, made, trained_on

NEW_SCANS = range(100, 120)
Shift = Callable[[Any], Any]


def _noise(voxels: Any) -> Any:
    return voxels + np.random.default_rng(0).normal(0, 0.3 * voxels.std(), voxels.shape)


#: What a second site does to the values; MR and pictures have no unit, so that only their texture may differ.
SITES: dict[str, tuple[str, Shift]] = {
    "CT, values times 1.3": ("CT", lambda voxels: voxels * 1.3),
    "CT, values times 0.5": ("CT", lambda voxels: voxels * 0.5),
    "CT, 100 HU higher": ("CT", lambda voxels: voxels + 100),
    "CT, curved scale": ("CT", lambda voxels: np.sign(voxels) * np.abs(voxels) ** 1.15),
    "MR, noise of 0.3 standard deviations": ("MR", _noise),
}


@pytest.fixture(scope="module")
def trained() -> dict[str, Trained]:
    return {name: trained_on([scan_statistics(made(name, number)) for number in range(30)]) for name in COHORTS}


def _shifted(cohort: str, number: int, shift: Shift) -> ScanImage:
    own = made(cohort, number)
    voxels = own.voxels[0]
    limits = (0, 255) if voxels.dtype == np.uint8 else (-32768, 32767)
    return as_image(shift(voxels.astype(np.float64)).clip(*limits).round().astype(voxels.dtype), own.affine)


def _flagged(cohort: str, shift: Shift, trained: Trained) -> int:
    shifted = (scan_statistics(_shifted(cohort, number, shift)) for number in NEW_SCANS)
    return sum(bool(find_deviations(statistics, *trained)) for statistics in shifted)


@pytest.mark.slow
@pytest.mark.parametrize("site", SITES)
def test_scans_of_another_site_have_a_finding(
    site: str, trained: dict[str, Trained], record_property: RecordProperty
) -> None:
    cohort, shift = SITES[site]
    flagged = _flagged(cohort, shift, trained[cohort])
    record_property("figure", f"{site}: {flagged} of {len(NEW_SCANS)}")
    assert flagged == len(NEW_SCANS)


@pytest.mark.slow
@pytest.mark.parametrize("cohort", COHORTS)
def test_scans_of_the_own_site_have_none(
    cohort: str, trained: dict[str, Trained], record_property: RecordProperty
) -> None:
    flagged = _flagged(cohort, lambda voxels: voxels, trained[cohort])
    record_property("figure", f"own site, {cohort}: {flagged} of {len(NEW_SCANS)}")
    assert flagged == 0


@pytest.mark.slow
def test_brightness_of_pictures_is_recorded_as_not_seen(
    trained: dict[str, Trained], record_property: RecordProperty
) -> None:
    """8-bit pictures differ in brightness within a site, too: a limit that is told, not hidden."""
    flagged = _flagged("images", lambda voxels: voxels * 1.3, trained["images"])
    record_property("figure", f"8-bit pictures, values times 1.3: {flagged} of {len(NEW_SCANS)} (not seen)")
    assert flagged < len(NEW_SCANS)  # or the limit is one no longer, and the page must say so
