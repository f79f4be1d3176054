"""The hub's client against a small hub of our own on loopback."""

from __future__ import annotations

import hashlib
import http.server
import json
import socket
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)

from medres.errors import WeightsError
from medres.models import hub
from medres.models.weights import PretrainedWeights, resolve_weights
from medres.runs.documents import sha256_of
from tests.models.nets import count_connections, point_hub_to, random_net, save_net


class _Hub(http.server.BaseHTTPRequestHandler):
    def __init__(self, *arguments: object, files: dict[str, bytes]) -> None:
        self.files = files
        super().__init__(*arguments)  # type: ignore[arg-type]

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        content = self.files.get(self.path)
        self.send_response(200 if content is not None else 404)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        content = content or b""
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.end_headers()
        if with_body:
            self.wfile.write(content)


NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEDRES_WEIGHTS_DIR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def weights_file(tmp_path: Path) -> Path:
    return save_net(random_net("test_resnet"), tmp_path / "model.safetensors")


@pytest.fixture
def own_hub(weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    content = weights_file.read_bytes()
    config = {"pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "input_size": [3, 96, 96]}}
    files = {
        "/timm/test_resnet.r160_in1k/resolve/main/model.safetensors": content,
        "/hospital/nodules/resolve/main/pytorch_model.bin": content,
        "/hospital/nodules/resolve/main/config.json": json.dumps(config).encode(),
    }
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Hub, files=files))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    point_hub_to(f"http://127.0.0.1:{server.server_port}", tmp_path / "cache", monkeypatch)
    yield
    server.shutdown()
    server.server_close()


def _resolve(weights: str) -> PretrainedWeights:
    found = resolve_weights(weights, arch="test_resnet", spatial_dims=2)
    assert found is not None
    return found


@pytest.mark.usefixtures("own_hub")
@pytest.mark.parametrize(
    ("weights", "source", "mean", "input_size"),
    [
        ("imagenet", "test_resnet.r160_in1k", (0.5, 0.5, 0.5), 160),
        ("hf-hub:hospital/nodules", "hf-hub:hospital/nodules", (0.1, 0.2, 0.3), 96),
    ],
)
def test_weights_are_downloaded_once_and_then_found_without_network(
    weights: str, source: str, mean: tuple[float, ...], input_size: int, weights_file: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    first = _resolve(weights)
    assert (first.source, first.mean, first.input_size) == (source, mean, input_size)
    assert first.sha256 == sha256_of(weights_file)
    assert first.notes == ()
    point_hub_to(NOBODY, tmp_path / "cache", monkeypatch)
    again = _resolve(weights)
    assert (again.source, again.sha256, again.mean) == (first.source, first.sha256, first.mean)


@pytest.mark.usefixtures("own_hub")
def test_a_repository_that_has_no_weights() -> None:
    with pytest.raises(WeightsError, match=r"hospital/other has neither model\.safetensors nor pytorch_model\.bin"):
        _resolve("hf-hub:hospital/other")


def test_a_hub_that_accepts_and_never_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        point_hub_to(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path, monkeypatch)
        monkeypatch.setattr(hub, "PATIENCE_S", 0.5)
        tried = count_connections(monkeypatch)
        with pytest.raises(WeightsError, match=r"could not be fetched \(.*(no answer|time).*\)"):
            _resolve("imagenet")
        assert tried in ([0.5], [])  # none where a busy machine has not even begun when patience ends


def test_a_host_name_that_is_never_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No timeout of the network libraries bounds the lookup: it is left to itself when patience ends."""
    given_up, found = threading.Event(), threading.Event()

    def look_up(*_: object, **__: object) -> None:
        if not given_up.wait(20):
            found.set()
        raise socket.gaierror("told so")

    point_hub_to(NOBODY, tmp_path, monkeypatch)
    monkeypatch.setattr(hub, "PATIENCE_S", 0.05)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(hub.NotFetchedError, match=r"no answer within 0\.05 s"):
        hub.fetch("timm/x", "model.safetensors")
    assert not found.is_set()
    given_up.set()


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (GatedRepoError, WeightsError, "gated"),
        (RepositoryNotFoundError, WeightsError, "has no repository timm/x"),
        (RemoteEntryNotFoundError, FileNotFoundError, "timm/x has no file"),
        (LocalEntryNotFoundError, hub.NotFetchedError, "told so"),
        (OSError, hub.NotFetchedError, "told so"),
    ],
)
def test_every_answer_is_explained(
    error: type[Exception], kind: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    point_hub_to(NOBODY, tmp_path, monkeypatch)

    def fail(*_: object, **__: object) -> None:
        raise error.__new__(error, "told so") if issubclass(error, HfHubHTTPError) else error("told so")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda *_, **__: "reached")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(kind, match=words):
        hub.fetch("timm/x", "model.safetensors")
