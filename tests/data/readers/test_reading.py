import io
import random
import subprocess
import sys
import warnings
from collections import Counter

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medres.data.readers import SCAN_SUFFIXES, read_scan_bytes
from medres.data.readers.formats import recognise, scan_suffix
from medres.errors import UnreadableScanError
from tests.data.making import AFFINE, volume, write_nifti, write_png


def jpeg():
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue()


def npz():
    file = io.BytesIO()
    np.savez_compressed(file, image=volume(), spacing=[0.7, 0.8, 5.0], affine=AFFINE)
    return file.getvalue()


SAMPLES = {
    "nifti": lambda folder: write_nifti(folder / "a.nii").read_bytes(),
    "nifti-2": lambda folder: write_nifti(folder / "a.nii", kind=nib.Nifti2Image).read_bytes(),
    "gzip": lambda folder: write_nifti(folder / "a.nii.gz").read_bytes(),
    "png": lambda folder: write_png(folder / "a.png").read_bytes(),
    "jpeg": lambda folder: jpeg(),
    "npz": lambda folder: npz(),
}


def damaged(content, draw):
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 5])):
        position, kind = draw.randrange(min(len(changed), 700)), draw.random()
        if kind < 0.7:
            changed[position] = draw.randrange(256)
        elif kind < 0.85:
            del changed[position]
        else:
            changed.insert(position, draw.randrange(256))
    return bytes(changed)


@pytest.mark.parametrize("kind", SAMPLES)
def test_content_is_recognised(tmp_path, kind):
    assert recognise(SAMPLES[kind](tmp_path)) == kind.removesuffix("-2")


@pytest.mark.parametrize("kind", SAMPLES)
def test_damage_gives_a_scan_or_one_kind_of_error_and_no_warning(tmp_path, kind):
    content, draw, outcomes = SAMPLES[kind](tmp_path), random.Random(0), Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(500):
            try:
                assert np.isfinite(read_scan_bytes(damaged(content, draw)).voxels).all()
                outcomes["read"] += 1
            except UnreadableScanError as error:
                assert error.problem.startswith("The file ")  # noqa: PT017
                outcomes["refused"] += 1
    assert sum(outcomes.values()) == 500
    assert outcomes["refused"] > 100


@pytest.mark.parametrize("suffix", SCAN_SUFFIXES)
def test_suffixes_in_any_case(tmp_path, suffix):
    assert scan_suffix(tmp_path / f"a.b{suffix.upper()}") == suffix.upper()
    assert scan_suffix(tmp_path / f"{suffix[1:]}.txt") == ""


def test_decoders_are_imported_when_a_scan_is_read():
    code = "import sys, medres.data.readers, medres.data.sources; print({'nibabel', 'PIL', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        __import__("medres.data.readers").data.readers.other  # noqa: B018
