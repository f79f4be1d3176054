from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from medres.errors import DataError
from medres.evaluation.evaluate import evaluate_predictions
from medres.evaluation.units import numbered, predictions_of

GOOD: dict[str, Any] = {
    "probabilities": [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]],
    "class_indices": [0, 1, 1],
    "classes": ["no", "yes"],
    "patients": ["a", "b", "b"],
    "units": ["u1", "u2", "u2"],
    "priors": None,
}


def _evaluate(**changed: Any) -> dict[str, Any]:
    return evaluate_predictions(**{**GOOD, **changed}, num_resamples=10)


def test_the_example_is_good() -> None:
    assert _evaluate()["scores"]["accuracy"]["n_units"] == 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"probabilities": [[0.9, 0.1]]}, "1 predictions and 3 class indices"),
        ({"probabilities": [0.9, 0.4, 0.2]}, r"shape \(3,\); \(N, 2\)"),
        ({"probabilities": np.empty((0, 2)), "class_indices": []}, r"shape \(0, 2\)"),
        ({"probabilities": [[0.9, 0.1], [np.nan, 0.6], [0.2, 0.8]]}, "Row 1 of the probabilities is .nan"),
        ({"probabilities": [[0.9, 0.1], [0.4, 0.6], [1.2, -0.2]]}, "Row 2"),
        ({"probabilities": [[2.2, -1.3], [0.4, 0.6], [0.2, 0.8]]}, "between 0 and 1 and sum to 1"),
        ({"probabilities": [[9.0, 1.0], [0.4, 0.6], [0.2, 0.8]]}, "sum to 1"),
        ({"class_indices": [0, 1, 2]}, "Row 2 has the class index 2; there are classes 0 to 1"),
        ({"class_indices": [0, -1, 1]}, "class index -1"),
        ({"class_indices": [0, 0.5, 1]}, "class index 0.5"),
        ({"patients": ["a", "b"]}, "3 predictions and 2 patients"),
        ({"units": ["u1", "u2"]}, "3 predictions and 2 units"),
        ({"classes": ["yes", "yes"]}, "at least two different ones"),
        ({"classes": ["yes"], "probabilities": [[1.0]] * 3}, "at least two different ones"),
        ({"classes": ["a", "b", "c"]}, r"\(N, 3\)"),
        ({"priors": [[0.5, 0.5]] * 2}, r"Priors have the shape \(2, 2\)"),
        ({"priors": [1.0, 0.0]}, "positive and sum to 1"),
        ({"priors": [0.9, 0.9]}, "positive and sum to 1"),
        ({"priors": [np.nan, 0.5]}, "positive and sum to 1"),
    ],
)
def test_bad_predictions_are_refused_with_what_is_wrong(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        _evaluate(**changed)


def test_a_unit_with_two_labels_is_refused() -> None:
    with pytest.raises(DataError, match="The unit 'u2' has more than one label") as caught:
        _evaluate(class_indices=[0, 1, 0])
    assert "--unit-column" in caught.value.fix


def test_a_unit_of_two_patients_is_refused() -> None:
    with pytest.raises(DataError, match="The unit 'u2' has more than one patient"):
        _evaluate(patients=["a", "b", "c"])


def test_probabilities_in_single_precision_are_accepted() -> None:
    rows = np.random.default_rng(0).dirichlet(np.ones(50), size=20).astype(np.float32)
    labels = np.arange(20)
    names = [str(index) for index in range(50)]
    block = evaluate_predictions(rows, labels, classes=names, patients=names[:20], num_resamples=10)
    assert block["scores"]["accuracy"]["n_units"] == 20


def test_a_unit_of_one_scan_keeps_its_probabilities_to_the_last_bit() -> None:
    rows = np.random.default_rng(0).dirichlet(np.ones(3), size=30)
    made = predictions_of(
        rows, np.arange(30) % 3, classes=["a", "b", "c"], patients=[str(index) for index in range(30)],
        units=None, priors=None,
    )  # fmt: skip
    np.testing.assert_array_equal(made.probabilities, rows)


def test_priors_of_a_unit_are_averaged_like_its_probabilities() -> None:
    priors = [[0.5, 0.5], [0.9, 0.1], [0.7, 0.3]]
    made = predictions_of(**{**GOOD, "priors": priors, "probabilities": [[0.9, 0.1], [0.8, 0.2], [0.8, 0.2]]})
    assert made.decisions.tolist() == [0, 1]  # 0.2 reaches the mean prevalence, 0.2


def test_ids_stay_text() -> None:
    assert numbered(["001", "1", "01"]).tolist() == [0, 2, 1]
