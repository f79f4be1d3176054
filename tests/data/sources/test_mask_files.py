"""Masks beside images, as public sets keep them: left out and told, whatever the naming, and nothing else is."""

import numpy as np
import pytest
from PIL import Image

from medres.data.exclusion import without_known
from medres.data.sources import list_scans, load_scans
from medres.data.sources.mask_files import holds_few_values, masks_among
from medres.errors import DataError
from tests.data.making import volume, write_nifti, write_png


def shape(seed=0, size=(32, 32)):
    """An ellipse, 0 and 255."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[: size[0], : size[1]]
    center, radius = rng.uniform(10, 20, 2), rng.uniform(3, 9, 2)
    return (((y - center[0]) / radius[0]) ** 2 + ((x - center[1]) / radius[1]) ** 2 < 1).astype(np.uint8) * 255


def write_all(root, images, masks):
    for seed, name in enumerate(images):
        if name.endswith(".png"):
            write_png(root / name, seed=seed, size=(32, 32))
        else:
            write_nifti(root / name, volume((12, 11, 10), seed=seed))
    for seed, name in enumerate(masks):
        if name.endswith((".png", ".jpg")):
            write_png(root / name, pixels=shape(seed))
        else:
            write_nifti(root / name, (volume((12, 11, 10), seed=seed) > 900).astype(np.uint8))
    return root


NAMINGS = [
    ("{}.png", "{}_mask.png"), ("{}.png", "{}_seg.png"), ("{}.png", "{}_label.png"), ("{}.png", "{}_GT.png"),
    ("{}.png", "{}-mask.png"), ("{}.png", "{}.mask.png"), ("{}.png", "mask_{}.png"), ("{}.png", "{}_mask_1.png"),
    ("{}.png", "{}_Segmentation.png"), ("{}.png", "{} roi.png"), ("{}.png", "{}_lesion_mask.png"),
    ("image_{}.png", "mask_{}.png"), ("volume-{}.nii", "segmentation-{}.nii"),
    ("{}.png", "{}_mask.jpg"), ("{}.png", "{}mask.png"), ("{}.png", "{}_annotation2.png"), ("{}.png", "{}_lesion.png"),
    ("benign ({}).png", "benign ({})_mask.png"), ("benign ({}).png", "benign ({})_mask_1.png"),
    ("{}.nii.gz", "{}_seg.nii.gz"), ("{}_t1.nii.gz", "{}_seg.nii.gz"), ("{}.nii", "{}_brainmask.nii.gz"),
    ("p{}/ct.nii.gz", "p{}/seg.nii.gz"), ("p{}/ct.nii.gz", "p{}/segmentations/liver.nii.gz"),
    ("images/{}.png", "masks/{}.png"), ("images/{}.png", "masks/{}_mask.png"), ("{}.png", "masks/{}.png"),
    ("imagesTr/{}_0000.nii.gz", "labelsTr/{}.nii.gz"), ("images/p{}/a.png", "Ground Truth/p{}/a.png"),
]  # fmt: skip


@pytest.mark.parametrize(("image", "mask"), NAMINGS)
def test_masks_are_left_out_of_class_folders_and_of_prediction_and_each_is_told(tmp_path, image, mask):
    images = [f"{label}/{image.format(f'{label}{n}')}" for label in ("x", "y") for n in range(3)]
    masks = [f"{label}/{mask.format(f'{label}{n}')}" for label in ("x", "y") for n in range(3)]
    write_all(tmp_path, images, masks)
    for table in (load_scans(tmp_path), list_scans([tmp_path])):
        assert sorted(scan.path.relative_to(tmp_path).as_posix() for scan in table) == sorted(images)
        told = [finding for finding in table.findings if finding.code == "mask-among-scans"]
        assert sorted(finding.file for finding in told) == sorted(str(tmp_path / name) for name in masks)
        assert all(finding.severity == "warning" and finding.sample_id is None for finding in told)


def test_masks_beside_class_folders_of_images_are_no_classes(tmp_path):
    images = [f"images/{label}/{n}.png" for label in "xy" for n in range(2)]
    write_all(tmp_path, images, [name.replace("images", "masks") for name in images])
    with pytest.raises(DataError, match=r"one class folder with scans, 'images' \(4 masks of these scans left out\)"):
        load_scans(tmp_path)
    assert len(list_scans([tmp_path])) == 4


def test_a_mask_word_without_an_image_names_a_scan(tmp_path):
    names = [f"{label}/{n}_{word}.png" for label in "xy" for n, word in enumerate(("mask", "label", "seg"))]
    write_all(tmp_path, [], names)
    table = load_scans(tmp_path)
    assert (len(table), table.findings) == (6, ())


@pytest.mark.parametrize("names", [
    ["label_{}.png", "{}.txt.png"], ["roi_{}.png", "other{}.png"], ["tumor{}.png", "tumor{}b.png"],
    ["mask/{}.png", "no mask/{}.png"], ["{}.png", "{}a.png"], ["segment_{}.png", "{}.png"], ["gt{}.png", "x{}.png"],
])  # fmt: skip
def test_pictures_of_other_names_stay_without_a_word(tmp_path, names):
    files = [f"{label}/{name.format(n)}" for label in "xy" for n in range(3) for name in names]
    table = load_scans(write_all(tmp_path, files, []))
    assert (len(table), [one.code for one in table.findings if one.file]) == (len(files), [])


def test_what_is_named_like_a_mask_and_holds_a_picture_stays_and_is_told_once(tmp_path):
    files = [f"{label}/{n}{end}.png" for label in "xy" for n in range(3) for end in ("", "_label")]
    table = load_scans(write_all(tmp_path, files, []))
    (finding,) = table.findings
    assert (len(table), finding.code, finding.file) == (12, "mask-among-scans", None)
    assert finding.value.startswith(
        "6 files are named like masks of others, but hold pictures, and stayed scans: x/0_label.png (0.png)"
    )


def test_a_file_that_cannot_be_read_does_not_decide(tmp_path):
    root = write_all(tmp_path, ["a/1.png", "a/2.png", "b/3.png"], ["a/1_mask.png", "b/3_mask.png"])
    (root / "a/2_mask.png").write_bytes(b"nonsense")
    assert [scan.sample_id for scan in load_scans(root)] == ["a/1", "a/2", "b/3"]


def test_a_table_that_names_masks_keeps_them_and_says_so(tmp_path):
    root = write_all(tmp_path, ["1.png", "2.png"], ["1_mask.png", "2_mask.png"])
    (root / "labels.csv").write_text("path,label\n1.png,a\n1_mask.png,a\n2.png,b\n2_mask.png,b\n")
    table = load_scans(root)
    (finding,) = table.findings
    assert (len(table), finding.code, finding.severity) == (4, "mask-among-scans", "warning")
    assert finding.samples == ("1_mask", "2_mask")
    assert finding.value.startswith("labels.csv lists 2 masks of scans that it lists as well: 1_mask.png (of 1.png)")
    assert [scan.sample_id for scan in without_known(table, ["mask-among-scans"])] == ["1", "2"]
    assert len(list_scans([root / "labels.csv"])) == 4
    (root / "labels.csv").write_text("path,label\n1.png,a\n2.png,b\n")
    assert {one.code for one in load_scans(root).findings} == {"mask-among-scans"}
    (root / "labels.csv").write_text("path,mask,label\n1.png,1_mask.png,a\n2.png,2_mask.png,b\n")
    assert load_scans(root).findings == ()
    (root / "labels.csv").write_text("path,label\n1_mask.png,a\n2_mask.png,b\n")  # what is asked for alone is a scan
    assert {one.code for one in load_scans(root).findings} == {"file-not-listed"}


def test_rows_that_name_patients_mean_their_images_alone(tmp_path):
    files = [f"p{n}/ct.nii.gz" for n in range(4)]
    root = write_all(tmp_path, files, [name.replace("ct", "seg") for name in files])
    (root / "labels.csv").write_text("patient_id,label\n" + "".join(f"p{n},{'ab'[n % 2]}\n" for n in range(4)))
    assert [scan.sample_id for scan in load_scans(root)] == [f"p{n}/ct" for n in range(4)]
    (root / "labels.csv").write_text("path,label\n" + "".join(f"p{n},{'ab'[n % 2]}\n" for n in range(4)))
    table = load_scans(root)
    assert {one.code for one in table.findings} == {"mask-among-scans"}
    assert len(table) == 4


def test_files_that_are_asked_for_one_by_one_are_scans(tmp_path):
    write_all(tmp_path, ["1.png"], ["1_mask.png"])
    assert len(list_scans([tmp_path / "1.png", tmp_path / "1_mask.png"])) == 2
    assert len(list_scans([tmp_path / "1_mask.png"])) == 1


@pytest.mark.parametrize("seed", range(3))
def test_masks_are_told_from_pictures_by_their_values(seed):
    rng = np.random.default_rng(seed)
    mask, picture = shape(seed, (64, 64)), rng.normal(100, 30, (64, 64))
    blurred = np.asarray(Image.fromarray(mask).resize((90, 90), Image.Resampling.BICUBIC))
    for voxels in (
        mask,
        mask > 0,
        mask.astype(float) / 255,
        blurred,
        np.stack([mask] * 3),
        (picture // 20).astype(int),
    ):
        assert holds_few_values(voxels)
    head = np.where(shape(seed, (64, 64)) > 0, picture, 0) + np.where(rng.random((64, 64)) > 0.5, picture, 0)
    for voxels in (picture, picture.astype(np.uint8), head, picture / 1e9):
        assert not holds_few_values(voxels)


def test_a_mask_is_of_the_image_of_its_number(tmp_path):
    files = [tmp_path / f"{kind}-{n}.nii" for kind in ("volume", "segmentation") for n in range(20)]
    images = {mask.name: image.name for mask, image in masks_among(files, tmp_path).images.items()}
    assert images == {f"segmentation-{n}.nii": f"volume-{n}.nii" for n in range(20)}


def test_each_of_many_patients_with_several_sequences_has_its_own_image(tmp_path):
    files = [tmp_path / f"{n}{end}.nii.gz" for n in range(1000) for end in ("_t1", "_t2", "_seg")]
    found = masks_among(files, tmp_path)  # none can be read: their names decide
    assert {mask.name: image.name for mask, image in found.images.items()} == {
        f"{n}_seg.nii.gz": f"{n}_t1.nii.gz" for n in range(1000)
    }


@pytest.mark.parametrize("swapped", [False, True])
def test_masks_that_differ_from_their_images_by_the_format_alone_are_told_by_what_they_hold(tmp_path, swapped):
    rng, image, mask = np.random.default_rng(0), ".png", ".tif"
    if swapped:
        image, mask = mask, image
    for number in range(4):
        Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(tmp_path / f"{number}{image}")
        Image.fromarray(rng.integers(0, 2, (16, 16), dtype=np.uint8) * 255).save(tmp_path / f"{number}{mask}")
    found = masks_among(sorted(tmp_path.iterdir()), tmp_path)
    assert {path.name for path in found.images} == {f"{number}{mask}" for number in range(4)}
    assert not found.doubtful
    for number in range(4):  # two formats of the same kind: nothing says that one is a mask
        Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(tmp_path / f"{number}{mask}")
    assert not masks_among(sorted(tmp_path.iterdir()), tmp_path).images


@pytest.mark.parametrize("name", ["{}_lbl", "{}_binary", "{}_segLabel", "{}_fg", "{}_foreground"])
def test_further_words_for_masks(tmp_path, name):
    rng = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        Image.fromarray(rng.integers(0, 2, (16, 16), dtype=np.uint8) * 255).save(
            tmp_path / f"{name.format(number)}.png"
        )
    assert len(masks_among(sorted(tmp_path.iterdir()), tmp_path).images) == 4
