"""Documents refuse what they do not know, naming the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from medres.errors import ConfigError
from medres.planning.plan import Augmentation, Intensity, Plan
from medres.runs.documents import Document, digest_of


class Inner(Document):
    size: int = 1


class Outer(Document):
    name: str
    inner: Inner = Inner()


def test_every_bad_key_is_named_with_its_path() -> None:
    with pytest.raises(ConfigError) as caught:
        Outer.from_mapping({"inner": {"size": "big", "sizes": 2}}, source="config.yaml")
    message = str(caught.value)
    for words in ("config.yaml", "name: is required", "inner.size", "'big'", "inner.sizes: unknown key"):
        assert words in message


def test_yaml_and_json_come_back_equal(tmp_path: Path) -> None:
    outer = Outer(name="größe", inner=Inner(size=3))
    outer.write_yaml(tmp_path / "a.yaml", header="first line\nsecond")
    outer.write_json(tmp_path / "a.json")
    assert Outer.read(tmp_path / "a.yaml") == outer == Outer.read(tmp_path / "a.json")
    assert (tmp_path / "a.yaml").read_text().startswith("# first line\n# second\n")


def test_a_python_object_in_yaml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: !!python/object/apply:os.system ['true']")
    with pytest.raises(ConfigError, match="not valid YAML"):
        Outer.read(tmp_path / "bad.yaml")


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"plan\.yaml does not exist"):
        Plan.read(tmp_path / "plan.yaml")


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest_of({"a": 1, "b": [1, 2]}) == digest_of({"b": [1, 2], "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})


def test_documents_are_frozen() -> None:
    plan = Plan(
        spatial_dims=2, modality="other", shape=(64, 64), in_channels=1, intensity=Intensity(scheme="scaled"),
        augmentation=Augmentation(), batch_size=4,
    )  # fmt: skip
    with pytest.raises(ValueError, match="frozen"):
        plan.batch_size = 8  # type: ignore[misc]
