"""The documents of a bundle: what it holds, how its members are calibrated, which scans they were trained on."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Literal, Self

import pydantic

from medres.evaluation.operating_point import OperatingPoint
from medres.runs.documents import Document, Number, WholeNumber, digest_of

MANIFEST = "bundle.json"
PLAN = "plan.yaml"
FINGERPRINT = "fingerprint.json"
GOLDEN = "golden.safetensors"
TRAINING_HASHES = "training_hashes.json"
CARD = "card.md"

#: What no bundle has: larger numbers are damage, not a choice.
MAX_FOLDS, MAX_CLASSES, MAX_TRAINING_SCANS, MAX_LOGIT = 10_000, 100_000, 10**9, 1e6

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\.[a-z]+")


def _plain(name: str) -> str:
    if not _PLAIN_NAME.fullmatch(name):
        raise ValueError("file names of a bundle are plain names, without folders")
    return name


FileName = Annotated[str, pydantic.AfterValidator(_plain)]
Sha256 = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class MemberManifest(Document):
    """One trained network of the ensemble.

    Args:
        file: Its weights.
        fold: The fold that it was not trained on.
        temperature: What its logits are divided by, fitted on scans that it is not scored on.
        logit_offset: log(class weight), what the weighted loss added to its logits, ``(K,)``.
        operating_point: The classes' prevalence among its training scans.
        sha256: Of the weights file.
    """

    file: FileName
    fold: WholeNumber = pydantic.Field(ge=0, lt=MAX_FOLDS)
    temperature: Number = pydantic.Field(gt=0, le=MAX_LOGIT)
    logit_offset: tuple[Annotated[Number, pydantic.Field(ge=-MAX_LOGIT, le=MAX_LOGIT)], ...]
    operating_point: OperatingPoint
    sha256: Sha256


class BundleManifest(Document):
    """What a bundle is.

    Args:
        format: Version of this document.
        medres_version: Version that wrote it.
        arch: Architecture.
        spatial_dims: 2 or 3.
        slicewise: Whether a volume is read as slices (2.5D).
        in_channels: Channels of the network's input.
        num_classes: Number of classes.
        classes: Their names, in the order of logits and probabilities.
        positive: The positive class of two.
        members: The networks.
        operating_point: Of the ensemble.
        tta: Views beside the scan itself that logits are averaged over (`medres.preprocessing.views`).
        num_training_scans: Number of scans that the fingerprint was made from.
        modality: What they look like.
        weights_source: Where the networks started: ``none``, a file's name, a timm tag.
        weights_sha256: Of those weights; empty without.
        members_without_learning: By fold, the signs that a member learned nothing (`medres.evaluation.training_fit`).
        files: SHA-256 of every other file.
        seal: SHA-256 of this document without this field.
    """

    format: Literal[1] = 1
    medres_version: str
    arch: str
    spatial_dims: Literal[2, 3]
    slicewise: bool = False
    in_channels: WholeNumber = pydantic.Field(ge=1, le=4096)
    num_classes: WholeNumber = pydantic.Field(ge=2, le=MAX_CLASSES)
    classes: tuple[str, ...]
    positive: str | None
    members: tuple[MemberManifest, ...] = pydantic.Field(min_length=1)
    operating_point: OperatingPoint
    tta: WholeNumber = pydantic.Field(default=0, ge=0, le=64)
    num_training_scans: WholeNumber = pydantic.Field(ge=0, le=MAX_TRAINING_SCANS)
    modality: str
    weights_source: str
    weights_sha256: str
    members_without_learning: Mapping[int, tuple[str, ...]] = pydantic.Field(default_factory=dict)
    files: Mapping[FileName, Sha256]
    seal: str = ""

    @pydantic.model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.classes)) != self.num_classes:
            raise ValueError(f"num_classes is {self.num_classes}, but there are the classes {list(self.classes)}")
        lengths = {len(member.logit_offset) for member in self.members}
        lengths |= {len(point.priors) for point in self._operating_points()}
        if lengths != {self.num_classes}:
            raise ValueError(f"logit_offset and operating_point must have {self.num_classes} values")
        if len({member.fold for member in self.members}) != len(self.members):
            raise ValueError("two members have the same fold")
        missing = {PLAN, FINGERPRINT, GOLDEN, TRAINING_HASHES, CARD} - set(self.files)
        if missing:
            raise ValueError(f"files lacks {', '.join(sorted(missing))}")
        wrong = [member.file for member in self.members if self.files.get(member.file) != member.sha256]
        if wrong:
            raise ValueError(f"files disagrees with members about {', '.join(wrong)}")
        return self

    def signed(self) -> BundleManifest:
        """Return the document with its seal."""
        return self.model_copy(update={"seal": self.content_digest()})

    def content_digest(self) -> str:
        """Return the SHA-256 of everything but the seal.

        An empty word about what came later counts as none, so that bundles from before it keep their seal.
        """
        later = {"tta", "members_without_learning"}
        said = {key: value for key, value in self.to_mapping().items() if value or key not in later}
        return digest_of({key: value for key, value in said.items() if key != "seal"})

    def _operating_points(self) -> list[OperatingPoint]:
        return [self.operating_point, *(member.operating_point for member in self.members)]


class SaltedHashes(Document):
    """Some scans, told without saying who they are: the first 16 digits of SHA-256(salt + content hash) of each."""

    salt: str
    hashes: tuple[str, ...]

    def holds(self, content_hash: str) -> bool:
        """Return whether a scan with this content is among them."""
        return _salted(self.salt, content_hash) in self.hashes


class TrainingHashes(Document):
    """Which scans the members were trained on, told without saying who they are.

    Args:
        format: Version of this document.
        salt: Of this bundle, so that the hashes of two bundles cannot be compared.
        members: By fold, as in `SaltedHashes`.
        before: What the weights that all members began from had been trained on, run by run.

    Example:
        >>> hashes = TrainingHashes.of({0: ["ab12"], 1: ["cd34"]})
        >>> hashes.folds_with("ab12"), hashes.folds_with("ef56")
        ((0,), ())
        >>> TrainingHashes.of({0: ["ef56"]}, before=hashes.of_member(1)).folds_with("cd34")
        (0,)
    """

    format: Literal[1] = 1
    salt: str
    members: Mapping[int, tuple[str, ...]]
    before: tuple[SaltedHashes, ...] = ()

    @classmethod
    def of(
        cls, content_hashes: Mapping[int, Collection[str]], *, before: Sequence[SaltedHashes] = ()
    ) -> TrainingHashes:
        """Return the hashes of training scans, given by fold."""
        salt = secrets.token_hex(16)
        members = {
            fold: tuple(sorted({_salted(salt, content_hash) for content_hash in hashes}))
            for fold, hashes in content_hashes.items()
        }
        return cls(salt=salt, members=members, before=tuple(before))

    def folds_with(self, content_hash: str) -> tuple[int, ...]:
        """Return the folds whose member was trained on a scan with this content, or began from what was."""
        if any(scans.holds(content_hash) for scans in self.before):
            return tuple(self.members)
        salted = _salted(self.salt, content_hash)  # asked of every scan that is predicted: hashed once for all folds
        return tuple(fold for fold, hashes in self.members.items() if salted in hashes)

    def of_member(self, fold: int) -> tuple[SaltedHashes, ...]:
        """Return all that a member has learnt from, run by run: what a run that begins from it takes over."""
        return (*self.before, SaltedHashes(salt=self.salt, hashes=self.members.get(fold, ())))


def _salted(salt: str, content_hash: str) -> str:
    return hashlib.sha256(f"{salt}{content_hash}".encode()).hexdigest()[:16]
