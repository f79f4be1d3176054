"""pydicom's settings, log and warnings belong to the host: medres' reading changes them for its own threads only."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
import threading
import time
import warnings

import pydicom
import pytest

from medres.data.readers.dicom import read_series
from medres.data.readers.dicom.headers import read_header
from medres.data.readers.dicom.quiet import quietly
from medres.data.readers.rules import ReadingRules
from tests.data.readers.dicom.making import dataset, save, stack

RULES = ReadingRules()
CONFIG = pydicom.config


@pytest.fixture
def odd(tmp_path):
    """A file with values that pydicom warns of, and refuses where its host wants that."""
    path = save(dataset(stack(1)[0]), tmp_path / "odd.dcm")
    content = path.read_bytes()
    for told, wrong in ((b"Nobody^Ann", b"Nobo\xff\xfeAnn\\"), (b"1.2.3.1\0", b"1.2.x.1\0")):
        assert told in content
        content = content.replace(told, wrong)
    path.write_bytes(content)
    return path


def test_the_host_keeps_its_settings_in_all_threads(odd, monkeypatch):
    monkeypatch.setattr(CONFIG.settings, "reading_validation_mode", CONFIG.RAISE)
    stop, outcomes, failures = threading.Event(), {"host": 0, "medres": 0}, []

    def host():
        while not stop.is_set():
            try:
                _ = pydicom.dcmread(odd).StudyInstanceUID
                failures.append("the host's reading was lenient")
            except ValueError:
                outcomes["host"] += 1

    def medres():
        while not stop.is_set():
            try:
                read_series([odd], rules=RULES)
                outcomes["medres"] += 1
            except Exception as error:
                failures.append(repr(error))

    threads = [threading.Thread(target=work) for work in (host, medres) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert min(outcomes.values()) > 10
    assert CONFIG.settings.reading_validation_mode == CONFIG.RAISE


def test_settings_can_be_set_while_medres_reads(monkeypatch):
    monkeypatch.setattr(CONFIG.settings, "reading_validation_mode", CONFIG.WARN)
    with quietly():
        assert CONFIG.settings.reading_validation_mode == CONFIG.IGNORE
        CONFIG.settings.reading_validation_mode = CONFIG.RAISE
        with quietly():
            pass
        assert CONFIG.settings.reading_validation_mode == CONFIG.IGNORE
    assert CONFIG.settings.reading_validation_mode == CONFIG.RAISE


def test_an_error_ends_the_quiet():
    with pytest.raises(ZeroDivisionError), quietly():
        raise ZeroDivisionError
    assert CONFIG.settings.reading_validation_mode == CONFIG.WARN


def test_the_host_hears_what_pydicom_says_to_it(odd, caplog):
    read_series([odd], rules=RULES)
    assert caplog.text == ""
    with pytest.warns(UserWarning, match="Invalid value for VR UI"):
        _ = pydicom.dcmread(odd).StudyInstanceUID
    assert "Invalid value for VR UI" in caplog.text


def test_levels_and_filters_of_the_host_are_left_alone(odd):
    loggers = [logging.getLogger(name) for name in ("pydicom", "pylibjpeg", "openjpeg")]
    before = [logger.level for logger in loggers]
    read_series([odd], rules=RULES)
    assert [logger.level for logger in loggers] == before
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_series([odd], rules=RULES)
        warnings.warn("of the host", stacklevel=1)
        for _ in range(20):
            read_header(odd)
        num_filters = len(warnings.filters)
        read_header(odd)
        assert len(warnings.filters) == num_filters
    assert [str(one.message) for one in caught] == ["of the host"]
    # joblib hands the filters to its workers in this way; what is unpickled was pickled on this line
    assert len(pickle.loads(pickle.dumps(warnings.filters))) == len(warnings.filters)


@pytest.mark.filterwarnings("error")
def test_a_host_that_makes_errors_of_warnings_gets_the_same_scan(odd, tmp_path):
    expected = read_series([odd], rules=RULES)
    long = odd.read_bytes() + b"\xfc\xff\xfc\xffOB\0\0\4\0\0\0abcd"
    (tmp_path / "long.dcm").write_bytes(long)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_series([tmp_path / "long.dcm"], rules=RULES)
    assert found.content_hash == expected.content_hash


def test_a_reading_leaves_no_trace_in_a_fresh_process(odd):
    code = f"""
import logging, warnings
from pathlib import Path
import pydicom
def state():
    mode = pydicom.config.settings.reading_validation_mode
    return mode, {{name: logging.getLogger(name).level for name in ("pydicom", "pylibjpeg")}}
before = state()
from medres.data.readers import read_scan
read_scan(Path({str(odd)!r}))
assert state() == before, (before, state())
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    pydicom.dcmread({str(odd)!r}).StudyInstanceUID
print(len(caught))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("1\n", "")
