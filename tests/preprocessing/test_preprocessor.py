from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from medres.data.readers import read_scan
from medres.errors import DataError
from medres.planning.plan import Plan
from medres.preprocessing.preprocessor import Preprocessor
from tests.preprocessing.examples import INTENSITIES, affine_of, make_image, make_plan, smooth_scan


def test_foreground_crop_fills_the_field_of_view_with_the_body() -> None:
    voxels = np.zeros((1, 60, 60), dtype=np.uint8)
    voxels[0, 6:16, 30:50] = 200
    plan = make_plan(spatial_dims=2, shape=(20, 20))
    whole, _ = Preprocessor(plan).prepare(make_image(voxels))
    cropped, geometry = Preprocessor(plan.model_copy(update={"crop": "foreground"})).prepare(make_image(voxels))
    assert (whole > 100).mean() < 0.07
    assert np.array_equal(cropped[0] > 100, np.pad(np.ones((10, 20), dtype=bool), ((5, 5), (0, 0))))
    assert geometry.scale == (1.0, 1.0)


def test_a_grey_scan_is_repeated_for_a_network_that_reads_colour() -> None:
    plan = make_plan(spatial_dims=2, in_channels=3, shape=(6, 6))
    stored, _ = Preprocessor(plan).prepare(make_image(np.full((1, 6, 6), 9, dtype=np.uint8)))
    assert stored.shape == (3, 6, 6)
    assert np.all(stored == 9)


@pytest.mark.parametrize("scheme", ["scaled", "robust_zscore"])
def test_one_stored_channel_serves_for_all(scheme: str) -> None:
    preprocessor = Preprocessor(make_plan(scheme, spatial_dims=2, in_channels=3, shape=(4, 4)))
    one = torch.arange(16).reshape(1, 1, 4, 4).to(torch.float16 if scheme == "robust_zscore" else torch.uint8)
    assert torch.equal(preprocessor.finish(one), preprocessor.finish(one.expand(1, 3, 4, 4)))


@pytest.mark.parametrize(
    ("spatial_dims", "shape", "message"),
    [
        (2, (1, 4, 5, 6), "volume of 4 x 5 x 6 voxels, the plan reads images.*--dims 3"),
        (3, (1, 4, 5), "image of 4 x 5 pixels, the plan reads volumes.*--dims 2"),
    ],
)
def test_volumes_and_images_are_not_mixed_up(spatial_dims: int, shape: tuple[int, ...], message: str) -> None:
    preprocessor = Preprocessor(make_plan(spatial_dims=spatial_dims))
    with pytest.raises(DataError, match=message):
        preprocessor.prepare(make_image(np.zeros(shape, dtype=np.uint8)))


def test_a_batch_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="prepared scans"):
        Preprocessor(make_plan()).finish(torch.zeros(1, 1, 4, 4, 4, dtype=torch.uint8))


def changed(plan: Plan, **changes: object) -> Plan:
    return Plan.from_mapping(plan.to_mapping() | changes)


def test_the_cache_key_changes_with_what_is_stored_and_with_nothing_else() -> None:
    plan = make_plan("hu_windows", orientation="SPL", spacing_mm=(1, 1, 1))
    key = Preprocessor(plan).cache_key
    same = [
        changed(plan, batch_size=7, precision="bf16", reasons={"shape": "because"}, fingerprint_digest="ab"),
        changed(plan, in_channels=1, intensity={"scheme": "hu_windows", "windows_hu": ["brain"]}),
        changed(plan, augmentation={"noise": 0.3}),
    ]
    other = [
        changed(plan, orientation="RAS"),
        changed(plan, spacing_mm=(1, 1, 2)),
        changed(plan, shape=(12, 14, 15)),
        changed(plan, crop="foreground"),
        changed(plan, intensity=INTENSITIES["robust_zscore"], in_channels=1),
        changed(plan, intensity=INTENSITIES["scaled"], in_channels=1),
        changed(plan, intensity=INTENSITIES["scaled"], in_channels=3),
        changed(plan, intensity={"scheme": "scaled", "scale_range": (0, 100)}, in_channels=1),
        changed(plan, intensity={"scheme": "scaled", "scale_range": (0, 1)}, in_channels=1),
    ]
    assert {Preprocessor(one).cache_key for one in same} == {key}
    assert len({Preprocessor(one).cache_key for one in other} | {key}) == len(other) + 1


def test_windows_do_not_change_what_is_stored() -> None:
    image = make_image(smooth_scan((14, 15, 16), low=-1000, high=300)[None].astype(np.int16))
    plan = make_plan("hu_windows")
    other = changed(plan, in_channels=1, intensity={"scheme": "hu_windows", "windows_hu": ["bone"]})
    assert np.array_equal(Preprocessor(plan).prepare(image)[0], Preprocessor(other).prepare(image)[0])


def test_missing_surroundings_are_air_in_ct() -> None:
    plan = make_plan("hu_windows", orientation="SPL", spacing_mm=(1, 1, 1), shape=(20, 8, 8))
    image = make_image(np.full((1, 8, 8, 8), 40, dtype=np.int16), affine=affine_of("LPS"))
    stored, _ = Preprocessor(plan).prepare(image)
    assert np.array_equal(np.unique(stored[0, [0, 5, 14, 19]]), [-1024])
    assert np.all(stored[0, 6:14] == 40)


def test_real_scans_are_prepared_and_carried_back(real_data: Path) -> None:
    paths = sorted((real_data / "lidc_nodule_texture").rglob("*.nii.gz"))[:3]  # nodules in CT, scaled to [0, 1]
    assert len(paths) == 3
    unit = {"scheme": "scaled", "scale_range": (0, 1)}
    preprocessor = Preprocessor(make_plan(intensity=unit, orientation="SPL", spacing_mm=(1.5,) * 3, shape=(32,) * 3))
    for path in paths:
        image = read_scan(path)
        stored, geometry = preprocessor.prepare(image)
        back = geometry.to_scan(stored[0], fill=np.nan)
        seen = np.isfinite(back)
        assert seen.mean() > 0.8
        assert np.corrcoef(back[seen], image.voxels[0][seen])[0, 1] > 0.9  # noisy voxels, averaged by 1.5
