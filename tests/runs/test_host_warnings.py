from __future__ import annotations

import pickle
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from medres.runs.host_warnings import ignored_warnings, shown_warnings
from medres.runs.parallel import map_in_threads


def _warn(_: object = None) -> None:
    warnings.warn("old", DeprecationWarning, stacklevel=1)


def _warn_elsewhere() -> None:
    warnings.warn("old", DeprecationWarning, stacklevel=1)


def _in_another_thread(work: Callable[[], None]) -> BaseException | None:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).exception()


@pytest.mark.filterwarnings("error")
def test_errors_become_visible_in_medres_threads_only() -> None:
    before = list(warnings.filters)
    with pytest.raises(DeprecationWarning):
        _warn()
    with shown_warnings():
        _warn()
        with shown_warnings():
            _warn()
        assert list(map_in_threads(_warn, [1, 2])) == [None, None]
        assert isinstance(_in_another_thread(_warn_elsewhere), DeprecationWarning)
        pickle.loads(pickle.dumps(warnings.filters))  # as joblib does
    assert warnings.filters == before
    with pytest.raises(DeprecationWarning):
        _warn()


@pytest.mark.filterwarnings("error")
def test_a_filter_that_names_a_module_stays_in_force() -> None:
    warnings.filterwarnings("error", module=__name__)
    with pytest.raises(DeprecationWarning), shown_warnings():
        _warn()


@pytest.mark.filterwarnings("error")
def test_what_the_host_ignores_stays_silent() -> None:
    warnings.simplefilter("ignore", DeprecationWarning)
    with warnings.catch_warnings(record=True) as heard, shown_warnings():
        _warn()
    assert heard == []


@pytest.mark.filterwarnings("error")
def test_only_the_kind_that_was_named_is_ignored_and_in_this_thread_only() -> None:
    with ignored_warnings(DeprecationWarning, message="ol"):
        _warn()
        assert isinstance(_in_another_thread(_warn), DeprecationWarning)
        with pytest.raises(UserWarning):
            warnings.warn("old", UserWarning, stacklevel=1)
        with pytest.raises(DeprecationWarning):
            warnings.warn("another", DeprecationWarning, stacklevel=1)


@pytest.mark.filterwarnings("error")
def test_a_filter_that_a_host_puts_back_later_does_nothing() -> None:
    block = ignored_warnings(DeprecationWarning)
    block.__enter__()
    of_host = warnings.catch_warnings()
    of_host.__enter__()
    block.__exit__(None, None, None)
    of_host.__exit__(None, None, None)
    with pytest.raises(DeprecationWarning):
        _warn()
    with ignored_warnings(UserWarning):
        pass
    assert not [one for one in warnings.filters if "_OneThread" in str(one[3])]


def test_blocks_that_overlap_between_threads_leave_the_filters_as_they_were() -> None:
    before = list(warnings.filters)

    def work() -> None:
        for _ in range(200):
            with shown_warnings(), ignored_warnings(UserWarning):
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before
