import itertools

import pytest

from medres.data.checks.faces import check_faces
from tests.data.checks.describing import entry, found

HEAD = {"L": 150, "P": 200, "S": 200}


def mr(*, box=HEAD, field=None, orientation="LPS", spacing=1.0, **changed):
    """A volume with a box of these sizes in mm in the middle of a field of view, left-right, back-front, feet-head."""
    field = field or {"L": 260, "P": 260, "S": 260}
    letters = {"R": "L", "A": "P", "I": "S"}
    axes = [letters.get(letter, letter) for letter in orientation]
    shape = tuple(int(field[axis] / spacing) for axis in axes)
    inside = [int(box[axis] / spacing) for axis in axes]
    starts = [(size - edge) // 2 for size, edge in zip(shape, inside, strict=True)]
    sides = tuple((start, start + edge) for start, edge in zip(starts, inside, strict=True))
    fields = {"modality": "MR", "orientation": orientation, "spacing_mm": (spacing,) * 3, "spatial_shape": shape}
    return entry(**{**fields, "foreground_box": sides, **changed})


AXES = itertools.permutations(["LR", "AP", "SI"])
ORIENTATIONS = ["".join(code) for axes in AXES for code in itertools.product(*axes)]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_head_is_found_however_it_lies(orientation):
    assert found(check_faces, {"a": mr(orientation=orientation)}) == {"faces": {"a"}}


@pytest.mark.parametrize("changed", [
    {"box": {"L": 320, "P": 220, "S": 300}, "field": {"L": 400, "P": 400, "S": 400}},  # a chest
    {"box": {"L": 140, "P": 175, "S": 135}},  # a stripped brain
    {"box": {"L": 150, "P": 140, "S": 160}},  # a knee
    {"box": {"L": 200, "P": 200, "S": 200}, "field": {"L": 200, "P": 260, "S": 260}},  # a crop of something larger
    {"box": {"L": 150, "P": 200, "S": 100}},  # slices above the eyes
    {"spacing": 5.0},
    {"modality": "other"},
    {"orientation": "LPS", "spacing_mm": None},
])  # fmt: skip
def test_what_is_no_face(changed):
    assert found(check_faces, {"a": mr(**changed)}) == {}


def test_unknown_orientation_decides_nothing():
    assert found(check_faces, {"a": mr().model_copy(update={"statistics": mr().statistics.model_copy(
        update={"orientation": None})})}) == {}  # fmt: skip
