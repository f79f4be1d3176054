import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medres.data.readers.formats import SCAN_SUFFIXES
from medres.data.sources.scan_files import sample_ids, walk_scans
from medres.errors import DataError

NAMES = st.tuples(
    st.sampled_from(["a", "b", "a.png", "b.nii", "x/a", "x/a.jpg"]),
    st.sampled_from([*SCAN_SUFFIXES, ".PNG", ".dcm", ""]),
).map("".join)
FILES = st.lists(st.tuples(NAMES, st.sampled_from([None, "images:0", "images:1"])), unique=True, max_size=12)


@given(FILES)
def test_sample_ids_are_unique_and_tell_their_file(files):
    ids = sample_ids(files)
    assert len(set(ids)) == len(files)
    for sample_id, (name, member) in zip(ids, files, strict=True):
        stem = sample_id.removesuffix(f":{member}")
        assert name.startswith(stem)


@given(FILES, st.randoms())
def test_sample_ids_do_not_depend_on_the_order(files, random):
    shuffled = list(files)
    random.shuffle(shuffled)
    assert dict(zip(files, sample_ids(files), strict=True)) == dict(zip(shuffled, sample_ids(shuffled), strict=True))


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_walk_finds_scans_and_counts_the_rest(tmp_path):
    touch(tmp_path, "b.nii.gz", "x/y/a.PNG", "x/notes.txt", ".hidden.png", "x/._a.png", ".git/c.png", "__MACOSX/d.png")
    content = walk_scans(tmp_path)
    assert content.scans == (tmp_path / "b.nii.gz", tmp_path / "x/y/a.PNG")
    assert content.unsupported == (tmp_path / "x/notes.txt",)
    assert content.num_hidden == 2
    assert content.note()[0].startswith("2 hidden files and 1 file of other kinds were left out; scans are DICOM")
    assert walk_scans(tmp_path / "x/y").note() == ()


def test_links_are_followed_once(tmp_path):
    touch(tmp_path, "real/a.png")
    (tmp_path / "data").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "data/link")
    os.symlink(tmp_path / "data", tmp_path / "real/loop")
    assert [path.name for path in walk_scans(tmp_path / "data").scans] == ["a.png"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    def walk(folder, onerror, **options):
        onerror(PermissionError(13, "Permission denied", str(Path(folder, "closed"))))
        yield from ()

    monkeypatch.setattr(os, "walk", walk)
    with pytest.raises(DataError, match=r"closed cannot be read: Permission denied. Check its permissions"):
        walk_scans(tmp_path)
