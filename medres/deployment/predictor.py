"""`Predictor`: a bundle in use, with the preprocessing and the arithmetic that its scores were measured with."""

from __future__ import annotations

import copy
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from medres.data.findings import Finding
from medres.data.image import ScanImage
from medres.data.sample import read_sample
from medres.data.sources import list_scans
from medres.data.table import Scan, ScanTable
from medres.deployment.bundle import Bundle, load_bundle
from medres.deployment.foreign import OnMismatch, judge, parse_on_mismatch, withheld_finding
from medres.deployment.manifest import MANIFEST
from medres.deployment.members import LoadedMember
from medres.deployment.predictions import Predictions
from medres.errors import BundleError, DataError, MedresError, UnreadableScanError
from medres.finetuning.inference import compute_logits
from medres.finetuning.machine import choose_device
from medres.preprocessing.preprocessor import Preprocessor
from medres.runs.progress import Progress, Silent

Read = Callable[[], ScanImage]

#: Scans that are read ahead together: enough for the threads, few enough that decoded volumes fit into memory.
_SCANS_AT_A_TIME = 8
_MAX_THREADS = 4
#: On a CPU one scan at a time: larger batches gain up to 25 % there, but a scan's last digits then depend on its
#: neighbours (6e-7 in the logits). GPUs need the batch; `compute_logits` always fills it up to the same size.
_BATCH_SIZE = {"cpu": 1}
_GPU_BATCH_SIZE = 8


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One scan on its way: prepared and predicted, or refused."""

    prepared: npt.NDArray[Any] | None = None
    logits: npt.NDArray[np.float64] | None = None
    probabilities: npt.NDArray[np.float64] | None = None
    findings: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    error: MedresError | None = None


class Predictor:
    """Predict scans with all members of a bundle, or with one.

    Args:
        model: A bundle, the folder of one, or a run folder.
        member: The fold of the member to use alone; None: the mean of all members' calibrated probabilities.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        batch_size: Scans at a time; None: 1 on a CPU, 8 elsewhere.
        verify: Prove on loading that the bundle is whole and still gives its recorded answers.
        on_mismatch: What is done about a scan that is no input of this model (`medres.deployment.foreign`): ``warn``,
            ``withhold`` its decision, or ``refuse`` it.

    Raises:
        BundleError: There is no bundle, it is damaged, or it has no such member.
        ConfigError: The device is not there.
        UsageError: ``on_mismatch`` is none of the three.
    """

    def __init__(
        self,
        model: Path | str | Bundle,
        *,
        member: int | None = None,
        device: str = "cpu",
        batch_size: int | None = None,
        verify: bool = True,
        on_mismatch: OnMismatch = "withhold",
    ) -> None:
        self._on_mismatch = parse_on_mismatch(on_mismatch)
        self.device = choose_device(device)
        folds = None if member is None else [member]
        self.bundle = (
            model if isinstance(model, Bundle) else load_bundle(find_bundle(model), verify=verify, folds=folds)
        )
        self._members = self._choose(member)
        self._fold = "ensemble" if member is None else str(member)
        self._batch_size = batch_size or _BATCH_SIZE.get(self.device.type, _GPU_BATCH_SIZE)
        self._preprocessor = Preprocessor(self.bundle.plan)
        self._networks = [self._on_device(chosen.model) for chosen in self._members]
        self._lock = threading.Lock()  # a server asks from several threads; the arithmetic is set for the process

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of the probabilities."""
        return self.bundle.manifest.classes

    def predict(self, scans: ScanTable | Sequence[Path | str], *, progress: Progress | None = None) -> Predictions:
        """Predict files. One that cannot be used is told in its row; the others are predicted.

        Args:
            scans: A table, or paths of files and folders; models of several sequences or of a region of interest
                need the columns that say so, which only a table has.
            progress: Shows scans.

        Raises:
            DataError: A path does not exist, or there is no scan at all.
        """
        table = scans if isinstance(scans, ScanTable) else self._listed([Path(scan) for scan in scans])
        known = {} if isinstance(scans, ScanTable) else _by_sample(table.findings)
        reads = [self._read_of(scan, known.get(scan.sample_id, ())) for scan in table]
        files = tuple(str(scan.path) for scan in table)
        predictions = self._predict(reads, tuple(scan.sample_id for scan in table), files, progress or Silent())
        said = (
            tuple(f"{one.code}: {one.value}" for one in known.get(name, ()) if one.severity != "error")
            for name in predictions.sample_ids
        )
        both = (more + own for more, own in zip(said, predictions.findings, strict=True))
        return replace(predictions, findings=tuple(both))

    def _read_of(self, scan: Scan, findings: Sequence[Finding]) -> Read:
        """Return how to read a scan; what could not be told apart in its folder is refused as it is in training."""
        problem = next((finding for finding in findings if finding.severity == "error"), None)
        if problem is not None:
            return partial(_refused, problem)
        return partial(read_sample, scan, rules=self.bundle.plan.reading)

    def with_policy(self, on_mismatch: str) -> Predictor:
        """Return a predictor of the same networks that treats scans unlike the training scans in another way.

        Raises:
            UsageError: There is no such policy.
        """
        other = copy.copy(self)
        other._on_mismatch = parse_on_mismatch(on_mismatch)
        return other

    def predict_images(self, images: Sequence[ScanImage]) -> Predictions:
        """Predict scans that are in memory; their names are their numbers, from 0."""
        reads: list[Read] = [partial(_itself, image) for image in images]
        names = tuple(str(index) for index in range(len(images)))
        return self._predict(reads, names, ("",) * len(images), Silent())

    def _listed(self, paths: Sequence[Path]) -> ScanTable:
        rules = self.bundle.plan.reading
        return list_scans(paths, series=rules.series, sequences=rules.sequences)

    def _predict(
        self, reads: Sequence[Read], names: tuple[str, ...], files: tuple[str, ...], progress: Progress
    ) -> Predictions:
        rows = list(progress.track(self._rows(reads), description="predict", total=len(reads)))
        missing = np.full(len(self.classes), np.nan)
        probabilities = _stacked([missing if row.probabilities is None else row.probabilities for row in rows], missing)
        return Predictions(
            sample_ids=names, files=files, classes=self.classes, fold=self._fold, probabilities=probabilities,
            logits=_stacked([missing if row.logits is None else row.logits for row in rows], missing),
            decisions=self._decide(probabilities, withheld=[bool(row.withheld) for row in rows]),
            findings=tuple(row.findings for row in rows), withheld=tuple(row.withheld for row in rows),
            errors=tuple(row.error for row in rows),
        )  # fmt: skip

    def _rows(self, reads: Sequence[Read]) -> Iterator[_Row]:
        waiting = iter(reads)
        with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1)) as pool:
            while part := list(islice(waiting, max(_SCANS_AT_A_TIME, self._batch_size))):
                yield from self._answered(list(pool.map(self._prepared, part)))

    def _prepared(self, read: Read) -> _Row:
        findings: tuple[str, ...] = ()
        try:
            image = read()
            verdict = judge(image, self.bundle, on_mismatch=self._on_mismatch)
            findings = verdict.findings
            if verdict.error is not None:
                return _Row(error=verdict.error, findings=findings, withheld=verdict.withheld)
            prepared, _ = self._preprocessor.prepare(image)
        except MedresError as error:
            return _Row(error=error, findings=(_told(error), *findings))
        findings = (*withheld_finding(verdict.withheld), *findings)
        return _Row(prepared=prepared, findings=findings, withheld=verdict.withheld)

    def _answered(self, rows: Sequence[_Row]) -> list[_Row]:
        good = [row.prepared for row in rows if row.prepared is not None]
        if not good:
            return list(rows)
        logits, probabilities = self._ask_members(good)
        answers = iter(zip(logits, probabilities, strict=True))
        return [row if row.prepared is None else _with_answer(row, *next(answers)) for row in rows]

    def _ask_members(
        self, prepared: Sequence[npt.NDArray[Any]]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        with self._lock:
            raw = [self._logits(network, prepared) for network in self._networks]
        if self._fold != "ensemble":
            return self._members[0].calibrated_logits(raw[0]), self._members[0].probabilities(raw[0])
        each = [member.probabilities(logits) for member, logits in zip(self._members, raw, strict=True)]
        probabilities = np.mean(each, axis=0)
        return np.log(np.maximum(probabilities, np.finfo(np.float64).tiny)), probabilities

    def _on_device(self, network: nn.Module) -> nn.Module:
        # the bundle's own network stays where it is: another predictor may use it on another device
        return network if self.device.type == "cpu" else copy.deepcopy(network).to(self.device)

    def _logits(self, network: nn.Module, prepared: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        return compute_logits(
            network, self._preprocessor, lambda part: prepared[part], len(prepared),
            batch_size=self._batch_size, device=self.device, tta=self.bundle.manifest.tta,
        )  # fmt: skip

    def _decide(self, probabilities: npt.NDArray[np.float64], *, withheld: Sequence[bool]) -> npt.NDArray[np.int64]:
        manifest = self.bundle.manifest
        alone = self._fold != "ensemble"
        point = self._members[0].manifest.operating_point if alone else manifest.operating_point
        answered = ~np.isnan(probabilities).any(axis=1) & ~np.array(withheld, dtype=bool)
        decisions = np.full(len(probabilities), -1, dtype=np.int64)
        decisions[answered] = point.decide(probabilities[answered])
        return decisions

    def _choose(self, member: int | None) -> tuple[LoadedMember, ...]:
        if member is None:
            if len(self.bundle.members) < len(self.bundle.manifest.members):
                raise BundleError(f"{self.bundle.folder} was loaded without all its members.", fix="Load them all.")
            return self.bundle.members
        chosen = tuple(loaded for loaded in self.bundle.members if loaded.manifest.fold == member)
        if not chosen:
            raise BundleError(f"{self.bundle.folder} was loaded without member {member}.", fix="Load it with all.")
        return chosen


def find_bundle(model: Path | str) -> Path:
    """Return the bundle of a run folder, or the folder itself if it is one.

    Raises:
        BundleError: There is none.
    """
    folder = Path(model)
    for candidate in (folder, folder / "model"):
        if (candidate / MANIFEST).is_file():
            return candidate
    if not folder.is_dir():
        raise BundleError(f"{model} does not exist.", fix="Give a run folder, a bundle, or models:/NAME@ALIAS.")
    raise BundleError(f"{model} holds no bundle: the run did not finish, or it is no run.", fix="Give another run.")


def _with_answer(row: _Row, logits: npt.NDArray[np.float64], probabilities: npt.NDArray[np.float64]) -> _Row:
    if not np.isfinite(probabilities).all():
        error = DataError("The networks give no finite answer to this scan.", fix="Look at the values of its voxels.")
        return _Row(error=error, findings=(str(error), *row.findings))
    return replace(row, logits=logits, probabilities=probabilities)


def _told(error: MedresError) -> str:
    """Return an error as a finding, with the code of the catalogue where it has one."""
    return f"{error.code}: {error}" if isinstance(error, UnreadableScanError) else str(error)


def _stacked(rows: list[npt.NDArray[np.float64]], missing: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.stack(rows) if rows else np.empty((0, len(missing)))


def _by_sample(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    by_sample: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.sample_id is not None:
            by_sample[finding.sample_id].append(finding)
    return by_sample


def _refused(problem: Finding) -> ScanImage:
    raise UnreadableScanError(problem.value, fix=problem.fix, code=problem.code)


def _itself(image: ScanImage) -> ScanImage:
    return image
