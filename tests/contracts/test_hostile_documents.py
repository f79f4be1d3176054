"""Every reader of a document against every hostile document: one refusal, or what the reader says it does instead."""

from __future__ import annotations

import csv
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medres.config import DataConfig, FinetuneConfig
from medres.data.checks.recorded import read_record
from medres.data.findings import read_findings
from medres.data.readers.rules import ReadingRules
from medres.data.sources.data_list import is_data_list, read_data_list
from medres.data.sources.delimited import read_table
from medres.data.sources.draft import Options
from medres.data.survey_memory import SurveyMemory
from medres.deployment.integrity import read_manifest
from medres.deployment.manifest import TrainingHashes
from medres.errors import MedresError
from medres.finetuning.checkpoints import Checkpoint
from medres.finetuning.recipes import read_recipe
from medres.models.checkpoints import read_checkpoint
from medres.models.input_statistics import read_config
from medres.models.trained import read_trained
from medres.planning.fingerprint import Fingerprint
from medres.planning.plan import Plan
from medres.preprocessing.segments import read_index
from medres.reporting.comparison.recorded import read_run
from medres.runs.events import read_events
from medres.runs.pseudonyms import load_pseudonyms
from medres.workflows.job import RunIdentity

DEEP = 50_000

JSON = {
    "deep-lists": b"[" * DEEP,
    "deep-lists-closed": b"[" * DEEP + b"]" * DEEP,
    "deep-mappings": b'{"a":' * DEEP,
    "deep-below-python's-limit": b'{"format": 1, "training": ' + b"[" * 300 + b"]" * 300 + b"}",
    "long-number": b'{"format": 1, "seed": ' + b"9" * 100_000 + b"}",
    "large-exponent": b'{"format": 1, "seed": 1e99999}',
    "twice": b'{"format": 1, "format": 1}',
    "nul": b'{"format": 1, "data": "a\\u0000b", "training": [{"image": "a\\u0000b", "label": "x"}]}',
    "surrogate": b'{"format": 1, "data": "\\ud800", "training": [{"image": "\\ud800", "label": "x"}]}',
    "not-utf8": b'{"format": "\xff\xfe"}',
    "list": b"[1, 2]",
    "number": b"7",
    "null": b"null",
    "empty": b"",
    "cut": b'{"format": 1, "members": [{"fol',
    "switches": b'{"format": true, "seed": true, "members": true, "files": false, "scans": {"a": true}}',
    "huge": b'{"format": 1, "fold": 99999999999999999999, "shape": [1000000000000], "members": [{"fold": 1e300}]}',
}

LAUGHS = b"a0: &a0 [x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 12)
)

YAML = JSON | {
    "aliases": LAUGHS,
    "itself": b"&a [*a]",
    "python": b"a: !!python/object/apply:os.system [exit 1]",
    "binary": b"a: !!binary _",
    "tag": b"a: !!int abc",
    "date": b"name: 2024-13-45",
    "deep-blocks": b"- " * DEEP + b"a",
    "deep-keys": b"? " * DEEP + b"a",
    "control": b"a: \x07",
    "unhashable": b"{[1]: 2}",
    "merge": b"a: &a {b: 1}\nc: {<<: *a, <<: 3}",
    "sixty": b"seed: 99999999:59:59",
    "infinite": b"seed: .inf",
    "tabs": b"a:\n\t- b",
}

TABLE = {
    "wide-cell": b"path,label\n" + b"a" * 200_000 + b",b\n",
    "wide-header": b"a" * 200_000 + b",label\nx,y\n",
    "nul": b"path,label\na\x00.png,x\nb.png,y\n",
    "delimiter": b'sep="\npath"label\na"b\n',
    "return": b"sep=\r\r\npath,label\na,b\n",
    "quote": b'path,label\n"a,b\n' + b"x,y\n" * 1000,
    "utf16": b"\xff\xfea\x00,\x00b",
    "columns": b"," * 100_000 + b"\n" + b"," * 100_000,
    "empty": b"",
}


def _safetensors(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + bytes(64)


TENSORS = {
    "deep": _safetensors(b'{"a":' * DEEP),
    "shape": _safetensors(b'{"a": {"dtype": "F32", "shape": [99999999999, 99999999999], "data_offsets": [0, 64]}}'),
    "negative": _safetensors(b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 64]}}'),
    "offsets": _safetensors(b'{"a": {"dtype": "F32", "shape": [16], "data_offsets": [0, 99999999999999]}}'),
    "length": struct.pack("<Q", 2**63) + b"{}",
    "header": _safetensors(
        b'{"__metadata__": {"medres": "' + b"[" * 9000 + b'"}, '
        b'"a": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}}'
    ),
}  # fmt: skip


#: By what it reads: the file's name, the reader, the documents. All of them refuse.
REFUSING: dict[str, tuple[str, Callable[[Path], Any], dict[str, bytes]]] = {
    "configuration": ("c.yaml", lambda path: FinetuneConfig.build(file=path, arch="resnet18"), YAML),
    "configuration-json": ("c.json", lambda path: DataConfig.build(file=path), JSON),
    "assignment": ("t", lambda path: _assigned(path.read_bytes()), YAML),
    "recipe": ("r.yaml", read_recipe, YAML),
    "plan": ("plan.yaml", Plan.read, YAML),
    "plan-json": ("plan.json", Plan.read, JSON),
    "findings": ("findings.json", read_findings, JSON),
    "fingerprint": ("fingerprint.json", Fingerprint.read, JSON),
    "training-hashes": ("training_hashes.json", TrainingHashes.read, JSON),
    "manifest": ("bundle.json", lambda path: read_manifest(path.parent), JSON),
    "weights-of-a-bundle": (
        "bundle.json",
        lambda path: read_trained(path.parent, fold=None, arch="resnet18", spatial_dims=2),
        JSON,
    ),
    "salt": ("pseudonyms.json", load_pseudonyms, JSON),
    "identity": ("identity.json", RunIdentity.read, JSON),
    "run": ("metrics.json", lambda path: read_run(path.parent), JSON),
    "data-list": ("list.json", lambda path: read_data_list(path, Options()), JSON),
    "record": ("scans.csv", read_record, TABLE),
    "checkpoint": ("last.ckpt", Checkpoint.read, TENSORS),
    "weights": ("w.safetensors", read_checkpoint, TENSORS),
}  # fmt: skip

#: Nothing is wrong with them for this reader: no wish for a shape, a text of a header that nobody asked for.
FINE = {("assignment", "null"), ("assignment", "empty"), ("assignment", "list"), ("weights", "header")}

#: What is damaged counts as not there, as their docstrings say.
FORGIVING: dict[str, tuple[str, Callable[[Path], Any], dict[str, bytes]]] = {
    "events": ("events.jsonl", read_events, JSON),
    "memory": ("survey.json", lambda path: SurveyMemory.read(path, rules=ReadingRules()).entries, JSON),
    "cache-index": (
        "index.json",
        lambda path: read_index(path.parent, key="", fits=lambda shape: True, dtype=np.dtype(np.int16)),
        JSON,
    ),
    "hub-config": ("config.json", read_config, JSON),
    "is-data-list": ("list.json", is_data_list, {name: content for name, content in JSON.items() if name != "list"}),
}


def _assigned(value: bytes) -> FinetuneConfig:
    text = value.decode("utf-8", errors="surrogateescape")
    return FinetuneConfig.build(data="scans", arch="resnet18", assignments=(f"planning.shape={text}",))


def _pairs(readers: dict[str, Any]) -> list[tuple[str, str]]:
    return [(reader, document) for reader, (_, _, documents) in readers.items() for document in documents]


@pytest.mark.parametrize(("reader", "document"), _pairs(REFUSING))
def test_refused_in_one_short_message(reader: str, document: str, tmp_path: Path) -> None:
    name, read, documents = REFUSING[reader]
    (tmp_path / name).write_bytes(documents[document])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if (reader, document) in FINE:
        read(tmp_path / name)
        return
    with pytest.raises(MedresError) as caught:
        read(tmp_path / name)
    said = str(caught.value).replace(str(tmp_path), "")
    assert "\n" not in said
    assert len(said) < 2_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.mark.parametrize(("reader", "document"), _pairs(FORGIVING))
def test_what_is_damaged_is_not_there(reader: str, document: str, tmp_path: Path) -> None:
    name, read, documents = FORGIVING[reader]
    (tmp_path / name).write_bytes(documents[document])
    assert read(tmp_path / name) is not None


@pytest.mark.parametrize("document", TABLE)
def test_tables_are_read_or_refused(document: str, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(TABLE[document])
    said = ""
    try:
        assert read_table(tmp_path / "labels.csv").rows
    except MedresError as error:
        said = str(error)
    assert len(said) < 2_000
    assert bool(said) == (document not in ("nul", "delimiter", "return")), said


def test_no_reader_was_forgotten() -> None:
    """Whoever adds a reader of JSON or YAML uses the loader with limits, or stands here with the reason."""
    own = {
        "medres/runs/plain_data.py": "the loader itself",
        "medres/preprocessing/segments.py": "pydantic's parser, which has a limit of 200 levels",
    }
    package = Path(__file__).parents[2] / "medres"
    words = ("json.load", "yaml.safe_load", "yaml.load", "model_validate_json", "tomllib")
    found = {
        path.relative_to(package.parent).as_posix()
        for path in package.rglob("*.py")
        if any(word in path.read_text() for word in words)
    }
    assert found == set(own)
    assert len(_pairs(REFUSING)) + len(_pairs(FORGIVING)) > 300
    assert csv.field_size_limit() == 131_072, "a limit of the whole process is not ours to change"
