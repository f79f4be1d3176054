"""Every address is taken as it is meant, or refused in one sentence that says what it is and what to type."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from medres.errors import TrackingError
from medres.tracking.address import resolve_tracking_uri, usable_uri

SERVER = "a server that medres does not support"
FOLDER = "is a folder"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("databricks", SERVER), ("databricks://profile", SERVER), ("databricks-uc://x", SERVER), ("uc:prod", SERVER),
        ("arn:aws:sagemaker:eu-west-1:1:mlflow", "of AWS"), ("s3://bucket/runs", "a place for files"),
        ("./mlruns", FOLDER), ("mlruns", FOLDER), ("/data/mlruns", FOLDER), ("file:", FOLDER),
        ("file:///data/mlruns", FOLDER), ("file:mlruns", FOLDER), ("C:\\mlruns", FOLDER),
        ("htp://host:5000", r"unknown scheme.*Did you mean http://host:5000\?"),
        ("postgres://me:secret@host/db", r"unknown scheme.*Write postgresql://host/db\."),
        ("http:/host:5000", r"names no server.*Write http://host:5000\."), ("http://", "names no server"),
        ("http//host", r"lacks a colon.*Write http://host\."),
        ("localhost:5000", r"lacks its http://.*Write http://localhost:5000\."),
        ("http://host:99999", "Port out of range"), ("http://host:web", "cannot be read"), ("http://[::1", "IPv6"),
        ("postgresql://me:secret@host/db", "needs the Python package psycopg"), ("mysql+none://host/db", "mysql.none"),
        ("runs/mlflow.db", r"is a file.*Write sqlite:///runs/mlflow\.db\."), ("sqlite:x.db", "sqlite:///x.db"),
        ("sqlite://", "names no file"), ("sqlite:///:memory:", "names no file"), ("mongodb://host", "unknown scheme"),
        ("", "is empty"), ("  ", "is empty"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(TrackingError, match=said) as refused:
        usable_uri(text, origin="MLFLOW_TRACKING_URI")
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)
    assert refused.value.fix


@pytest.mark.parametrize("text", ["http://host:5000", "https://me:secret@host/api", " http://host ", "HTTP://Host"])
def test_servers_are_taken_as_they_are(text: str) -> None:
    assert usable_uri(text, origin="--tracking-uri") == text.strip()


def test_the_message_names_where_the_address_comes_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TrackingError, match="--tracking-uri"):
        resolve_tracking_uri(tmp_path, "mlruns")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mlruns")
    with pytest.raises(TrackingError, match="MLFLOW_TRACKING_URI"):
        resolve_tracking_uri(tmp_path)


def test_the_store_of_a_run_goes_before_the_folder_and_after_what_was_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve_tracking_uri(tmp_path, known="http://known") == "http://known"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment")
    assert resolve_tracking_uri(tmp_path, known="http://known") == "http://environment"
    assert resolve_tracking_uri(tmp_path, "http://given", known="http://known") == "http://given"


def test_an_address_is_refused_without_importing_mlflow() -> None:
    script = "import sys, medres.tracking.address, medres.tracking.experiments; print('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip() == "False"
