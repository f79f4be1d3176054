import io
import struct
import threading
import zipfile

import numpy as np
import pytest

from medres.data.readers import arrays, read_scan, read_scan_bytes
from medres.errors import UnreadableScanError
from tests.data.making import AFFINE, volume, write_medmnist


def npz(**values):
    file = io.BytesIO()
    np.savez_compressed(file, **values)
    return file.getvalue()


@pytest.mark.parametrize("name", ["image", "anything", "arr_0"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_single_array_is_the_scan(tmp_path, name, save):
    save(tmp_path / "scan.npz", **{name: volume()})
    image = read_scan(tmp_path / "scan.npz")
    np.testing.assert_array_equal(image.voxels[0], volume())
    assert (image.affine, image.spacing_mm) == (None, None)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", ">i2", ">f4", "float16", "float64"])
def test_types_are_kept_in_native_order(dtype):
    image = read_scan_bytes(npz(image=volume(low=0, high=2, dtype=dtype)))
    expected = np.dtype("uint8") if dtype == "bool" else np.dtype(dtype).newbyteorder("=")
    assert image.voxels.dtype == expected
    np.testing.assert_array_equal(image.voxels[0], volume(low=0, high=2, dtype=dtype))


def test_geometry_beside_the_array_is_honoured():
    image = read_scan_bytes(npz(ct=volume(), affine=AFFINE, spacing=[0.7, 0.8, 5.0]))
    np.testing.assert_array_equal(image.affine, AFFINE)
    assert image.spacing_mm == pytest.approx((0.7, 0.8, 5))
    assert read_scan_bytes(npz(ct=volume(), spacing=[1, 1, 2])).spacing_mm == (1.0, 1.0, 2.0)
    assert read_scan_bytes(npz(ct=volume((6, 5)), spacing=[1, 2])).spacing_mm == (1.0, 2.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"a": volume(), "b": volume()}, "holds the arrays a, b, and none of them is named 'image'"),
        ({"spacing": np.ones(3)}, "none of them is named 'image'"),
        ({"x": volume(), "affine": np.zeros((4, 4))}, "singular affine"),
        ({"x": volume(), "spacing": [1, 2]}, r"has the spacing \[1, 2\]. Give 3 sizes in mm"),
        ({"x": volume(), "spacing": [1, 0, 2]}, "has the spacing"),
        ({"x": volume(), "spacing": ["a", "b", "c"]}, "'spacing' that is not numbers"),
        ({"x": volume(), "affine": AFFINE, "spacing": [1, 1, 1]}, "but its affine says"),
        ({"x": np.array([{"a": 1}], dtype=object)}, "Python objects, which are never unpickled"),
        ({"x": volume((2, 3, 4, 5))}, r"array of shape \(2, 3, 4, 5\)"),
        ({"x": np.zeros((0, 4), dtype=np.uint8)}, r"array of shape \(0, 4\)"),
        ({"x": np.full((4, 4), np.nan)}, "16 NaN or infinite voxels of 16"),
        ({"x": np.ones((4, 4), dtype=complex)}, "complex"),
        ({"x": np.array([["a", "b"]])}, "not real numbers"),
    ],
)
def test_what_is_no_scan_is_refused(values, message):
    with pytest.raises(UnreadableScanError, match=message):
        read_scan_bytes(npz(**values))


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((6, 5), np.int16, (1, 6, 5)),
        ((6, 5, 3), np.uint8, (3, 6, 5)),
        ((6, 5, 3), np.int16, (1, 6, 5, 3)),
        ((1, 6, 5, 4), np.int16, (1, 6, 5, 4)),
        ((6, 5, 4, 1), np.int16, (1, 6, 5, 4)),
    ],
)
def test_axes(shape, dtype, expected):
    assert read_scan_bytes(npz(x=volume(shape, dtype=dtype, low=0, high=99))).voxels.shape == expected


# --- damage


def test_a_pickle_is_never_loaded(tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "executed"), "w")

    with pytest.raises(UnreadableScanError, match="never unpickled"):
        read_scan_bytes(npz(image=np.array([Evil()], dtype=object)))
    assert not (tmp_path / "executed").exists()


def test_flips_in_the_compressed_array_are_refused():
    content = npz(image=volume((20, 20, 10)))
    begin = content.index(b"image.npy") + 40
    for bit in range(8 * begin, 8 * (begin + 100)):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(UnreadableScanError):
            read_scan_bytes(bytes(changed))


def archive(member, *, name="image.npy"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr(name, member)
    return file.getvalue()


def npy(shape, body):
    header = repr({"descr": "<i2", "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive(npy((32767, 32767, 32767), b"\0" * 64)), "claims 70,.* bytes for the array 'image', which has"),
        (archive(npy((4, 4), b"\0" * 8)), "truncated inside the array"),
        (archive(npy((4, 4), b"\0" * 99)), "more bytes than the array"),
        (archive(b"nonsense"), "header is damaged"),
        (archive(b"text", name="notes.txt"), "no DICOM|no scan|holds no"),
        (b"PK\x03\x04nonsense", "is damaged or no zip file"),
    ],
)
def test_archives_that_lie_are_refused(content, message):
    with pytest.raises(UnreadableScanError, match=message):
        read_scan_bytes(content)


# --- members of MedMNIST files


def test_members(tmp_path):
    path = write_medmnist(tmp_path / "x.npz")
    with np.load(path) as values:
        for split in ("train", "val", "test"):
            for index in range(4):
                image = read_scan(path, member=f"{split}_images:{index}")
                np.testing.assert_array_equal(image.voxels[0], values[f"{split}_images"][index])


@pytest.mark.parametrize(("shape", "expected"), [((8, 8, 3), (3, 8, 8)), ((6, 7, 8), (1, 6, 7, 8))])
def test_members_of_colour_and_of_volumes(tmp_path, shape, expected):
    path = write_medmnist(tmp_path / "x.npz", shape=shape)
    assert read_scan(path, member="test_images:0").voxels.shape == expected


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("train_images:6", "x.npz has no member 'train_images:6': 'train_images' holds 6 images"),
        ("train_images", "Members are named like"),
        ("train_images:-1", "has no member"),
        ("other:0", "x.npz holds no array 'other'. It holds train_images"),
    ],
)
def test_members_that_are_not_there(tmp_path, member, message):
    with pytest.raises(UnreadableScanError, match=message):
        read_scan(write_medmnist(tmp_path / "x.npz"), member=member)


def test_each_array_is_inflated_once_by_any_number_of_threads(tmp_path, monkeypatch):
    path, times = write_medmnist(tmp_path / "x.npz", counts=(40, 4, 4)), []
    read_array = arrays.read_array
    monkeypatch.setattr(arrays, "read_array", lambda *args: times.append(args) or read_array(*args))
    threads = [
        threading.Thread(target=read_scan, args=(path,), kwargs={"member": f"train_images:{i}"}) for i in range(40)
    ]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(times) == 1


def test_a_changed_file_is_read_again(tmp_path):
    path = write_medmnist(tmp_path / "x.npz")
    before = read_scan(path, member="train_images:0")
    write_medmnist(path, train_images=np.zeros((6, 8, 9), dtype=np.uint8))
    assert read_scan(path, member="train_images:0").content_hash != before.content_hash


def test_the_cache_is_bounded(tmp_path):
    cache = arrays._ArrayCache(max_bytes=600)
    path = write_medmnist(tmp_path / "x.npz")  # arrays of 384, 256 and 256 bytes
    for name in ("train_images", "val_images", "test_images"):
        cache.get(path, name)
    assert [key[1] for key in cache._arrays] == ["val_images", "test_images"]
