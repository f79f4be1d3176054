from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from medres.errors import TrackingError
from medres.tracking.reach import require_reachable, without_password
from tests.figures import RecordProperty
from tests.tracking.faults import free_port

PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "all_proxy", "ALL_PROXY")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


@contextmanager
def listener(*, answer: bytes | None = None) -> Iterator[int]:
    """Somebody who takes connections and answers with these bytes, or never."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(8)
        held = []

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    held.append(connection)
                    if answer is not None:
                        connection.recv(1000)
                        connection.sendall(answer)
                        connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_never_answers_is_told_within_five_seconds(scheme: str, record_property: RecordProperty) -> None:
    with listener() as port:
        started = time.monotonic()
        with pytest.raises(TrackingError, match="timed out"):
            require_reachable(f"{scheme}://127.0.0.1:{port}")
        seconds = time.monotonic() - started
    record_property("figure", f"silent {scheme} server: told after {seconds:.1f} s")
    assert seconds < 5


@pytest.mark.parametrize(
    ("scheme", "answer"),
    [("http", b"HTTP/1.1 401 Unauthorized\r\n\r\n"), ("https", b"this is not TLS at all"), ("postgresql", None)],
)
def test_any_answer_counts(scheme: str, answer: bytes | None) -> None:
    with listener(answer=answer) as port:
        require_reachable(f"{scheme}://127.0.0.1:{port}/path")


def test_a_server_with_a_certificate_of_its_own_counts(tmp_path: Path) -> None:
    import ssl

    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=hospital",
               "-keyout", str(key), "-out", str(certificate)]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(1)

        def serve() -> None:
            with context.wrap_socket(server.accept()[0], server_side=True) as connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        require_reachable(f"https://127.0.0.1:{server.getsockname()[1]}")
        thread.join(10)


@pytest.mark.parametrize("scheme", ["http", "https", "postgresql+psycopg2"])
def test_a_port_where_nobody_listens_is_told_at_once(scheme: str) -> None:
    started = time.monotonic()
    with pytest.raises(TrackingError, match="Connection refused"):
        require_reachable(f"{scheme}://127.0.0.1:{free_port()}")
    assert time.monotonic() - started < 2


def test_a_server_that_hangs_up_is_told() -> None:
    with listener(answer=b"") as port, pytest.raises(TrackingError, match="does not work"):
        require_reachable(f"http://127.0.0.1:{port}")


def test_a_host_that_does_not_exist_is_told() -> None:
    with pytest.raises(TrackingError, match="does not work"):
        require_reachable("http://mlflow.invalid:5000")


def _answer_late(*arguments: object, **options: object) -> None:
    time.sleep(8)
    raise socket.gaierror("nobody waits for this any more")


def test_a_name_server_that_never_answers_is_told_within_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", _answer_late)
    started = time.monotonic()
    with pytest.raises(TrackingError, match="no answer within 4 seconds"):
        require_reachable("http://mlflow.hospital.org:5000")
    assert time.monotonic() - started < 5


def test_where_the_network_has_a_proxy_that_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with listener() as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        require_reachable("http://mlflow.invalid:5000")  # a name that only the proxy knows
        monkeypatch.setenv("no_proxy", "mlflow.invalid")
        with pytest.raises(TrackingError):
            require_reachable("http://mlflow.invalid:5000")


def test_a_file_needs_no_server(tmp_path: Path) -> None:
    require_reachable(f"sqlite:///{tmp_path}/mlflow.db")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://me:secret@host:8080/path?x=1", "https://host:8080/path?x=1"),
        ("http://host:5000", "http://host:5000"),
        ("postgresql+psycopg2://me:p@ss@host/db", "postgresql+psycopg2://host/db"),
        ("sqlite:////a@b/mlflow.db", "sqlite:////a@b/mlflow.db"),
    ],
)
def test_passwords_are_not_shown(uri: str, shown: str) -> None:
    assert without_password(uri) == shown
