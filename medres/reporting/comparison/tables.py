"""The tables of a comparison: rows of text, the same on the terminal and on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medres.evaluation.comparison import COMPARED_SCORES
from medres.reporting.comparison.conclusions import interval_words, p_text, signed, verdict
from medres.reporting.comparison.contenders import Contender, differing_choices
from medres.reporting.comparison.costs import Cost
from medres.reporting.comparison.recorded import RecordedRun
from medres.reporting.terminal import duration
from medres.reporting.wording import brief, interval_text, score_title, value_text


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A table of text.

    Args:
        title: What it shows.
        heads: Of the columns.
        rows: Cells.
        left: Columns of words; the others hold numbers.
        note: What has to be known to read it.
        sectioned: Whether the first cell, where it is not empty, heads the rows that follow.
    """

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: tuple[int, ...]
    note: str = ""
    sectioned: bool = False


def contender_rows(contenders: Sequence[Contender], runs: Sequence[RecordedRun]) -> Rows:
    """Return what each contender is."""
    rows = []
    for contender in contenders:
        plan = runs[contender.places[0]].plan
        seeds = ", ".join(map(str, contender.seeds))
        rows.append((
            contender.name, contender.choices.get("arch", "-"), f"{plan.dims:g}D", contender.choices["weights"],
            contender.choices["recipe"], f"{plan.in_channels} x {brief(plan.shape)}", seeds,
        ))  # fmt: skip
    mixed = [f"the runs of {c.name} also differ in {', '.join(c.mixed)}" for c in contenders if c.mixed]
    return Rows(
        title="Contenders",
        heads=("contender", "arch", "dims", "weights", "recipe", "input", "seeds"),
        rows=tuple(rows),
        left=(0, 1, 2, 3, 4, 5, 6),
        note=f"Attention: {'; '.join(mixed)}." if mixed else "",
    )


#: Shown in the table of contenders.
_SHOWN_ELSEWHERE = frozenset({"arch", "weights", "recipe", "plan.shape", "plan.spatial_dims", "plan.slicewise"})
#: Choices whose values may leave the hospital. A fixed list: others (names of columns, patterns) are named only.
_MAY_LEAVE = frozenset({
    "division", "stages", "weights_sha256", "positive", "volume", "gantry_tilt", "uneven_slices", "roi_size_mm",
    "near_duplicates", "exclude_findings",
})  # fmt: skip
_MAY_LEAVE_SECTIONS = ("plan.", "optimisation.")


def choice_rows(contenders: Sequence[Contender]) -> Rows:
    """Return in which further choices the contenders differ."""
    differing = {key: values for key, values in differing_choices(contenders).items() if key not in _SHOWN_ELSEWHERE}
    return Rows(
        title="Other choices that differ",
        heads=("choice", *(contender.name for contender in contenders)),
        rows=tuple((key, *(_shown(key, value) for value in values)) for key, values in differing.items()),
        left=tuple(range(len(contenders) + 1)),
    )


def cost_rows(contenders: Sequence[Contender], costs: Mapping[str, Cost], machines: Sequence[str]) -> Rows:
    """Return what each contender cost, and what is measured and what counted."""
    rows = []
    for contender in contenders:
        cost = costs[contender.name]
        rows.append((
            contender.name, number_text(cost.parameters), number_text(cost.trained_parameters), number_text(cost.macs),
            str(cost.models), str(cost.epochs) if cost.epochs else "solved", duration(cost.train_seconds),
        ))  # fmt: skip
    note = (
        "Recorded: parameters of one network, and the most that were trained at once. Counted, not measured: "
        "MACs, the multiply-adds of one network for one scan at the plan's size; the ensemble takes as many times that "
        "as it has models. Measured: training time of a run (frozen features, all folds), mean over seeds. Not "
        "recorded: seconds a prediction."
    )
    known = sorted({machine for machine in machines if machine})
    if len(known) > 1:
        note += f" The runs were timed on different machines ({'; '.join(known)}): their times cannot be compared."
    return Rows(
        title="Cost",
        heads=("contender", "parameters", "trained", "MACs", "models", "epochs", "training"),
        rows=tuple(rows),
        left=(0,),
        note=note,
    )


def score_rows(document: Mapping[str, Any]) -> Rows:
    """Return each main score of each contender with interval and spread over seeds."""
    rows = []
    for score in COMPARED_SCORES:
        for name, scores in document["scores"].items():
            found = scores[score]
            rows.append((
                score_title(score), name, value_text(found), interval_text(found), str(len(found["seed_values"])),
                "-" if found["seed_sd"] is None else f"{found['seed_sd']:.3f}",
            ))  # fmt: skip
    return Rows(
        title="Scores, mean over seeds",
        heads=("score", "contender", "value", "95 % interval", "seeds", "sd of seeds"),
        rows=tuple(_once_named(rows)),
        left=(0, 1, 3),
        sectioned=True,
    )


def difference_rows(document: Mapping[str, Any]) -> Rows:
    """Return each paired difference from the reference."""
    rows = []
    for score in COMPARED_SCORES:
        for name, differences in document["differences"].items():
            found = differences[score]
            spread = found["seed_standard_error"]
            rows.append((
                score_title(score), name, signed(found["value"]), interval_words(found), verdict(score, found),
                "-" if spread is None else f"{spread:.3f}",
            ))  # fmt: skip
    return Rows(
        title=f"Differences from {document['reference']}, paired by patient",
        heads=("score", "contender", "difference", "95 % interval", "which is", "se of seeds"),
        rows=tuple(_once_named(rows)),
        left=(0, 1, 3, 4),
        note="Brier score and log-loss: lower is better. Better and worse: by the interval alone. Se of seeds: "
        "standard error of the difference by the spread over seeds.",
        sectioned=True,
    )


def delong_rows(document: Mapping[str, Any]) -> Rows:
    """Return DeLong's tests of the AUROC; no rows where there is none."""
    tests = {name: test for name, test in document["delong"].items() if test["p"] is not None}
    rows = [
        (name, signed(test["value"]), interval_words(test), *(_bare(p_text(test[key])) for key in ("p", "p_holm")))
        for name, test in tests.items()
    ]
    several = len(document["differences"]) > 1
    heads = ("contender", "difference", "95 % interval", "p", "p, Holm")
    return Rows(
        title="DeLong's paired test of the AUROC, two-sided",
        heads=heads if several else heads[:-1],
        rows=tuple(row if several else row[:-1] for row in rows),
        left=(0, 2),
        note="p, Holm: adjusted for the number of contenders." if several else "",
    )


def _bare(p: str) -> str:
    return p.removeprefix("= ")


def number_text(number: float | None) -> str:
    """Return a large number in short.

    Example:
        >>> number_text(11_170_000), number_text(1_813_562_368), number_text(850), number_text(None)
        ('11.2 M', '1.81 G', '850', '-')
    """
    if number is None:
        return "-"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.0f}"


def _shown(key: str, value: str) -> str:
    return value if key in _MAY_LEAVE or key.startswith(_MAY_LEAVE_SECTIONS) else "(not shown)"


def _once_named(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Write the first cell only where it changes."""
    return [
        row if not place or rows[place - 1][0] != row[0] else ("", *row[1:]) for place, row in enumerate(rows)
    ]  # fmt: skip
