"""`compare`: finished runs of the same scans beside each other: what a choice costs and what it buys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from medres.data.wording import counted
from medres.errors import UsageError
from medres.reporting.comparison.contenders import MAX_RUNS, Contender, group_runs
from medres.reporting.comparison.costs import cost_of
from medres.reporting.comparison.page import render_comparison
from medres.reporting.comparison.pairing import pair_runs
from medres.reporting.comparison.recorded import RecordedRun, read_run
from medres.reporting.comparison.result import Comparison, compare_contenders
from medres.reporting.pages import write_page
from medres.runs.atomic import require_place
from medres.runs.host import independent_of_host
from medres.runs.progress import Progress, Silent


@independent_of_host()
def compare(
    runs: Iterable[str | Path] = (),
    *,
    groups: Mapping[str, Sequence[str | Path]] | None = None,
    reference: str | Path | None = None,
    html: str | Path | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare finished runs of the same scored scans: ``medres compare`` from Python.

    Runs that differ in their seed only are one contender: its score is the mean over its seeds.

    Args:
        runs: Run folders.
        groups: Contenders that are taken together by name, whatever they differ in: name to run folders.
        reference: Contender (or one of its runs) that the others are compared with; None = the first.
        html: Page to write.
        progress: Shows how far it is.

    Returns:
        Scores, paired differences with intervals, costs and conclusions.

    Raises:
        UsageError: Fewer than two contenders, runs given twice, or an unknown reference.
        OutputError: A folder holds no finished run, or the page cannot be written.
        DataError: The runs contradict each other, or have too few scored patients in common.

    Example:
        ::

            comparison = medres.compare(["runs/r18-s0", "runs/r18-s1", "runs/r50-s0", "runs/r50-s1"])
            print(*comparison.conclusions()["r50"])
    """
    progress = progress or Silent()
    if html is not None:
        require_place(Path(html), option="--html")
    grouped = {name: [Path(path) for path in paths] for name, paths in (groups or {}).items()}
    paths = _paths([Path(path) for path in runs], grouped)
    read = tuple(map(read_run, progress.track(paths, description="reading runs", total=len(paths))))
    places = {path: place for place, path in enumerate(paths)}
    pairing = pair_runs(read)
    contenders = group_runs(read, {name: [places[path] for path in of_name] for name, of_name in grouped.items()})
    chosen = _reference(contenders, read, reference)
    shown = progress.track(contenders, description="costs", total=len(contenders))
    costs = {contender.name: cost_of([read[place] for place in contender.places]) for contender in shown}
    progress.note(f"drawing {counted(pairing.num_patients, 'patient')} again, for {counted(len(read), 'run')}")
    scores = compare_contenders(pairing, contenders, reference=chosen)
    made = Comparison(runs=read, contenders=contenders, pairing=pairing, scores=scores, costs=costs)
    return made if html is None else replace(made, page=write_page(Path(html), render_comparison(made)))


def parse_groups(texts: Iterable[str]) -> dict[str, list[str]]:
    """Return name and run folders of each ``NAME=RUN,RUN``.

    Raises:
        UsageError: One is not of that form, or a name is there twice.

    Example:
        >>> parse_groups(["r18=runs/a,runs/b", "r50=runs/c"])
        {'r18': ['runs/a', 'runs/b'], 'r50': ['runs/c']}
    """
    groups: dict[str, list[str]] = {}
    for text in texts:
        name, separator, rest = (part.strip() for part in text.partition("="))
        runs = [part.strip() for part in rest.split(",") if part.strip()]
        if not separator or not name or not runs:
            raise UsageError(f"--group {text!r} is no group.", fix="Write --group NAME=RUN,RUN.")
        if name in groups:
            raise UsageError(f"The group {name} is there twice.", fix="Give all of its runs in one --group.")
        groups[name] = runs
    return groups


def _paths(runs: Sequence[Path], groups: Mapping[str, Sequence[Path]]) -> list[Path]:
    """Return all run folders, each once."""
    paths = [*runs, *(path for of_name in groups.values() for path in of_name)]
    empty = [name for name, of_name in groups.items() if not of_name]
    if empty:
        raise UsageError(f"The group {empty[0]} has no runs.", fix="Give its run folders.")
    if len(paths) < 2:
        raise UsageError(f"{len(paths)} run is no comparison.", fix="Give two runs or more: medres compare RUN RUN.")
    if len(paths) > MAX_RUNS:
        raise UsageError(f"{len(paths)} runs are given; at most {MAX_RUNS} are compared.", fix="Choose fewer.")
    seen: dict[Path, Path] = {}
    for path in paths:
        if seen.setdefault(path.resolve(), path) is not path:
            raise UsageError(f"{path} is given twice.", fix="Give each run once.")
    return paths


def _reference(contenders: Sequence[Contender], runs: Sequence[RecordedRun], asked: str | Path | None) -> str:
    if asked is None:
        return contenders[0].name
    for contender in contenders:
        of_contender = [runs[place] for place in contender.places]
        if str(asked) == contender.name or str(asked) in {run.name for run in of_contender}:
            return contender.name
        if Path(asked).resolve() in {run.folder.path.resolve() for run in of_contender}:
            return contender.name
    raise UsageError(
        f"The reference {asked} is none of the contenders: {', '.join(contender.name for contender in contenders)}.",
        fix="Give the name of a contender or one of its runs.",
    )
