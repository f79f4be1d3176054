from __future__ import annotations

from typing import Any

import pytest

from medres.planning.facts import BackboneFacts
from medres.planning.intensity import choose_intensity, choose_modality
from medres.planning.overrides import PlanOverrides
from medres.planning.plan import Intensity
from tests.planning import examples
from tests.planning.examples import backbone, fingerprint, scan

NO_WISH = PlanOverrides()
#: Percentiles of a scan that has one voxel of 10,000.
LEVELS = {"0.5": 1e-3, "25": 1.2e-3, "50": 1.5e-3, "75": 1.8e-3, "95": 1.9e-3, "99.5": 2e-3}


def intensity_of(scans: Any, *, facts: BackboneFacts | None = None) -> tuple[Intensity, int, str]:
    found = fingerprint(scans)
    modality = choose_modality(found, wishes=NO_WISH).value
    facts = facts or backbone(2)
    intensity, channels = choose_intensity(found, modality=modality, backbone=facts, wishes=NO_WISH)
    return intensity.value, channels.value, intensity.reason


CASES = {
    "8-bit": ([scan((9, 9), dtype="uint8", high=255)], "scaled", (0, 255)),
    "8-bit values in int16": ([scan((9, 9), dtype="int16", high=250)], "scaled", (0, 250)),
    "mask of 0 and 1": ([scan((9, 9), dtype="uint8", high=1)], "scaled", (0, 1)),
    "unit range": ([scan((9, 9, 9), dtype="float32", low=0.1)], "scaled", (0.1, 1)),
    "one scale": ([scan((9, 9, 9), low=-5, high=10 + k / 10) for k in range(9)], "scaled", (-5, 10.76)),
    "a large offset": ([scan((9, 9, 9), low=1e6 - 60, high=1e6 + 60 + k) for k in range(9)], "scaled",
                       (999940, 1000067.6)),
    "a hot pixel": ([scan((9, 9, 9), high=1e4, percentiles=LEVELS)], "scaled", (1e-3, 2e-3)),
    "offsets of their own": ([scan((9, 9, 9), low=1e6 * k, high=1e6 * k + 1) for k in range(9)], "robust_zscore",
                             (0, 1)),
    "many scales": ([scan((9, 9, 9), high=10.0**k) for k in range(9)], "robust_zscore", (0, 1)),
    "MR": ([scan((9, 9, 9), modality="MR", dtype="int16", high=900)], "robust_zscore", (0, 1)),
    "8-bit MR": ([scan((9, 9, 9), modality="MR", dtype="uint8", high=255)], "scaled", (0, 255)),
    "CT": ([scan((9, 9, 9), modality="CT", dtype="int16", low=-1024, high=900)], "hu_windows", (0, 1)),
    "mixed": ([scan((9, 9, 9), modality=m, low=0, high=999) for m in ("CT", "MR")], "robust_zscore", (0, 1)),
    "constant": ([scan((9, 9, 9), low=7, high=7)], "scaled", (3.5, 10.5)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_scheme_follows_the_values(name: str) -> None:
    scans, scheme, scale = CASES[name]
    intensity, _, _ = intensity_of(scans)
    assert intensity.scheme == scheme
    assert intensity.scale_range == pytest.approx(scale, rel=1e-6, abs=1e-9)


def test_without_air_there_is_no_lung_window() -> None:
    inside = [scan((9, 9, 9), modality="CT", dtype="int16", low=-120, high=300)]
    assert intensity_of(inside)[0].windows_hu == ("brain", "soft_tissue", "bone")
    assert intensity_of(examples.chest_ct())[0].windows_hu == ("lung", "soft_tissue", "bone")


def test_true_colour_needs_a_majority() -> None:
    colour, grey = scan((9, 9), dtype="uint8", high=255, num_channels=3), scan((9, 9), dtype="uint8", high=255)
    assert intensity_of([colour, colour, grey])[1] == 3
    assert intensity_of([colour, grey, grey])[1] == 1
    assert intensity_of([colour, grey])[1] == 1


@pytest.mark.parametrize("colours", [1, 3])
def test_inputs_end_in_the_statistics_of_the_weights(colours: int) -> None:
    mean, std = (0.1, 0.2, 0.6)[:colours], (0.2, 0.3, 0.4)[:colours]
    facts = backbone(2, pretrained=True, input_mean=mean, input_std=std)
    grey, _, _ = intensity_of(examples.pictures(), facts=facts)
    windows, channels, _ = intensity_of(examples.chest_ct(), facts=facts)
    assert grey.mean == pytest.approx((sum(mean) / colours,))
    assert grey.std == pytest.approx((sum(std) / colours,))
    assert channels == 3
    assert (windows.mean, windows.std) == (mean, std)


def test_without_weights_inputs_run_from_minus_1_to_1() -> None:
    intensity, _, reason = intensity_of(examples.pictures())
    assert (intensity.mean, intensity.std) == ((0.5,), (0.5,))
    assert "Without pretrained weights" in reason
