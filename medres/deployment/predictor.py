"""`Predictor`: a bundle in use, with the preprocessing and the arithmetic that its scores were measured with."""

from __future__ import annotations

import copy
import os
import threading
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

from medres._version import __version__
from medres.data.findings import Finding, summarise
from medres.data.image import ScanImage
from medres.data.sample import read_sample
from medres.data.sources import GivenScan
from medres.deployment.asked import Asked, answered_in_order, as_asked
from medres.deployment.bundle import Bundle, load_bundle
from medres.deployment.foreign import OnMismatch, judge, parse_on_mismatch, withheld_finding
from medres.deployment.manifest import MANIFEST
from medres.deployment.members import LoadedMember
from medres.deployment.predictions import Predictions, joined
from medres.errors import BundleError, DataError, MedresError, UnreadableScanError
from medres.finetuning.inference import compute_logits
from medres.finetuning.machine import choose_device
from medres.preprocessing.preprocessor import Preprocessor
from medres.runs.documents import digest_of
from medres.runs.folder import RunFolder
from medres.runs.host import independent_of_host
from medres.runs.host_warnings import THREAD_PREFIX
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

    @independent_of_host()
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
        self._part = max(_SCANS_AT_A_TIME, self._batch_size)
        self._preprocessor = Preprocessor(self.bundle.plan)
        self._networks = [self._on_device(chosen.model) for chosen in self._members]
        self._lock = threading.Lock()  # a server asks from several threads; the arithmetic is set for the process

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of the probabilities."""
        return self.bundle.manifest.classes

    @property
    def fold(self) -> str:
        """Which member predicts, or ``ensemble``."""
        return self._fold

    @property
    def columns(self) -> list[str]:
        """Columns of its predictions as a CSV."""
        return self._nothing().columns

    @property
    def identity(self) -> str:
        """What its answers depend on beside the scan: bundle, member, policy, device, batch size and version."""
        chosen = [self._fold, self._on_mismatch, self.device.type, self._batch_size]
        asked = [self.bundle.manifest.digest(), *chosen, __version__]
        return digest_of(asked)

    @independent_of_host()
    def predict(self, scans: Asked, *, progress: Progress | None = None) -> Predictions:
        """Predict files: one row for each thing given, in the order given, and what is given twice is answered twice.

        A file is a row; a table (CSV or `ScanTable`) stands for its rows; a folder for the scans in it, sorted, at its
        place. What cannot be used - a path that does not exist, a damaged file - is told in its row, and the others
        are predicted.

        Args:
            scans: A path, several, or a table; models of several sequences or of a region of interest need the columns
                that say so, which only a table has. None at all: no rows.
            progress: Shows scans.

        Raises:
            UsageError: It is neither paths nor a table.
        """
        rows = self.asked(scans, progress=progress)
        return joined(self.predict_in_parts(rows, progress=progress), self._nothing())

    def asked(self, scans: Asked, *, progress: Progress | None = None) -> tuple[GivenScan, ...]:
        """Return the rows that will be answered, in order; nothing is read but folders, tables and DICOM headers.

        Args:
            scans: See `predict`.
            progress: Shows what is no scan in the folders: masks beside their images.

        Raises:
            UsageError: It is neither paths nor a table.
        """
        left_out: list[Finding] = []
        rows = as_asked(scans, self.bundle.plan, tell=left_out.append)
        for group in summarise(left_out):
            (progress or Silent()).note(group.line())
        return rows

    def predict_in_parts(self, rows: Sequence[GivenScan], *, progress: Progress | None = None) -> Iterator[Predictions]:
        """Yield the predictions of some rows at a time, in order, each part as soon as it is there.

        Args:
            rows: Those of `asked`, or some of them.
            progress: Shows scans.
        """
        different = list({row.question: row for row in rows}.values())
        answers = self._rows([self._read_of(row) for row in different])
        all_answers = answered_in_order([row.question for row in rows], answers)
        tracked = (progress or Silent()).track(all_answers, description="predict", total=len(rows))
        for start in range(0, len(rows), self._part):
            part = rows[start : start + self._part]
            yield self._table(
                list(islice(tracked, len(part))), tuple(row.scan.sample_id for row in part),
                tuple(row.file for row in part), given=tuple(row.given for row in part),
                said=[row.said for row in part],
            )  # fmt: skip
        next(tracked, None)  # the bar ends, and the threads

    def _read_of(self, row: GivenScan) -> Read:
        """Return how to read a scan; what could not be told apart in its folder is refused as it is in training."""
        if row.problem is not None:
            return partial(_refused, row.problem)
        return partial(read_sample, row.scan, rules=self.bundle.plan.reading)

    def with_policy(self, on_mismatch: str) -> Predictor:
        """Return a predictor of the same networks that treats scans unlike the training scans in another way.

        Raises:
            UsageError: There is no such policy.
        """
        other = copy.copy(self)
        other._on_mismatch = parse_on_mismatch(on_mismatch)
        return other

    @independent_of_host()
    def predict_images(self, images: Sequence[ScanImage]) -> Predictions:
        """Predict scans that are in memory; their names are their numbers, from 0."""
        reads: list[Read] = [partial(_itself, image) for image in images]
        names = tuple(str(index) for index in range(len(images)))
        return self._table(list(self._rows(reads)), names, ("",) * len(images), given=names, said=[()] * len(images))

    def _nothing(self) -> Predictions:
        return self._table([], (), (), given=(), said=[])

    def _table(
        self,
        rows: Sequence[_Row],
        names: tuple[str, ...],
        files: tuple[str, ...],
        *,
        given: tuple[str, ...],
        said: Sequence[tuple[str, ...]],
    ) -> Predictions:
        missing = np.full(len(self.classes), np.nan)
        probabilities = _stacked([missing if row.probabilities is None else row.probabilities for row in rows], missing)
        return Predictions(
            sample_ids=names, files=files, given=given, classes=self.classes, fold=self._fold,
            probabilities=probabilities,
            decisions=self._decide(probabilities, withheld=[bool(row.withheld) for row in rows]),
            logits=_stacked([missing if row.logits is None else row.logits for row in rows], missing),
            findings=tuple((*more, *row.findings) for more, row in zip(said, rows, strict=True)),
            withheld=tuple(row.withheld for row in rows),
            errors=tuple(row.error for row in rows),
        )  # fmt: skip

    def _rows(self, reads: Sequence[Read]) -> Iterator[_Row]:
        waiting = iter(reads)
        with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1), thread_name_prefix=THREAD_PREFIX) as pool:
            while part := list(islice(waiting, self._part)):
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
    if RunFolder(folder).config.is_file():
        raise BundleError(
            f"{model} holds no bundle: the run did not finish.",
            fix=f"Finish it with: {RunFolder(folder).resume_command}",
        )
    raise BundleError(f"{model} holds no bundle: it is no run.", fix="Give a finished run or its model/.")


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


def _refused(problem: MedresError) -> ScanImage:
    raise problem


def _itself(image: ScanImage) -> ScanImage:
    return image
