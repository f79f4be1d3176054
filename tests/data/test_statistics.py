import nibabel as nib
import numpy as np
import pytest

from medres.data.foreground import background_threshold, sampling_steps
from medres.data.image import ScanImage
from medres.data.statistics import (
    CANNOT_TELL,
    ScanStatistics,
    foreground_box,
    foreground_mask,
    orientation_code,
    scan_statistics,
)

RNG = np.random.default_rng(0)
GRID = np.stack(np.meshgrid(*[np.linspace(-1, 1, 48)] * 3, indexing="ij"))
BODY = (GRID**2).sum(axis=0) < 0.6


def image_of(voxels, **fields):
    fields = {"affine": None, "spacing_mm": None, "content_hash": "", **fields}
    return ScanImage(voxels=voxels if voxels.ndim > 3 or voxels.shape[0] in (1, 3) else voxels[None], **fields)


def ct(*, air=-1000, dtype=np.int16, noise=15.0):
    hu = np.where(BODY, 40.0, float(air)) + RNG.normal(0, noise, BODY.shape)
    return np.clip(hu, air, 3000).astype(dtype)[None]


def mr(*, scale=1.0, dtype=np.uint16):
    """Rician noise, tissue, and fat five times as bright."""
    signal = np.where(BODY, 300.0, 0.0) + np.where(BODY & (GRID[0] > 0.4), 1200.0, 0.0)
    magnitude = np.abs(signal + RNG.normal(0, 12, BODY.shape) + 1j * RNG.normal(0, 12, BODY.shape))
    return (magnitude * scale).astype(dtype)[None]


# --- modality


@pytest.mark.parametrize(
    ("voxels", "modality", "evidence"),
    [
        (ct(), "CT", "Hounsfield units: minimum -1000 (air)"),
        (ct(air=-1024), "CT", "minimum -1024"),
        (ct(air=-3024), "CT", "minimum -3024"),
        (ct(dtype=np.float32), "CT", "Hounsfield units"),
        (np.clip(ct(), -160, 240), "CT", "whole numbers from -160"),
        (mr(), "MR", "magnitudes from 0 to"),
        (mr(dtype=np.float32, scale=3.3), "MR", "more than 8 bits"),
        ((mr() / 8).astype(np.uint8), "other", "8-bit values"),
        ((mr(dtype=np.float64) / 1600).clip(0, 1), "MR", "magnitudes from"),  # the unit does not matter
        (mr(dtype=np.float64) * 1e-9, "MR", "more than 8 bits"),
        (mr(dtype=np.float64) + 1e6, "MR", "magnitudes from 1000000"),
        ((mr() / 8).astype(np.uint8) / 255, "other", "neither"),  # 8 bits, whatever their type
        ((mr(dtype=np.float64) / 400).clip(0, 1), "other", "neither"),  # a window was applied
        (np.clip(ct(), 0, 80), "other", "values from 0 to 80"),
        (RNG.normal(0, 1, (1, 20, 20, 20)), "other", "neither Hounsfield units nor magnitudes"),
        (RNG.integers(-4096, 4096, (1, 20, 20, 20)).astype(np.int16), "other", "neither"),  # a phase image
        (BODY.astype(np.uint8)[None], "other", "8-bit values, 0 to 1"),
        (RNG.integers(900, 1100, (1, 20, 20, 20)).astype(np.int16), "other", "neither"),
    ],
)
def test_modality_and_its_evidence(voxels, modality, evidence):
    statistics = scan_statistics(image_of(voxels))
    assert statistics.modality == modality
    assert evidence in statistics.evidence


def clipped_ct(*, bone=0.1, center=40.0, noise=15.0, dtype=np.int16, fat=0.0):
    """A CT of which everything below 0 HU was set to 0: air, and fat."""
    hu = np.where(BODY, center, -1000.0) + RNG.normal(0, noise, BODY.shape)
    hu = np.where(BODY & (GRID[1] > 1 - bone * 2), 700 + RNG.normal(0, 300, BODY.shape), hu)
    hu = np.where(BODY & (GRID[1] < -1 + fat * 2), -100.0, hu)
    return np.clip(hu, 0, 3000).astype(dtype)[None]


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float32])
@pytest.mark.parametrize(("center", "noise"), [(30, 5), (40, 15), (60, 25), (90, 30)])
@pytest.mark.parametrize(("bone", "fat"), [(0.2, 0.0), (0.4, 0.4)])
def test_a_ct_that_was_clipped_at_0_cannot_be_told_from_an_mr(center, noise, bone, fat, dtype):
    statistics = scan_statistics(image_of(clipped_ct(center=center, noise=noise, bone=bone, fat=fat, dtype=dtype)))
    assert statistics.modality == "other"
    assert statistics.evidence.startswith(CANNOT_TELL)
    assert "CT clipped at 0" in statistics.evidence


@pytest.mark.parametrize("header", ["CT", "MR"])
def test_a_header_says_what_values_cannot(header):
    assert scan_statistics(image_of(clipped_ct(bone=0.2), modality=header)).modality == header


@pytest.mark.parametrize("scale", [0.7, 1.0, 3.0, 10.0])
@pytest.mark.parametrize("stripped", [False, True])
def test_an_mr_is_an_mr_with_and_without_an_exact_background(scale, stripped):
    voxels = np.where(BODY, mr(scale=scale), 0) if stripped else mr(scale=scale)
    assert scan_statistics(image_of(voxels)).modality == "MR"


def test_colour_is_other():
    statistics = scan_statistics(image_of(RNG.integers(0, 255, (3, 9, 9), dtype=np.uint8), color=True))
    assert (statistics.modality, statistics.evidence, statistics.num_channels) == ("other", "true colour", 3)


@pytest.mark.parametrize(
    ("voxels", "header", "modality", "evidence"),
    [
        (ct(), "CT", "CT", "the header says CT"),
        (np.clip(ct(), -160, 240), "CT", "CT", "the header says CT"),
        (np.clip(ct(), 20, 300), "CT", "CT", "can be Hounsfield units"),  # a region inside an organ
        ((ct() + 1024).astype(np.uint16), "CT", "other", "no Hounsfield units"),  # looks like MR without its header
        ((ct() + 1024).astype(np.uint16), None, "MR", "magnitudes"),
        (np.clip(ct(), 0, 80), "CT", "CT", "can be Hounsfield units"),
        (np.clip(ct(), 0, 80).astype(np.uint8), "CT", "other", "8-bit"),
        (mr(), "MR", "MR", "the header says MR"),
        (mr(), "PT", "other", "the header says PT"),
        (mr() - 500.0, "MR", "MR", "the header says MR"),
        (ct(), "OT", "CT", "Hounsfield units: minimum"),
        (mr(), "Doe^John", "MR", "magnitudes"),
        (mr(), "CT+PT", "other", "the header says CT+PT"),
    ],
)
def test_a_header_counts_as_far_as_the_values_can_be_that(voxels, header, modality, evidence):
    statistics = scan_statistics(image_of(voxels, modality=header))
    assert statistics.modality == modality
    assert evidence in statistics.evidence
    assert "Doe" not in statistics.to_mapping().__repr__()


def test_sequences_are_neither_colours_nor_one_scale():
    both = scan_statistics(image_of(np.concatenate([mr(), mr(scale=20)]), channel_names=("t1", "t2")))
    assert (both.modality, both.num_channels, both.color) == ("MR", 2, False)
    assert both.channel_names == ("t1", "t2")
    mixed = scan_statistics(image_of(np.concatenate([ct(), mr().astype(np.int16)])))
    assert (mixed.modality, mixed.evidence) == ("other", "its channels look like CT, MR")


def test_a_region_is_remembered():
    image = image_of(ct(), region=((0, 48),) * 3)
    assert scan_statistics(image).region == ((0, 48),) * 3
    assert scan_statistics(image_of(ct())).region is None


# --- foreground


def overlap(mask, truth):
    return (mask & truth).sum() / (mask | truth).sum()


@pytest.mark.parametrize(
    ("voxels", "modality"),
    [
        (ct(), "CT"),
        (mr(), "MR"),
        (mr(dtype=np.float32, scale=0.001), "other"),
        ((mr() / 8).astype(np.uint8), "other"),
        (np.where(BODY, RNG.integers(5, 900, BODY.shape), 0)[None], "MR"),
        (np.where(BODY, RNG.integers(5, 900, BODY.shape), -1)[None], "other"),
    ],
)
def test_foreground_is_the_body(voxels, modality):
    assert overlap(foreground_mask(voxels, modality=modality), BODY) > 0.97


@pytest.mark.parametrize(
    "voxels",
    [
        np.full((1, 9, 9), 7),
        RNG.normal(500, 40, (1, 30, 30, 30)),  # tissue only, no background
        np.full((1, 9, 9, 9), -900),  # CT of air
    ],
)
@pytest.mark.parametrize("modality", ["CT", "MR", "other"])
def test_without_a_background_everything_is_foreground(voxels, modality):
    assert foreground_mask(voxels, modality=modality).all()


def test_of_several_channels_the_brightest_counts():
    voxels = np.zeros((3, 20, 20), dtype=np.uint8)
    voxels[0, 5:10, 5:10], voxels[2, 12:15, 12:15] = 200, 100
    assert foreground_mask(voxels, modality="other").sum() == 25 + 9


def test_a_sequence_shows_foreground_whatever_its_scale():
    bright, faint = np.where(BODY & (GRID[0] > 0), 9000, 0), np.where(BODY & (GRID[0] <= 0), 3, 0)
    for channels in ([bright, faint], [faint, bright], [faint, np.full(BODY.shape, 700), bright]):
        mask = foreground_mask(np.stack(channels), modality="MR")
        assert (mask == BODY).all()  # a channel without background has no say


def test_a_few_bright_voxels_between_the_samples_are_found():
    voxels = np.zeros((1, 130, 130, 130), dtype=np.uint8)
    voxels[0, 1, 1, 1] = 9
    assert foreground_mask(voxels, modality="other").sum() == 1


@pytest.mark.parametrize("shape", [(7,), (5, 6), (4, 5, 6)])
def test_box_is_the_smallest(shape):
    for _ in range(50):
        mask = RNG.random(shape) < 0.1
        box = foreground_box(mask)
        if not mask.any():
            assert box == tuple(slice(0, size) for size in shape)
            continue
        corners = np.argwhere(mask)
        assert box == tuple(slice(low, high + 1) for low, high in zip(corners.min(0), corners.max(0), strict=True))


def test_the_threshold_does_not_depend_on_the_memory_layout():
    voxels = mr()[0]
    assert background_threshold(voxels) == background_threshold(voxels.copy(order="F"))


# --- numbers


def test_numbers_are_those_of_numpy():
    voxels = ct()
    statistics = scan_statistics(image_of(voxels, spacing_mm=(1.0, 1.0, 2.0), affine=np.diag([-1.0, 1, 2, 1])))
    assert (statistics.minimum, statistics.maximum) == (voxels.min(), voxels.max())
    assert statistics.sampling_steps == (1, 1, 1)
    for level in ("0.5", "1", "5", "25", "50", "75", "95", "99", "99.5"):
        assert statistics.percentiles[level] == pytest.approx(np.percentile(voxels, float(level)))
    assert (statistics.dtype, statistics.num_channels, statistics.spatial_shape) == ("int16", 1, (48, 48, 48))
    assert (statistics.orientation, statistics.spacing_mm) == ("LAS", (1.0, 1.0, 2.0))
    assert statistics.foreground_fraction == pytest.approx(BODY.mean(), abs=0.01)
    assert ScanStatistics.from_mapping(statistics.to_mapping()) == statistics


def test_large_scans_are_sampled_and_the_box_still_holds_the_body():
    voxels = np.full((1, 200, 150, 90), -1000, dtype=np.int16)
    voxels[0, 33:121, 45:101, 7:83] = RNG.integers(0, 80, (88, 56, 76))
    voxels[0, 1, 1, 0] = 3000  # between the samples: still the maximum
    statistics = scan_statistics(image_of(voxels))
    assert max(statistics.sampling_steps) > 1
    assert statistics.maximum == 3000
    for (start, stop), (low, high), step in zip(
        statistics.foreground_box, [(33, 121), (45, 101), (7, 83)], statistics.sampling_steps, strict=True
    ):
        assert low - step < start <= low
        assert high <= stop < high + step
    assert statistics.percentiles["50"] == pytest.approx(np.percentile(voxels, 50))


@pytest.mark.parametrize("shape", [(10, 10), (4000, 3000), (512, 512, 20), (512, 512, 1000), (3, 100_000, 7)])
def test_sampling_keeps_to_its_limit_and_thins_long_axes_first(shape):
    steps = sampling_steps(shape, max_voxels=2**20)
    sizes = [-(-size // step) for size, step in zip(shape, steps, strict=True)]
    assert np.prod(sizes) <= 2**20
    assert np.prod(sizes) > 2**20 / 4 or steps == (1,) * len(shape)
    assert all(step == 1 for step, size in zip(steps, shape, strict=True) if size <= 20)


@pytest.mark.parametrize("code", ["RAS", "LPS", "SPL", "PIR", "ASR"])
def test_orientation_is_that_of_nibabel(code):
    affine = nib.orientations.inv_ornt_aff(
        nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(code)),
        (5, 6, 7),
    )
    tilt = np.eye(4)
    tilt[:2, :2] = [[0.95, -0.31], [0.31, 0.95]]
    assert orientation_code(affine) == code
    assert orientation_code(tilt @ affine) == code
    assert orientation_code(None) is None


@pytest.mark.real
def test_real_scans(real_data):
    from medres.data.readers import read_scan

    folder = real_data / "nifti_odd"
    for name in ("torchio/data/fernando/t2.nii.gz", "spinalcord/t2/t2.nii.gz", "spinalcord/mt/mt0.nii.gz"):
        assert scan_statistics(read_scan(folder / name)).modality == "MR", name
    cubes = sorted((real_data / "lidc_nodule_texture").rglob("*.nii.gz"))[::10]
    guesses = [scan_statistics(read_scan(path)).modality for path in cubes]
    assert guesses.count("other") > 0.7 * len(guesses)  # the source cut most of them off at the top of its window
