"""The Hugging Face hub: asked once, briefly; a machine without network learns it in seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from medres.errors import WeightsError
from medres.runs.host_warnings import THREAD_PREFIX

#: How long the hub may take to answer at all. Its own client would try six times, for 23 seconds and more.
PATIENCE_S = 4.0


class NotFetchedError(Exception):
    """A file could not be had from the hub; the message says how it failed."""


def fetch(repo_id: str, filename: str, *, revision: str | None = None) -> Path:
    """Return a file of a repository: from the hub's cache on this machine, or else downloaded into it.

    Args:
        repo_id: ``organisation/name``.
        filename: Inside of the repository.
        revision: Branch, tag or commit; None is the main branch.

    Raises:
        NotFetchedError: It is not in the cache, and the hub does not answer or the download fails.
        FileNotFoundError: The repository has no such file.
        WeightsError: There is no such repository, or it is gated.
    """
    cached = huggingface_hub.try_to_load_from_cache(repo_id, filename, revision=revision)
    if isinstance(cached, str):
        return Path(cached)
    if cached is not None:  # the cache knows that the repository has no such file
        raise FileNotFoundError(f"{repo_id} has no file {filename}")
    try:
        _knock(file_url(repo_id, filename, revision=revision))
        return Path(huggingface_hub.hf_hub_download(repo_id, filename, revision=revision))
    except Exception as error:  # those of the hub, of its HTTP library and of the disk have no common base
        raise _explained(error, repo_id, filename) from None


def file_url(repo_id: str, filename: str, *, revision: str | None = None) -> str:
    """Return where a browser finds a file of a repository.

    Example:
        >>> file_url("timm/resnet50.a1_in1k", "model.safetensors")
        'https://huggingface.co/timm/resnet50.a1_in1k/resolve/main/model.safetensors'
    """
    return str(huggingface_hub.hf_hub_url(repo_id, filename, revision=revision))


def _knock(url: str) -> None:
    answer = _within(PATIENCE_S, lambda: huggingface_hub.get_hf_file_metadata(url, timeout=PATIENCE_S))
    if answer is None:
        raise NotFetchedError(f"no answer within {PATIENCE_S:g} s")
    # a file that is not there is left to the download, which keeps this in the cache
    if isinstance(answer, Exception) and not isinstance(answer, EntryNotFoundError):
        raise answer


def _within(seconds: float, call: Callable[[], Any]) -> Any:
    """Return what ``call`` returns or raises, None when it takes longer.

    In a thread, because no timeout of the network libraries bounds the lookup of a host name.
    """
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append(call())
        except Exception as error:  # handed on to the caller, whatever it is
            answers.append(error)

    thread = threading.Thread(target=run, name=f"{THREAD_PREFIX}-hub", daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else None


def _explained(error: Exception, repo_id: str, filename: str) -> Exception:
    if isinstance(error, GatedRepoError):
        way_out = "Accept its terms there, then log in with `hf auth login`."
        return WeightsError(f"The hub repository {repo_id} is gated.", fix=way_out)
    if isinstance(error, RepositoryNotFoundError):
        return WeightsError(f"The hub has no repository {repo_id}, or it is private.", fix="Check its name.")
    # the hub's own word for "not on this machine, and not reached" is a kind of "the repository has no such file"
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return FileNotFoundError(f"{repo_id} has no file {filename}")
    return NotFetchedError((str(error).strip().splitlines() or [type(error).__name__])[0])
