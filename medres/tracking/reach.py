"""Whether anybody answers at the address of a tracking server, decided in seconds."""

from __future__ import annotations

import socket
import ssl
import threading
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from medres.errors import TrackingError
from medres.runs.host_warnings import THREAD_PREFIX

#: A server that has not taken a connection and said a word within this time counts as unreachable.
REACH_SECONDS = 4.0

DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
WEB_PORTS = {"http": 80, "https": 443}


def require_reachable(uri: str) -> None:
    """Prove within about `REACH_SECONDS` that somebody answers at the address; an sqlite file always does.

    Raises:
        TrackingError: Nobody does.
    """
    if reason := why_unreachable(uri):
        raise unreachable(uri, reason)


def why_unreachable(uri: str) -> str:
    """Return why nobody answers at an address, within about `REACH_SECONDS`; nothing where somebody does."""
    parts = urlsplit(uri)
    if parts.scheme == "sqlite" or parts.hostname is None:
        return ""
    errors: list[OSError] = []
    # in a thread: the look-up of a name takes as long as the network's name server likes, and cannot be timed
    thread = threading.Thread(target=_try_to_knock, args=(parts, errors), name=f"{THREAD_PREFIX}-reach", daemon=True)
    thread.start()
    thread.join(REACH_SECONDS)
    if thread.is_alive():
        return f"no answer within {REACH_SECONDS:g} seconds"
    return (str(errors[0]) or type(errors[0]).__name__) if errors else ""


def unreachable(uri: str, reason: str) -> TrackingError:
    """Return the error of an address that does not work."""
    return TrackingError(
        f"MLflow at {without_password(uri)} does not work: {reason}.",
        fix="Check the address (--tracking-uri, MLFLOW_TRACKING_URI) and the server.",
    )


def without_password(uri: str) -> str:
    """Return the address without user name and password, for files and messages.

    Example:
        >>> without_password("https://me:secret@mlflow.hospital.org/api")
        'https://mlflow.hospital.org/api'
    """
    scheme, separator, rest = uri.partition("://")
    host, slash, path = rest.partition("/")  # not parsed: an address that cannot be is shown as well
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}" if separator else uri


def _try_to_knock(parts: SplitResult, errors: list[OSError]) -> None:
    try:
        _knock(parts)
    except OSError as error:
        errors.append(error)


def _knock(parts: SplitResult) -> None:
    """Connect and, on a web server, wait for the first byte of an answer: some accept and stay silent."""
    host, port, is_proxy = _door(parts)
    with socket.create_connection((host, port), timeout=REACH_SECONDS / 2.5) as connection:
        connection.settimeout(REACH_SECONDS / 2.5)
        if is_proxy or parts.scheme not in WEB_PORTS:
            return  # what proxies and databases want to hear is left to their own clients
        try:
            with _encrypted(connection, host) if parts.scheme == "https" else connection as channel:
                channel.sendall(f"GET /health HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
                if not channel.recv(1):
                    raise ConnectionError("it closed the connection without an answer")
        except ssl.SSLError:
            return  # it answered; whether its certificate is accepted is for MLflow's own settings to say


def _door(parts: SplitResult) -> tuple[str, int, bool]:
    """Return host and port to connect to, and whether that is the proxy of the network."""
    host = parts.hostname or ""
    proxy = None if proxy_bypass(host) else getproxies().get(parts.scheme)
    if proxy and parts.scheme in WEB_PORTS:
        way = urlsplit(proxy if "//" in proxy else f"//{proxy}")
        return way.hostname or "", way.port or WEB_PORTS["http"], True
    port = parts.port or WEB_PORTS.get(parts.scheme) or DATABASE_PORTS[parts.scheme.split("+")[0]]
    return host, port, False


def _encrypted(connection: socket.socket, host: str) -> ssl.SSLSocket:
    # nothing secret is sent: hospitals sign their own certificates, and MLflow is told about them by its settings
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(connection, server_hostname=host)
