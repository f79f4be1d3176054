import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medres.data.content import content_hash

TYPES = ["uint8", "int16", "uint16", "int32", "float32", "float64"]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(1, 5), (1, 7, 6), (1, 70, 5, 4), (3, 70, 6, 5), (3, 9, 8)])
def test_layout_and_byte_order_do_not_matter(dtype, shape):
    voxels = (np.random.default_rng(0).random(shape) * 200).astype(dtype)
    expected = content_hash(voxels)
    assert content_hash(np.asfortranarray(voxels)) == expected
    assert content_hash(voxels.astype(voxels.dtype.newbyteorder(">"))) == expected
    assert content_hash(np.ascontiguousarray(voxels[..., ::-1])[..., ::-1]) == expected


def test_is_sha256_of_type_shape_and_c_order_bytes():
    voxels = np.asfortranarray(np.arange(24, dtype="<i2").reshape(1, 2, 3, 4))
    assert content_hash(voxels) == hashlib.sha256(b"<i2 (1, 2, 3, 4)" + voxels.tobytes(order="C")).hexdigest()


def test_type_shape_and_values_matter():
    voxels = np.zeros((1, 4, 6), dtype=np.uint8)
    changed = voxels.copy()
    changed[0, 3, 5] = 1
    others = [voxels.astype(np.int8), voxels.reshape(1, 6, 4), voxels.reshape(1, 4, 6, 1), changed]
    assert len({content_hash(voxels), *map(content_hash, others)}) == 5


@given(st.integers(0, 6 * 70 * 5 - 1))
def test_every_voxel_counts(position):
    voxels = np.asfortranarray(np.zeros((70, 6, 5), dtype=np.int16))[np.newaxis]
    before = content_hash(voxels)
    changed = voxels.copy(order="K")
    changed[np.unravel_index(position, changed.shape)] = 1
    assert content_hash(changed) != before
