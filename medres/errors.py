"""One tree of exceptions: what was given, why it is refused, what to type instead.

::

    MedresError                 exit code 1: refused, with a message that a user can act on
    ├── UsageError              exit code 2: options that contradict each other
    ├── ConfigError             a key, a value or a document (config.yaml, plan.yaml) that is not valid
    ├── DataError               scans, labels, splits
    │   ├── UnreadableScanError one file that cannot be read as a scan
    │   └── NoLabelsError       scans of which nothing says a label
    ├── PlanError               a plan that does not fit its data or its network
    ├── ModelError              unknown or unsuitable architectures
    │   └── WeightsError        pretrained weights that are missing, unsafe or do not fit
    ├── TrainingError           a loss that is not finite, a stage that cannot run
    │   └── StoppedError        training that goes on once its reason is mended
    ├── OutputError             a folder that cannot be written, a disk that is full, a run that is in the way
    ├── StoppedError            work that was stopped half-way by a person or the system, and what is left of it
    ├── BundleError             a bundle that is damaged or fails its golden case
    └── TrackingError           an MLflow store or registry that does not answer
"""

from __future__ import annotations


class MedresError(Exception):
    """A refusal that its reader can act on.

    Args:
        problem: What was given and which rule it breaks, with file and value.
        fix: What to do or type instead.

    Example:
        >>> str(MedresError("2 folds need 2 patients a class; 'benign' has 1.", fix="Add scans of 'benign'."))
        "2 folds need 2 patients a class; 'benign' has 1. Add scans of 'benign'."
    """

    exit_code = 1

    def __init__(self, problem: str, *, fix: str = "") -> None:
        super().__init__(f"{problem} {fix}".strip())
        self.problem = problem
        self.fix = fix

    def add_advice(self, advice: str) -> None:
        """Say more of what to do, where more is known of what was going on."""
        self.fix = f"{self.fix} {advice}".strip()
        self.args = (f"{self.problem} {self.fix}".strip(),)


class UsageError(MedresError):
    """Options that contradict each other."""

    exit_code = 2


class ConfigError(MedresError):
    """A key, a value or a document that is not valid."""


class DataError(MedresError):
    """Scans, labels or splits that cannot be used as they are."""


class UnreadableScanError(DataError):
    """One scan that cannot be read.

    Args:
        problem: What is wrong with it.
        fix: What to do.
        code: Stable code of the finding, one of `medres.data.catalogue.KINDS`.

    Example:
        >>> UnreadableScanError("is truncated", fix="Copy it again.", code="truncated").code
        'truncated'
    """

    def __init__(self, problem: str, *, fix: str = "", code: str = "unreadable") -> None:
        super().__init__(problem, fix=fix)
        self.code = code


class NoLabelsError(DataError):
    """Scans without labels: nothing is wrong with them, they cannot be trained on yet."""


class PlanError(MedresError):
    """A plan that does not fit its data or its network."""


class ModelError(MedresError):
    """An unknown or unsuitable architecture."""


class WeightsError(ModelError):
    """Pretrained weights that are missing, unsafe or do not fit."""


class TrainingError(MedresError):
    """Training that cannot start or must stop."""


class StoppedError(TrainingError):
    """Training that had to stop, and goes on from where it was once the reason is mended."""


class OutputError(MedresError):
    """Output that cannot be written."""


class InterruptedPredictionError(MedresError):
    """Prediction that was stopped half-way.

    Args:
        problem: How far it came, and where that is.
        fix: How to go on.
        exit_code: Of the process: 130 after Ctrl-C, 143 after SIGTERM.
    """

    def __init__(self, problem: str, *, fix: str = "", exit_code: int) -> None:
        super().__init__(problem, fix=fix)
        self.exit_code = exit_code


class BundleError(MedresError):
    """A bundle that is damaged or fails its golden case."""


class TrackingError(MedresError):
    """An MLflow store or registry that does not answer."""
