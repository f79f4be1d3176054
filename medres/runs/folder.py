"""The run folder and its layout (docs/reference/run-folder.md)."""

from __future__ import annotations

import re
import shlex
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from medres.errors import OutputError
from medres.runs.atomic import explained_os_errors, require_writable
from medres.runs.events import EventLog, read_events
from medres.runs.plain_data import PlainDataError, read_json
from medres.runs.pseudonyms import Pseudonyms, load_pseudonyms

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class RunFolder:
    """The paths of one run. Nothing is read or written by the object itself.

    Args:
        path: ``<output>/<name>``.
    """

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    # local only: may hold paths and patient ids
    @property
    def identity(self) -> Path:
        """What the run is, written when it is ready to train: a run that goes on must be the same."""
        return self.path / "identity.json"

    @property
    def config(self) -> Path:
        """The resolved configuration, versions and hardware."""
        return self.path / "config.yaml"

    @property
    def scans(self) -> Path:
        """The scan table."""
        return self.path / "scans.csv"

    @property
    def findings(self) -> Path:
        """What the check of the data found."""
        return self.path / "findings.json"

    @property
    def salt(self) -> Path:
        """The salt of the pseudonyms; whoever holds it can link them to patients."""
        return self.path / "pseudonyms.json"

    @property
    def mapping(self) -> Path:
        """Which pseudonym stands for which sample, patient and unit."""
        return self.path / "pseudonyms.csv"

    # may leave the hospital: pseudonyms only
    @property
    def fingerprint(self) -> Path:
        """Aggregated statistics of the training scans."""
        return self.path / "fingerprint.json"

    @property
    def plan(self) -> Path:
        """What was decided, with a reason for each choice."""
        return self.path / "plan.yaml"

    @property
    def weights(self) -> Path:
        """Where each tensor of the network came from before training: the loading report."""
        return self.path / "weights.json"

    @property
    def folds(self) -> Path:
        """Sample pseudonyms and their folds."""
        return self.path / "folds.csv"

    @property
    def events(self) -> Path:
        """The event log."""
        return self.path / "events.jsonl"

    @property
    def predictions(self) -> Path:
        """Predictions of all scored samples."""
        return self.path / "predictions.csv"

    @property
    def metrics(self) -> Path:
        """Scores with intervals."""
        return self.path / "metrics.json"

    @property
    def report(self) -> Path:
        """The self-contained report."""
        return self.path / "report.html"

    @property
    def model(self) -> Path:
        """The bundle."""
        return self.path / "model"

    @property
    def resume_command(self) -> str:
        """What goes on with the run, to paste into a shell."""
        return f"medres finetune --resume {shlex.quote(str(self.path))}"

    def fold(self, index: int) -> Path:
        """Return the folder of one fold."""
        return self.path / f"fold_{index}"

    def event_log(self) -> EventLog:
        """Return the event log of the run."""
        return EventLog(self.events)

    def fold_events(self, index: int) -> Path:
        """Return the event log of a fold that is a job of its own."""
        return self.fold(index) / "events.jsonl"

    def pseudonyms(self) -> Pseudonyms:
        """Return the pseudonyms of the run; their salt is made on first use."""
        return load_pseudonyms(self.salt)


def read_metrics(folder: RunFolder) -> dict[str, Any]:
    """Return the document ``metrics.json`` of a finished run.

    Raises:
        OutputError: The folder holds no finished run, or the file is damaged.
    """
    try:
        document = read_json(folder.metrics)
    except FileNotFoundError:
        raise OutputError(
            f"{folder.path} holds no finished run: metrics.json is missing.",
            fix="Give the folder of a finished run, such as runs/NAME.",
        ) from None
    except PlainDataError as error:
        raise OutputError(f"{folder.metrics} is damaged: {error}.", fix="Restore the file.") from None
    if not isinstance(document, dict):
        raise OutputError(f"{folder.metrics} is damaged: it does not hold keys and values.", fix="Restore the file.")
    return document


def new_run_folder(output: Path, name: str) -> RunFolder:
    """Make ``<output>/<name>``, after `require_new_run`.

    Raises:
        OutputError: The name is unusable, the folder exists with content, or it cannot be written.
    """
    folder = require_new_run(output, name)
    with explained_os_errors(folder.path, option="--output"):
        folder.path.mkdir(parents=True, exist_ok=True)
    return folder


def require_new_run(output: Path, name: str) -> RunFolder:
    """Prove that a run can begin at ``<output>/<name>``. Nothing is made.

    Raises:
        OutputError: The name is unusable, the folder exists with content, or it cannot be written.
    """
    folder = RunFolder(output / require_run_name(name))
    require_writable(folder.path, option="--output")
    if folder.path.is_dir() and any(path.name != ".lock" for path in folder.path.iterdir()):  # a killed start left it
        raise _taken(folder)
    return folder


def unused_run_name(output: Path, name: str) -> str:
    """Return the name, or with a number where runs have it that began in the same second; its folder is made.

    Raises:
        OutputError: The folder cannot be made.
    """
    with explained_os_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            candidate = name if number == 1 else f"{name}-{number}"
            with suppress(FileExistsError):
                (output / candidate).mkdir()
                return candidate
    raise AssertionError("there is always a next number")


def is_finished(folder: RunFolder) -> bool:
    """Return whether a run has come to its end."""
    if not (folder.events.is_file() and folder.metrics.is_file() and folder.report.is_file()):
        return False
    last = [event for event in read_events(folder.events) if event["kind"] in ("run_started", "run_finished")]
    return bool(last) and last[-1].get("status") == "finished"


def require_run_name(name: str) -> str:
    """Return a run's name, which is that of its folder.

    Raises:
        OutputError: It is unusable.
    """
    if not _NAME.fullmatch(name):
        raise OutputError(
            f"The run name {name!r} is not usable as a folder name.",
            fix="Use at most 100 letters, digits, '.', '_' and '-', a letter or digit first: --name ct-nodules.",
        )
    return name


def _taken(folder: RunFolder) -> OutputError:
    if folder.config.is_file() and not is_finished(folder):
        return OutputError(
            f"{folder.path} already holds a run, which is not finished.",
            fix=f"Go on with it: {folder.resume_command}. Or give another --name or --output; nothing was overwritten.",
        )
    return OutputError(
        f"{folder.path} already holds a run.", fix="Give another --name or --output; nothing was overwritten."
    )
