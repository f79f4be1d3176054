"""Small valid files of every format, as bytes, for damaging."""

from __future__ import annotations

import gzip
import io
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset

from tests.data.making import AFFINE, volume

SPACING = (0.7, 0.8, 5.0)


def written(name: str, write: Callable[[Path], object]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        write(path)
        return path.read_bytes()


def nifti(name: str, kind: type = nib.Nifti1Image, shape: tuple[int, ...] = (6, 5, 4)) -> bytes:
    return written(name, lambda path: nib.save(kind(volume(shape), AFFINE), path))


def itk(name: str, *, compressed: bool = False) -> bytes:
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume().T))
    image.SetSpacing(SPACING)
    return written(name, lambda path: SimpleITK.WriteImage(image, str(path), useCompression=compressed))


def picture(kind: str, pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def numpy_file(save: Callable[..., None], *args: np.ndarray, **values: object) -> bytes:
    file = io.BytesIO()
    save(file, *args, **values)
    return file.getvalue()


def stack(**options: object) -> bytes:
    pages = [Image.fromarray(volume((9, 7), seed=page, low=0, high=255, dtype=np.uint8)) for page in range(3)]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:], **options)
    return file.getvalue()


def dicom(position: float = 0.0, number: int = 1, *, rle: bool = False) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
    file = FileDataset("", Dataset(), file_meta=meta, preamble=bytes(128))
    values = {
        "SOPClassUID": meta.MediaStorageSOPClassUID,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "PatientID": "p1",
        "StudyInstanceUID": "1.2.4",
        "SeriesInstanceUID": "1.2.5",
        "FrameOfReferenceUID": "1.2.6",
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "InstanceNumber": number,
        "Rows": 6,
        "Columns": 5,
        "PixelSpacing": [0.7, 0.8],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [0, 0, position],
        "SliceThickness": 2,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
    }
    for keyword, value in values.items():
        setattr(file, keyword, value)
    file.PixelData = volume((6, 5), seed=number, low=0, high=3000, dtype=np.uint16).tobytes()
    if rle:
        file.compress(pydicom.uid.RLELossless)
    out = io.BytesIO()
    file.save_as(out, enforce_file_format=True)
    return out.getvalue()


def dicom_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(1, 4):
            archive.writestr(f"scan/{number}.dcm", dicom(2.0 * number, number))
    return file.getvalue()


GREY = volume((9, 7), low=0, high=255, dtype=np.uint8)
COLOUR = volume((9, 7, 3), low=0, high=255, dtype=np.uint8)

#: Files that are one file, by name.
MAKERS: dict[str, Callable[[], bytes]] = {
    "nifti": lambda: nifti("a.nii"),
    "nifti-2": lambda: nifti("a.nii", nib.Nifti2Image),
    "nifti.gz": lambda: nifti("a.nii.gz"),
    "nifti 4d": lambda: nifti("a.nii.gz", shape=(6, 5, 4, 3)),
    "mgh": lambda: nifti("a.mgh", nib.MGHImage),
    "mgz": lambda: nifti("a.mgz", nib.MGHImage),
    "nrrd": lambda: itk("a.nrrd"),
    "nrrd gz": lambda: itk("a.nrrd", compressed=True),
    "mha": lambda: itk("a.mha"),
    "mha zlib": lambda: itk("a.mha", compressed=True),
    "mha in gzip": lambda: gzip.compress(itk("a.mha")),
    "png": lambda: picture("PNG", GREY),
    "png colour": lambda: picture("PNG", COLOUR),
    "jpeg": lambda: picture("JPEG", np.tile(COLOUR, (5, 5, 1))),
    "tiff": lambda: picture("TIFF", GREY),
    "tiff lzw": lambda: picture("TIFF", GREY, compression="tiff_lzw"),
    "tiff stack": stack,
    "tiff stack deflate": lambda: stack(compression="tiff_adobe_deflate"),
    "bmp": lambda: picture("BMP", GREY),
    "npy": lambda: numpy_file(np.save, volume()),
    "npz": lambda: numpy_file(np.savez_compressed, image=volume(), affine=AFFINE, spacing=SPACING),
    "dicom": dicom,
    "dicom rle": lambda: dicom(rle=True),
    "dicom gz": lambda: gzip.compress(dicom()),
    "dicom zip": dicom_zip,
}


@cache
def sample(name: str) -> bytes:
    """Return the bytes of a valid file."""
    return MAKERS[name]()


@cache
def pair(kind: str) -> dict[str, bytes]:
    """Return the files of a scan in two files by their names, the header first."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume().T))
    with tempfile.TemporaryDirectory() as folder:
        header = Path(folder, f"a{kind}")
        if kind == ".hdr":
            nib.save(nib.Nifti1Pair(volume(), AFFINE), header)
        else:
            SimpleITK.WriteImage(image, str(header))
        names = sorted(Path(folder).iterdir(), key=lambda path: path.name != header.name)
        return {path.name: path.read_bytes() for path in names}
