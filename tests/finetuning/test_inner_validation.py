"""Early stopping: its state against a plain loop, and whose scans it may look at."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from medres.data.folds import Fold, make_folds
from medres.errors import ConfigError, DataError
from medres.finetuning.inner_validation import EarlyStopping, inner_validation, validation_loss
from tests.finetuning.conftest import Cohort

LOSSES = st.lists(st.one_of(st.floats(0, 5), st.sampled_from([math.nan, math.inf])), min_size=1, max_size=30)


@given(LOSSES, st.integers(1, 6))
def test_it_stops_where_a_plain_loop_stops(losses: list[float], patience: int) -> None:
    state, stopped = EarlyStopping(patience=patience), None
    for epoch, loss in enumerate(losses, start=1):
        state = EarlyStopping.from_mapping(json.loads(json.dumps(state.after(epoch, loss=loss).to_mapping())))
        best = min((value for value in losses[:epoch] if math.isfinite(value)), default=None)
        assert state.best_loss == best
        assert state.best_epoch == (None if best is None else losses.index(best) + 1)
        assert state.improved == (state.best_epoch == epoch)
        assert state.should_stop == (epoch - (state.best_epoch or 0) >= patience)
        if state.should_stop:
            stopped = epoch
            break
    assert stopped is None or stopped >= patience


def test_without_patience_there_is_nothing_to_wait_for() -> None:
    with pytest.raises(ConfigError, match="patience"):
        EarlyStopping.from_mapping({"patience": 0})


def test_the_inner_validation_is_of_training_patients_alone(cohort: Cohort) -> None:
    table = cohort.table
    for fold in make_folds(table, num_folds=4, seed=0).folds:
        train, val = inner_validation(table, fold, seed=1)
        np.testing.assert_array_equal(np.sort(np.concatenate([train, val])), np.sort(fold.train))
        patients = [{table.scans[row].patient_id for row in rows} for rows in (train, val, fold.held_out)]
        assert not patients[0] & patients[1]
        assert not patients[1] & patients[2]
        assert 0.1 <= len(val) / len(fold.train) <= 0.3
        for rows in (train, val):
            assert set(table.class_indices[rows]) == {0, 1}
        again = inner_validation(table, fold, seed=1)
        np.testing.assert_array_equal(again[1], val)


def test_a_given_validation_split_is_the_one(cohort: Cohort) -> None:
    fold = Fold(index=0, train=np.arange(20), val=np.arange(20, 30), held_out=np.arange(30, 40))
    train, val = inner_validation(cohort.table, fold, seed=0)
    assert (train.tolist(), val.tolist()) == (list(range(20)), list(range(20, 30)))


def test_too_few_patients_are_refused_with_the_way_out(cohort: Cohort) -> None:
    # rows 0 and 1 are one patient, of both classes
    fold = Fold(index=3, train=np.array([0, 1]), val=np.array([], dtype=np.int64), held_out=np.arange(2, 40))
    with pytest.raises(DataError, match=r"Early stopping in fold 3 .*early_stopping_patience=0"):
        inner_validation(cohort.table, fold, seed=0)


def test_the_loss_is_scikit_learns_after_the_offset() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 3)).astype(np.float32), rng.integers(0, 3, 50)
    offset = np.array([0.5, -1.0, 0.2])
    shifted = np.exp(logits.astype(np.float64) - offset)
    expected = log_loss(labels, shifted / shifted.sum(axis=1, keepdims=True), labels=[0, 1, 2])
    assert validation_loss(logits, labels, offset=offset) == pytest.approx(expected)
