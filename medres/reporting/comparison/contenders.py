"""Which runs are one contender: those that differ in their seed only, or that the user takes together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from medres.data.wording import first_of
from medres.deployment.manifest import MANIFEST, BundleManifest
from medres.errors import UsageError
from medres.reporting.comparison.recorded import RecordedRun
from medres.reporting.wording import brief

#: More runs than these are no comparison that anybody reads.
MAX_RUNS = 100
MAX_CONTENDERS = 20

#: Where and under which name a run was made, from which copy of the data, and how it was tracked.
_CIRCUMSTANCES = frozenset({
    "seed", "name", "output", "cache_dir", "tracking", "tracking_uri", "experiment", "register", "device",
    "data", "labels", "weights_dir", "plan",
})  # fmt: skip
#: What was asked for; what was decided stands in the plan and in the events.
_DECIDED = frozenset({"weights", "recipe", "epochs", "dims", "batch_size", "folds", "planning"})
#: Of the plan: not choices, but how they came about.
_NO_CHOICES = frozenset({"format", "reasons", "fingerprint_digest"})


@dataclass(frozen=True, kw_only=True, eq=False)
class Contender:
    """One method.

    Args:
        name: How it is called.
        places: Its runs, as places in the list of all runs.
        seeds: Their seeds.
        choices: What was chosen, of its first run.
        mixed: Choices in which its runs differ besides the seed; of runs that the user took together.
    """

    name: str
    places: tuple[int, ...]
    seeds: tuple[int, ...]
    choices: Mapping[str, str]
    mixed: tuple[str, ...]


def group_runs(runs: Sequence[RecordedRun], groups: Mapping[str, Sequence[int]]) -> tuple[Contender, ...]:
    """Take runs together that differ in their seed only; in the order of their first runs.

    Args:
        runs: All runs.
        groups: Contenders that the user named, as places in ``runs``; the other runs are grouped by their choices.

    Raises:
        UsageError: Runs are there twice, seeds repeat, or what is left is no comparison.
    """
    _require_different(runs)
    choices = [choices_of(run) for run in runs]
    named = {place for places in groups.values() for place in places}
    by_choice: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for place, chosen in enumerate(choices):
        if place not in named:
            by_choice.setdefault(tuple(sorted(chosen.items())), []).append(place)
    for places in by_choice.values():
        _require_seeds(runs, places)
    made = [*groups.items(), *_named(runs, list(by_choice.values()), taken=groups)]
    contenders = sorted((_contender(name, places, runs, choices) for name, places in made), key=lambda c: c.places)
    _require_comparison(runs, contenders)
    return tuple(contenders)


def choices_of(run: RecordedRun) -> dict[str, str]:
    """Return everything that may make a run differ from another, but for its seed, as text by key."""
    started = run.event("run_started").get("parameters", {})
    asked = {key: value for key, value in run.config.items() if key not in _CIRCUMSTANCES | _DECIDED}
    plan = {key: value for key, value in run.plan.to_mapping().items() if key not in _NO_CHOICES}
    decided = {
        "weights": started.get("weights"),
        "weights_sha256": _weights_digest(run),
        "recipe": started.get("recipe"),
        "division": f"{run.metrics['kind']}, {len(run.metrics['folds'])} models",
        "stages": stages_text(run),
        "plan": plan,
    }
    return dict(_flat({**asked, **decided}))


def stages_text(run: RecordedRun) -> str:
    """Return the stages that were run: ``head solved, fine-tune from stem 15``."""
    stages = [event for event in run.events if event.get("kind") == "stage_started" and event.get("fold") == 0]
    parts = {event["stage"]: (event["train_from"], event["epochs"]) for event in stages}
    return ", ".join(
        f"{name} solved" if not epochs else f"{name} from {train_from} {epochs}"
        for name, (train_from, epochs) in parts.items()
    )


def differing_choices(contenders: Sequence[Contender]) -> dict[str, tuple[str, ...]]:
    """Return the choices in which contenders differ, with the value of each; ``-`` where one was not recorded."""
    keys = dict.fromkeys(key for contender in contenders for key in contender.choices)
    values = {key: tuple(contender.choices.get(key, "-") for contender in contenders) for key in keys}
    return {key: of_all for key, of_all in values.items() if len(set(of_all)) > 1}


def _weights_digest(run: RecordedRun) -> str | None:
    """Return the beginning of the digest of the weights: two files may bear one name."""
    manifest = run.folder.model / MANIFEST
    return BundleManifest.read(manifest).weights_sha256[:12] or "none" if manifest.is_file() else None


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, brief(value)


def _contender(
    name: str, places: Sequence[int], runs: Sequence[RecordedRun], choices: Sequence[Mapping[str, str]]
) -> Contender:
    first = choices[places[0]]
    keys = {key for place in places for key in choices[place]}
    return Contender(
        name=name,
        places=tuple(places),
        seeds=tuple(runs[place].seed for place in places),
        choices=first,
        mixed=tuple(sorted(key for key in keys if len({choices[place].get(key) for place in places}) > 1)),
    )


def _named(
    runs: Sequence[RecordedRun], groups: Sequence[Sequence[int]], *, taken: Iterable[str]
) -> list[tuple[str, Sequence[int]]]:
    """Name groups after their runs: one run by its name, several by what their names begin with."""
    used, made = set(taken), []
    for places in groups:
        names = [runs[place].name for place in places]
        stem = re.sub(r"[^A-Za-z0-9]*(seed|s)?[^A-Za-z0-9]*$", "", _common_beginning(names))
        wanted = names[0] if len(names) == 1 or len(stem) < 2 else stem
        name = next(
            text for text in (wanted, *(f"{wanted} ({n})" for n in range(2, len(runs) + 2))) if text not in used
        )
        used.add(name)
        made.append((name, places))
    return made


def _common_beginning(names: Sequence[str]) -> str:
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return "".join(letters[0] for letters in alike)


def _require_different(runs: Sequence[RecordedRun]) -> None:
    seen: dict[frozenset[str], RecordedRun] = {}
    for run in runs:
        # pseudonyms are salted by run: equal ones are those of a copied folder
        other = seen.setdefault(frozenset(run.scored.pseudonyms), run)
        if other is not run:
            raise UsageError(f"{other.folder.path} and {run.folder.path} are the same run.", fix="Give each run once.")


def _require_seeds(runs: Sequence[RecordedRun], places: Sequence[int]) -> None:
    by_seed: dict[int, RecordedRun] = {}
    for place in places:
        run = runs[place]
        other = by_seed.setdefault(run.seed, run)
        if other is not run:
            raise UsageError(
                f"{other.name} and {run.name} are one method with the same seed, {run.seed}: a repetition is no second "
                "seed.",
                fix=f"Leave one out, or compare them by name: --group NAME={run.folder.path}.",
            )


def _require_comparison(runs: Sequence[RecordedRun], contenders: Sequence[Contender]) -> None:
    if len(contenders) < 2:
        raise UsageError(
            f"The {len(runs)} runs are one contender: they differ in their seed only "
            f"({first_of(sorted(contenders[0].seeds))}).",
            fix="Add runs of another architecture, recipe or weights, or divide them by --group NAME=RUN,RUN.",
        )
    if len(contenders) > MAX_CONTENDERS:
        raise UsageError(
            f"The {len(runs)} runs are {len(contenders)} contenders; at most {MAX_CONTENDERS} are compared.",
            fix="Choose fewer, or take runs together by --group NAME=RUN,RUN.",
        )
