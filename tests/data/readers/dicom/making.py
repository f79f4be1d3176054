"""DICOM files of a few kilobytes, written with pydicom: whole series, and single files with something wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    SecondaryCaptureImageStorage,
)

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
ORIGIN = np.array([-100.0, -90.0, 40.0])
PIXEL_MM = (0.7, 0.8)
PITCH = 2.5
CLASSES = {"CT": CTImageStorage, "MR": MRImageStorage, "OT": SecondaryCaptureImageStorage}


def stack(num=12, shape=(20, 24), *, seed=0):
    """Stored values of a smooth volume with some texture, ``(K, rows, columns)``; 1024 is water."""
    k, i, j = np.mgrid[0:num, 0 : shape[0], 0 : shape[1]]
    noise = np.random.default_rng(seed).integers(0, 40, (num, *shape))
    return (900 + 20 * k + 3 * i + 2 * j + noise).astype(np.int16)


def dataset(pixels, *, position=ORIGIN, orientation=AXIAL, modality="CT", uid="1.2.3", number=1, **tags) -> Dataset:
    """A classic image; a tag that is None is left out."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = CLASSES.get(modality, CTImageStorage)
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    made.PatientID, made.PatientName = "P1", "Nobody^Ann"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.SeriesNumber = f"{uid}.1", f"{uid}.2", 3
    made.Modality, made.InstanceNumber, made.ImageType = modality, number, ["ORIGINAL", "PRIMARY", "AXIAL"]
    made.PatientIdentityRemoved = "YES"
    made.ImagePositionPatient = [f"{value:.6f}" for value in position]
    made.ImageOrientationPatient = [f"{value:.6f}" for value in orientation]
    made.PixelSpacing = list(PIXEL_MM)
    made.RescaleSlope, made.RescaleIntercept = 1, -1024
    set_pixels(made, pixels)
    for keyword, value in tags.items():
        if value is None:
            delattr(made, keyword)
        else:
            setattr(made, keyword, value)
    return made


def set_pixels(made: Dataset, pixels) -> None:
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = 1 if pixels.ndim == 2 else pixels.shape[2]
    made.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8 * pixels.itemsize
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    made.PixelData = pixels.tobytes()


def save(made: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)
    return path


def positions(num=12, *, orientation=AXIAL, step=None, origin=ORIGIN):
    normal = np.cross(orientation[:3], orientation[3:])
    step = PITCH * normal if step is None else np.asarray(step)
    return [origin + index * step for index in range(num)]


def write_series(folder: Path, voxels=None, *, at=None, orientation=AXIAL, per_slice=None, name="IM", **tags):
    """Write one file a slice, named in an order that is not theirs; returns the paths in the order of the slices."""
    voxels = stack() if voxels is None else voxels
    at = positions(len(voxels), orientation=orientation) if at is None else at
    paths = []
    for index, (pixels, position) in enumerate(zip(voxels, at, strict=True)):
        own = {} if per_slice is None else per_slice(index)
        made = dataset(pixels, position=position, orientation=orientation, **{"number": index + 1, **tags, **own})
        paths.append(save(made, folder / f"{name}{(index * 7) % 10007:04d}.dcm"))
    return paths


def change(path: Path, **tags) -> Path:
    made = pydicom.dcmread(path)
    for keyword, value in tags.items():
        setattr(made, keyword, value)
    made.save_as(path)
    return path


def enhanced(voxels, *, at=None, orientation=AXIAL, per_frame=None, shared_scale=(2, -10)) -> Dataset:
    """An enhanced MR image: one file, many frames, each with its place (and scale where `per_frame` gives one)."""
    made = dataset(voxels[0], modality="MR", ImagePositionPatient=None, ImageOrientationPatient=None,
                   PixelSpacing=None, RescaleSlope=None, RescaleIntercept=None)  # fmt: skip
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    made.NumberOfFrames, made.PixelData = len(voxels), np.ascontiguousarray(voxels).tobytes()
    shared = Dataset()
    shared.PixelMeasuresSequence = Sequence([_item(PixelSpacing=list(PIXEL_MM), SliceThickness=PITCH)])
    shared.PlaneOrientationSequence = Sequence([_item(ImageOrientationPatient=list(orientation))])
    if shared_scale is not None:
        shared.PixelValueTransformationSequence = Sequence([_scale(*shared_scale)])
    made.SharedFunctionalGroupsSequence = Sequence([shared])
    at = positions(len(voxels), orientation=orientation) if at is None else at
    groups = [_frame(position, {} if per_frame is None else per_frame(index)) for index, position in enumerate(at)]
    made.PerFrameFunctionalGroupsSequence = Sequence(groups)
    return made


def _frame(position, own) -> Dataset:
    group = Dataset()
    group.PlanePositionSequence = Sequence([_item(ImagePositionPatient=[float(value) for value in position])])
    if "scale" in own:
        group.PixelValueTransformationSequence = Sequence([_scale(*own["scale"])])
    if "time" in own:
        group.FrameContentSequence = Sequence([_item(TemporalPositionIndex=own["time"])])
    return group


def _scale(slope, intercept) -> Dataset:
    return _item(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="US")


def _item(**tags) -> Dataset:
    made = Dataset()
    for keyword, value in tags.items():
        setattr(made, keyword, value)
    return made


def segmentation(paths, mask, *, kind="BINARY", num=None, **more):
    """A Segmentation object by highdicom of the slices at `paths`; ``(slices, rows, columns[, segments])``."""
    from highdicom.seg import Segmentation, SegmentDescription
    from highdicom.sr.coding import CodedConcept

    code = CodedConcept("49755003", "SCT", "Morphologically abnormal structure")
    num = num or (mask.shape[3] if mask.ndim == 4 else 1)
    described = [
        SegmentDescription(segment_number=number + 1, segment_label=f"lesion {number}", algorithm_type="MANUAL",
                           segmented_property_category=code, segmented_property_type=code)
        for number in range(num)
    ]  # fmt: skip
    sources = [pydicom.dcmread(path) for path in paths]
    for source in sources:
        source.FrameOfReferenceUID, source.StudyID, source.AccessionNumber = "1.2.3.9", "", ""
        source.StudyDate, source.StudyTime, source.PatientBirthDate, source.PatientSex = "20200101", "1200", "", ""
        source.ReferringPhysicianName, source.PositionReferenceIndicator, source.SliceThickness = "", "", PITCH
    return Segmentation(
        source_images=sources, pixel_array=mask, segmentation_type=kind, segment_descriptions=described,
        series_instance_uid="1.2.77", series_number=9, sop_instance_uid=pydicom.uid.generate_uid(), instance_number=1,
        manufacturer="medres", manufacturer_model_name="tests", software_versions="1", device_serial_number="1",
        **more,
    )  # fmt: skip
