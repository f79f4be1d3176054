"""Laws that every reader keeps, over files written by independent programs: nibabel, SimpleITK, Pillow, NumPy."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from medres.data.catalogue import KINDS
from medres.data.readers import read_scan, read_scan_bytes
from medres.data.readers.formats import recognise, scan_suffix
from medres.data.readers.rules import ReadingRules
from medres.errors import UnreadableScanError
from tests.data.making import volume

VOXELS = volume((7, 6, 5))
PIXELS = volume((9, 7), low=0, high=255, dtype=np.uint8)
_TURN = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3], OBLIQUE[:3, 3] = _TURN @ np.diag([-0.7, -0.8, 5.0]), (10.0, -20.0, 30.0)
Writer = Callable[[Path], Path]


def by_nibabel(name: str, kind: type = nib.Nifti1Image) -> Writer:
    def write(folder: Path) -> Path:
        nib.save(kind(VOXELS, OBLIQUE), folder / name)
        return folder / name

    return write


def itk_image(voxels: np.ndarray, affine: np.ndarray) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(voxels.T))
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    lps = np.diag([-1, -1, 1]) @ affine[:3]
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:, 3].tolist())
    return image


def by_itk(name: str, *, compressed: bool = False) -> Writer:
    def write(folder: Path) -> Path:
        SimpleITK.WriteImage(itk_image(VOXELS, OBLIQUE), str(folder / name), useCompression=compressed)
        return folder / name

    return write


def gzipped(writer: Writer) -> Writer:
    def write(folder: Path) -> Path:
        plain = writer(folder)
        packed = plain.with_name(f"{plain.name}.gz")
        packed.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
        return packed

    return write


def by_numpy(name: str, **values: np.ndarray) -> Writer:
    def write(folder: Path) -> Path:
        if name.endswith(".npy"):
            np.save(folder / name, VOXELS)
        else:
            np.savez_compressed(folder / name, image=VOXELS, **values)
        return folder / name

    return write


def analyze(folder: Path) -> Path:
    nib.save(nib.AnalyzeImage(VOXELS, np.diag([0.7, 0.8, 5, 1])), folder / "a.hdr")
    return folder / "a.hdr"


#: Volumes whose file says where they lie.
PLACED: dict[str, Writer] = {
    "nifti-1": by_nibabel("a.nii"),
    "nifti-1 gz": by_nibabel("a.nii.gz"),
    "nifti-2 gz": by_nibabel("a.nii.gz", nib.Nifti2Image),
    "nifti-1 pair": by_nibabel("a.hdr", nib.Nifti1Pair),
    "nifti-2 pair": by_nibabel("a.hdr", nib.Nifti2Pair),
    "nifti-1 pair gz": by_nibabel("a.hdr.gz", nib.Nifti1Pair),
    "nifti of itk": by_itk("a.nii.gz"),
    "mgh": by_nibabel("a.mgh", nib.MGHImage),
    "mgz": by_nibabel("a.mgz", nib.MGHImage),
    "nrrd": by_itk("a.nrrd"),
    "nrrd gz": by_itk("a.nrrd", compressed=True),
    "nhdr": by_itk("a.nhdr"),
    "nhdr gz": by_itk("a.nhdr", compressed=True),
    "mha": by_itk("a.mha"),
    "mha zlib": by_itk("a.mha", compressed=True),
    "mhd": by_itk("a.mhd"),
    "mhd zlib": by_itk("a.mhd", compressed=True),
    "mha in gzip": gzipped(by_itk("a.mha")),
    "nrrd in gzip": gzipped(by_itk("a.nrrd")),
    "npz": by_numpy("a.npz", affine=OBLIQUE),
}

#: Volumes that may lie anywhere.
UNPLACED: dict[str, Writer] = {
    "analyze": analyze,
    "npz": by_numpy("a.npz"),
    "npy": by_numpy("a.npy"),
    "npy in gzip": gzipped(by_numpy("a.npy")),
}
VOLUMES = {f"placed {name}": writer for name, writer in PLACED.items()} | UNPLACED


def by_pillow(name: str, **options: object) -> Writer:
    def write(folder: Path) -> Path:
        Image.fromarray(PIXELS).save(folder / name, **options)
        return folder / name

    return write


IMAGES: dict[str, Writer] = {
    "png": by_pillow("a.png"),
    "bmp": by_pillow("a.bmp"),
    "tiff": by_pillow("a.tif"),
    "tiff deflate": by_pillow("a.tiff", compression="tiff_adobe_deflate"),
    "tiff lzw": by_pillow("a.tiff", compression="tiff_lzw"),
}
ALL = VOLUMES | IMAGES


def expected_of(name: str) -> np.ndarray:
    return PIXELS if name in IMAGES else VOXELS


@pytest.mark.parametrize("name", ALL)
def test_voxels_are_those_that_were_written(tmp_path: Path, name: str) -> None:
    image = read_scan(ALL[name](tmp_path))
    np.testing.assert_array_equal(image.voxels[0], expected_of(name))
    assert image.voxels.shape == (1, *expected_of(name).shape)
    assert image.voxels.dtype == expected_of(name).dtype
    assert image.voxels.dtype.isnative
    assert not image.color


@pytest.mark.parametrize("name", PLACED)
def test_geometry_is_that_which_was_written(tmp_path: Path, name: str) -> None:
    image = read_scan(PLACED[name](tmp_path))
    assert image.affine is not None
    np.testing.assert_allclose(image.affine, OBLIQUE, atol=1e-5)
    assert image.spacing_mm == pytest.approx((0.7, 0.8, 5.0), rel=1e-5)
    assert image.notes == ()


@pytest.mark.parametrize("name", [*UNPLACED, *IMAGES])
def test_geometry_is_never_invented(tmp_path: Path, name: str) -> None:
    image = read_scan(ALL[name](tmp_path))
    assert image.affine is None
    assert image.spacing_mm == (pytest.approx((0.7, 0.8, 5.0)) if name == "analyze" else None)


def test_the_same_voxels_have_the_same_hash_in_every_container(tmp_path: Path) -> None:
    hashes = {}
    for index, (name, writer) in enumerate(ALL.items()):
        folder = tmp_path / str(index)
        folder.mkdir()
        hashes[name] = read_scan(writer(folder)).content_hash
    assert len({hashes[name] for name in VOLUMES}) == 1, hashes
    assert len({hashes[name] for name in IMAGES}) == 1, hashes


@pytest.mark.parametrize("name", ALL)
def test_reading_twice_is_the_same_and_changes_no_file(tmp_path: Path, name: str) -> None:
    path = ALL[name](tmp_path)
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in tmp_path.iterdir()}
    first, second = read_scan(path), read_scan(path)
    assert (first.content_hash, first.spacing_mm, first.notes) == (
        second.content_hash,
        second.spacing_mm,
        second.notes,
    )
    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in tmp_path.iterdir()} == before


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("name", ALL)
def test_no_file_stays_open_also_after_a_refusal(tmp_path: Path, name: str) -> None:
    path = ALL[name](tmp_path)
    content = path.read_bytes()
    read_scan(path)
    before = len(os.listdir("/proc/self/fd"))
    for size in (len(content), len(content) * 2 // 3, len(content) // 3, 40):
        path.write_bytes(content[:size])
        if size < len(content):
            with pytest.raises(UnreadableScanError):
                read_scan(path)
        else:
            read_scan(path)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("name", ALL)
def test_bytes_are_read_as_the_file_or_refused_where_they_are_one_of_two(tmp_path: Path, name: str) -> None:
    path = ALL[name](tmp_path)
    if len(list(tmp_path.iterdir())) == 2:
        with pytest.raises(UnreadableScanError, match=r"two files|another file") as refused:
            read_scan_bytes(path.read_bytes())
        assert refused.value.code == "unknown-format"
        return
    from_path, from_bytes = read_scan(path), read_scan_bytes(path.read_bytes())
    assert (from_path.content_hash, from_path.spacing_mm, from_path.notes, from_path.modality) == (
        from_bytes.content_hash,
        from_bytes.spacing_mm,
        from_bytes.notes,
        from_bytes.modality,
    )


@pytest.mark.parametrize("name", ALL)
def test_each_file_is_found_by_its_suffix_and_by_its_content(tmp_path: Path, name: str) -> None:
    path = ALL[name](tmp_path)
    assert scan_suffix(path)
    assert recognise(path.read_bytes()[:352]) is not None
    if len(list(tmp_path.iterdir())) == 1:
        np.testing.assert_array_equal(read_scan(path.rename(tmp_path / "IM000001")).voxels[0], expected_of(name))


@pytest.mark.parametrize("name", ALL)
def test_truncated_files_are_refused_and_the_message_names_the_file(tmp_path: Path, name: str) -> None:
    path = ALL[name](tmp_path)
    largest = max(tmp_path.iterdir(), key=lambda file: file.stat().st_size)  # of two files the one with the voxels
    content = largest.read_bytes()
    refused = 0
    for share in (0.1, 0.4, 0.6, 0.8, 0.95):
        largest.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(UnreadableScanError, match="^" + str(path)) as error:
            read_scan(path)
        assert error.value.code in KINDS
        refused += 1
    assert refused == 5


SERIES: dict[str, Callable[[Path, np.ndarray], Path]] = {}


def series(name: str) -> Callable[[Callable[[Path, np.ndarray], Path]], Callable[[Path, np.ndarray], Path]]:
    def register(writer: Callable[[Path, np.ndarray], Path]) -> Callable[[Path, np.ndarray], Path]:
        SERIES[name] = writer
        return writer

    return register


def itk_4d(voxels: np.ndarray) -> SimpleITK.Image:
    parts = [itk_image(voxels[..., index], OBLIQUE) for index in range(voxels.shape[-1])]
    return SimpleITK.JoinSeries(parts)


@series("nifti gz")
def _(folder: Path, voxels: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(voxels, OBLIQUE), folder / "a.nii.gz")
    return folder / "a.nii.gz"


@series("nifti")
def _(folder: Path, voxels: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(voxels, OBLIQUE), folder / "a.nii")
    return folder / "a.nii"


@series("nifti pair")
def _(folder: Path, voxels: np.ndarray) -> Path:
    nib.save(nib.Nifti1Pair(voxels, OBLIQUE), folder / "a.hdr")
    return folder / "a.hdr"


@series("mgz")
def _(folder: Path, voxels: np.ndarray) -> Path:
    nib.save(nib.MGHImage(voxels, OBLIQUE), folder / "a.mgz")
    return folder / "a.mgz"


@series("mha")
def _(folder: Path, voxels: np.ndarray) -> Path:
    SimpleITK.WriteImage(itk_4d(voxels), str(folder / "a.mha"), useCompression=True)
    return folder / "a.mha"


@series("nrrd vectors")
def _(folder: Path, voxels: np.ndarray) -> Path:
    parts = [itk_image(voxels[..., index], OBLIQUE) for index in range(voxels.shape[-1])]
    SimpleITK.WriteImage(SimpleITK.Compose(parts), str(folder / "a.nrrd"))
    return folder / "a.nrrd"


@series("mha vectors")
def _(folder: Path, voxels: np.ndarray) -> Path:
    parts = [itk_image(voxels[..., index], OBLIQUE) for index in range(voxels.shape[-1])]
    SimpleITK.WriteImage(SimpleITK.Compose(parts), str(folder / "a.mha"))
    return folder / "a.mha"


@series("nrrd list")
def _(folder: Path, voxels: np.ndarray) -> Path:
    lps = np.diag([-1, -1, 1]) @ OBLIQUE[:3]
    vectors = " ".join("(" + ",".join(map(repr, lps[:, axis].tolist())) + ")" for axis in range(3))
    header = (
        "NRRD0004\ntype: short\ndimension: 4\nspace: left-posterior-superior\n"
        f"sizes: {' '.join(map(str, voxels.shape))}\nspace directions: {vectors} none\n"
        "kinds: domain domain domain list\nendian: little\nencoding: gzip\n"
        f"space origin: ({','.join(map(repr, lps[:, 3].tolist()))})\n\n"
    )
    (folder / "a.nrrd").write_bytes(header.encode() + gzip.compress(voxels.astype("<i2").tobytes(order="F")))
    return folder / "a.nrrd"


@pytest.mark.parametrize("name", SERIES)
def test_time_is_never_read_as_channels_and_a_volume_is_chosen_by_its_number(tmp_path: Path, name: str) -> None:
    voxels = volume((7, 6, 5, 4))
    path = SERIES[name](tmp_path, voxels)
    with pytest.raises(UnreadableScanError, match=r"4 volumes.*--volume N \(0 to 3\)") as refused:
        read_scan(path)
    assert refused.value.code == "several-volumes"
    for number in range(4):
        image = read_scan(path, rules=ReadingRules(volume=number))
        np.testing.assert_array_equal(image.voxels, voxels[np.newaxis, ..., number])
        np.testing.assert_allclose(image.affine, OBLIQUE, atol=1e-5)
        assert image.notes == (f"volume-chosen: volume {number} of 4 was read, counted from 0",)
    with pytest.raises(UnreadableScanError, match=r"none has the number 4.*--volume 0 to 3"):
        read_scan(path, rules=ReadingRules(volume=4))


@pytest.mark.parametrize("name", VOLUMES)
def test_a_single_volume_needs_no_choice(tmp_path: Path, name: str) -> None:
    path = VOLUMES[name](tmp_path)
    assert read_scan(path, rules=ReadingRules(volume=3)).content_hash == read_scan(path).content_hash
