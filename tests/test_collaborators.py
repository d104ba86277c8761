"""What the loop works with, each by itself."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infogan_jax import Config
from infogan_jax.data import batch_indices
from infogan_jax.training.divergence import Diverged, Divergence
from infogan_jax.training.feed import Feeder
from infogan_jax.training.hooks import Position
from infogan_jax.training.logging import Means
from infogan_jax.training.programs import PseudoLabels
from infogan_jax.training.schedule import (
    CallLength,
    intervals,
    max_call_steps,
    next_stop,
)
from infogan_jax.training.task import Task
from tests.conftest import run_in

CONFIG = Config(
    batch_size=4, steps=100, log_every=10, checkpoint_every=25, sample_every=0
)
IMAGES = np.arange(20, dtype=np.float32).reshape(10, 2)


def task(**fields) -> Task:
    return Task(lambda key: None, lambda state, batch: (state, {}), IMAGES, **fields)


# Schedule


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 10), (9, 10), (10, 20), (20, 25), (25, 30), (95, 100)]
)
def test_the_next_stop_is_where_anything_is_due(step, expected):
    assert next_stop(CONFIG, step) == expected


def test_pseudo_labels_begin_at_a_stop():
    assert next_stop(CONFIG, 3, 7) == 7
    assert next_stop(CONFIG, 7, 7) == 10
    assert next_stop(CONFIG, 3, math.inf) == 10


def test_a_call_is_at_most_the_shortest_interval():
    config = dataclasses.replace(CONFIG, sample_every=40, eval_every=8)
    assert intervals(config) == [10, 25, 40, 8]
    assert max_call_steps(config) == 8
    assert max_call_steps(dataclasses.replace(CONFIG, steps=3)) == 3


def test_the_length_of_a_call_follows_the_last_one():
    calls = CallLength(50)
    assert calls.steps == 1
    calls.observe(1, 0.1)  # ten of these take a second
    assert calls.steps == 10
    calls.observe(10, 0.001)
    assert calls.steps == 50
    calls.observe(10, 100.0)
    assert calls.steps == 1


# Feeder


def test_a_feeder_gives_the_batches_of_each_members_seed():
    config = dataclasses.replace(CONFIG, num_seeds=2, seed=3)
    feeder = Feeder(task(), config)
    feeder.put()
    arrays, batches = feeder.get(5, 7, 9)
    np.testing.assert_array_equal(arrays, IMAGES)
    assert batches.shape == (2, 2, 4)
    for member, seed in enumerate((3, 4)):
        for i, step in enumerate((5, 6)):
            expected = batch_indices(seed, step, 4, 10)
            np.testing.assert_array_equal(batches[member, i], expected)
    assert feeder.input_rates() is None
    assert feeder.no_labels().shape == (2, 10)
    feeder.close()


# Divergence


@dataclasses.dataclass
class State:
    """Of two members, whose weights are not finite if these are not."""

    w: np.ndarray

    def variables(self):
        return {"w": self.w}


jax.tree_util.register_dataclass(State, ["w"], [])


def check(guard, losses, begin, end):
    """Metrics of two members, of which some are not finite."""
    state = State(jnp.ones((2, 3)))
    metrics = {"loss": np.array(losses, float)}
    guard.check(state, metrics, np.ones(2), begin, end)


@pytest.fixture
def guard():
    config = dataclasses.replace(CONFIG, num_seeds=2, on_nonfinite="rollback")
    return Divergence(config)


def test_a_member_diverges_once_until_the_rollback(guard):
    check(guard, [[1, 1], [1, 1]], 0, 2)
    assert not guard.is_pending and not guard.must_act(True)
    check(guard, [[1, 1], [1, math.nan]], 2, 4)
    check(guard, [[1, 1], [math.nan, math.nan]], 4, 6)
    assert guard.reasons == ["seed 1: loss not finite by step 4"]
    assert not guard.must_act(False) and guard.must_act(True)
    message = guard.start_rollback(0)
    assert message.startswith("seed 1: loss not finite by step 4; back to")
    assert message.endswith("1 of 3")
    assert not guard.is_pending
    np.testing.assert_array_equal(guard.retried, [False, True])


def test_three_rollbacks_to_one_state_are_enough(guard):
    for number in (1, 2, 3):
        check(guard, [[math.inf], [1]], 5, 6)
        assert f"{number} of 3" in guard.start_rollback(5)
    check(guard, [[math.inf], [1]], 5, 6)
    with pytest.raises(Diverged, match="4 times; the state of step 5 is kept"):
        guard.start_rollback(5)


def test_rollbacks_to_another_state_are_counted_anew(guard):
    check(guard, [[math.inf], [1]], 5, 6)
    guard.start_rollback(5)
    check(guard, [[1], [math.inf]], 11, 12)
    assert "1 of 3" in guard.start_rollback(10)
    np.testing.assert_array_equal(guard.retried, [False, True])


def test_a_rollback_is_remembered_over_a_restart(guard):
    check(guard, [[1], [math.inf]], 5, 6)
    guard.start_rollback(5)
    notes = json.loads(json.dumps(guard.to_notes()))
    for step, retries in ((10, 0), (5, 1)):  # of another step it says nothing
        later = Divergence(guard.config)
        later.recall(notes, step)
        assert later.retries == retries
    np.testing.assert_array_equal(later.retried, [False, True])
    check(later, [[1], [math.inf]], 5, 6)
    assert "2 of 3" in later.start_rollback(5)


def test_a_config_that_stops_does_so_at_once():
    guard = Divergence(dataclasses.replace(CONFIG, num_seeds=2))
    check(guard, [[math.nan], [1]], 0, 1)
    assert guard.must_act(False)
    with pytest.raises(Diverged, match=r"nothing was saved yet.*--on_nonfinite"):
        guard.start_rollback(0)


# Pseudo-labels


def test_pseudo_labels_are_computed_once_and_again_after_a_rollback(tmp_path):
    asked = []

    def compute(step, states):
        asked.append(step)
        return np.full((1, 10), step, np.int32)

    labelled = task(pseudo_label_step=4, pseudo_labels=compute)
    run, state = run_in(tmp_path, CONFIG), State(jnp.ones(3))
    feeder = Feeder(labelled, CONFIG)
    labels = PseudoLabels(labelled, run, feeder)
    run_at_once = lambda position, action, *inputs: action(*inputs)  # noqa: E731

    def at(step):
        return labels.get(Position(step, state, Means()), run_at_once)

    assert at(3) is None
    np.testing.assert_array_equal(at(4), [4] * 10)
    np.testing.assert_array_equal(at(9), [4] * 10)
    labels.forget()
    np.testing.assert_array_equal(at(6), [6] * 10)
    assert at(2) is None
    assert asked == [4, 6]
    feeder.close()


# Means


def test_means_do_not_depend_on_where_calls_end_nor_on_a_stop():
    values = np.random.default_rng(0).normal(size=(2, 7))
    whole, parts = Means(), Means()
    whole.add({"loss": values})
    parts.add({"loss": values[:, :3]})
    parts = Means(parts.to_notes())
    parts.add({"loss": values[:, 3:]})
    np.testing.assert_array_equal(whole.take()["loss"], parts.take()["loss"])
    assert whole.take() == {}
