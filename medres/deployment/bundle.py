"""The bundle: a trained ensemble as one folder without code, pickle or scans, which proves itself when it is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medres._version import __version__
from medres.deployment.golden import (
    TOLERANCE,
    GoldenCase,
    golden_input,
    golden_logits,
    golden_shape,
    largest_deviation,
)
from medres.deployment.integrity import (
    AGAIN,
    as_bundle_error,
    check_files,
    link_or_copy,
    published,
    read_manifest,
)
from medres.deployment.manifest import (
    CARD,
    FINGERPRINT,
    GOLDEN,
    MANIFEST,
    PLAN,
    TRAINING_HASHES,
    BundleManifest,
    MemberManifest,
    SaltedHashes,
    TrainingHashes,
)
from medres.deployment.members import LoadedMember, TrainedMember, calibrated, rebuild_network
from medres.errors import BundleError
from medres.evaluation.operating_point import OperatingPoint
from medres.planning.fingerprint import Fingerprint
from medres.planning.plan import Plan
from medres.preprocessing.preprocessor import Preprocessor
from medres.runs.atomic import atomic_write_text
from medres.runs.documents import sha256_of


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A loaded bundle.

    Args:
        folder: Where it is.
        manifest: What it is.
        plan: How scans are prepared.
        fingerprint: What the training scans looked like.
        training_hashes: Which they were.
        members: The networks that were asked for.
    """

    folder: Path
    manifest: BundleManifest
    plan: Plan
    fingerprint: Fingerprint
    training_hashes: TrainingHashes
    members: tuple[LoadedMember, ...]


def write_bundle(
    folder: Path,
    *,
    arch: str,
    classes: Sequence[str],
    positive: str | None,
    plan: Plan,
    fingerprint: Fingerprint,
    members: Sequence[TrainedMember],
    operating_point: OperatingPoint,
    tta: int = 0,
    weights_source: str = "none",
    weights_sha256: str = "",
    trained_before: Sequence[SaltedHashes] = (),
    members_without_learning: Mapping[int, tuple[str, ...]] | None = None,
    card: str = "",
) -> BundleManifest:
    """Write a bundle, whole or not at all; one that is there already is replaced.

    Args:
        folder: The bundle.
        arch: Architecture of all members.
        classes: Names, in the order of the logits.
        positive: The positive class of two.
        plan: How scans were prepared.
        fingerprint: What the training scans looked like.
        members: The networks.
        operating_point: Of the ensemble.
        tta: Views beside the scan itself that the members were evaluated, and are used, with.
        weights_source: Where the networks started.
        weights_sha256: Of those weights.
        trained_before: What those weights were trained on, where they are of another run.
        members_without_learning: By fold, the signs that a member learned nothing.
        card: Text of the model card, Markdown.

    Raises:
        BundleError: A weights file does not fit the architecture.
        OutputError: The folder cannot be written, or holds something else than a bundle.
    """
    with published(folder) as temporary:
        plan.write_yaml(temporary / PLAN)
        fingerprint.write_json(temporary / FINGERPRINT)
        atomic_write_text(temporary / CARD, card)
        hashes = TrainingHashes.of({member.fold: member.training_hashes for member in members}, before=trained_before)
        hashes.write_json(temporary / TRAINING_HASHES)
        written = tuple(_add_member(temporary, member) for member in members)
        golden = _answer_golden_case(members, arch=arch, num_classes=len(classes), plan=plan, tta=tta)
        golden.write(temporary / GOLDEN)
        manifest = BundleManifest(
            medres_version=__version__, arch=arch, spatial_dims=plan.spatial_dims, slicewise=plan.slicewise,
            in_channels=plan.in_channels, num_classes=len(classes), classes=tuple(classes), positive=positive,
            members=written, operating_point=operating_point, tta=tta,
            num_training_scans=fingerprint.num_scans, modality=fingerprint.modality,
            weights_source=weights_source, weights_sha256=weights_sha256,
            members_without_learning=dict(members_without_learning or {}),
            files={path.name: sha256_of(path) for path in sorted(temporary.iterdir())},
        ).signed()  # fmt: skip
        manifest.write_json(temporary / MANIFEST)
    return manifest


def load_bundle(folder: Path, *, verify: bool = True, folds: Sequence[int] | None = None) -> Bundle:
    """Load a bundle after proving that it is whole, and that its members still say what they said.

    Args:
        folder: The bundle.
        verify: Compare checksums, and the members' answers to the golden case (within `TOLERANCE`, on the CPU).
        folds: Members to load, by fold; all by default.

    Raises:
        BundleError: It is none, is damaged or was changed, needs a newer medres, or has no such member.
    """
    manifest = read_manifest(folder)
    check_files(folder, manifest, checksums=verify)
    with as_bundle_error():
        plan = Plan.read(folder / PLAN)
        fingerprint = Fingerprint.read(folder / FINGERPRINT)
        training_hashes = TrainingHashes.read(folder / TRAINING_HASHES)
    _check_plan(folder, manifest, plan)
    members = tuple(_load_member(folder, manifest, member, plan) for member in _chosen(folder, manifest, folds))
    bundle = Bundle(
        folder=folder, manifest=manifest, plan=plan, fingerprint=fingerprint,
        training_hashes=training_hashes, members=members,
    )  # fmt: skip
    if verify:
        verify_golden_case(bundle)
    return bundle


def verify_golden_case(bundle: Bundle) -> None:
    """Prove that the loaded members still give their recorded answers.

    Raises:
        BundleError: One does not.
    """
    golden = GoldenCase.read(bundle.folder / GOLDEN)
    preprocessor = Preprocessor(bundle.plan)
    order = [member.fold for member in bundle.manifest.members]
    if golden.prepared.shape != golden_shape(preprocessor) or len(golden.logits) != len(order):
        raise BundleError(f"The golden case of {bundle.folder} does not fit its plan.", fix=AGAIN)
    for member in bundle.members:
        row = order.index(member.manifest.fold)
        logits = golden_logits(member.model, preprocessor, golden.prepared, tta=bundle.manifest.tta)
        deviation = max(
            largest_deviation(logits, golden.logits[row]),
            largest_deviation(member.probabilities(logits[None])[0], golden.probabilities[row]),
        )
        if deviation > TOLERANCE:
            raise BundleError(
                f"Member {member.manifest.fold} of {bundle.folder} fails its golden case: its answer is off by"
                f" {deviation:.2g} (allowed: {TOLERANCE:g}).",
                fix=f"It is not the network that was evaluated. {AGAIN}",
            )


def _add_member(folder: Path, member: TrainedMember) -> MemberManifest:
    target = folder / f"member_{member.fold}.safetensors"
    link_or_copy(member.weights_file, target)
    return MemberManifest(
        file=target.name, fold=member.fold, temperature=member.temperature,
        logit_offset=tuple(float(value) for value in member.logit_offset),
        operating_point=member.operating_point, sha256=sha256_of(target),
    )  # fmt: skip


def _answer_golden_case(
    members: Sequence[TrainedMember], *, arch: str, num_classes: int, plan: Plan, tta: int
) -> GoldenCase:
    preprocessor = Preprocessor(plan)
    prepared = golden_input(preprocessor)
    logits, probabilities = [], []
    for member in members:  # one network at a time in memory
        network = rebuild_network(member.weights_file, arch=arch, num_classes=num_classes, plan=plan)
        logits.append(golden_logits(network, preprocessor, prepared, tta=tta))
        answer = calibrated(logits[-1][None], offset=member.logit_offset, temperature=member.temperature)
        probabilities.append(answer[0])
    return GoldenCase(prepared, np.stack(logits), np.stack(probabilities))


def _check_plan(folder: Path, manifest: BundleManifest, plan: Plan) -> None:
    said = (manifest.spatial_dims, manifest.slicewise, manifest.in_channels)
    if said != (plan.spatial_dims, plan.slicewise, plan.in_channels):
        raise BundleError(f"{folder / PLAN} belongs to another network than {MANIFEST}.", fix=AGAIN)


def _chosen(folder: Path, manifest: BundleManifest, folds: Sequence[int] | None) -> list[MemberManifest]:
    by_fold = {member.fold: member for member in manifest.members}
    for fold in folds or ():
        if fold not in by_fold:
            known = ", ".join(map(str, by_fold))
            raise BundleError(f"{folder} has no member {fold!r}.", fix=f"Its members are {known}.")
    return list(manifest.members) if folds is None else [by_fold[fold] for fold in folds]


def _load_member(folder: Path, manifest: BundleManifest, member: MemberManifest, plan: Plan) -> LoadedMember:
    network = rebuild_network(folder / member.file, arch=manifest.arch, num_classes=manifest.num_classes, plan=plan)
    return LoadedMember(manifest=member, model=network)
