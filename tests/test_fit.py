"""The loop, around a step that compiles at once: signals, rows, and going back."""

import contextlib
import dataclasses
import os
import signal
import threading
import time

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infogan_jax import Config
from infogan_jax.distributed.devices import MultiStep
from infogan_jax.inference import weight_digest
from infogan_jax.run.checkpoints import with_plain_key
from infogan_jax.training.interrupt import Interrupts, Stopped
from infogan_jax.training.loop import fit as fit_task
from infogan_jax.training.schedule import CallLength
from infogan_jax.training.task import Task
from tests.conftest import run_in

FEW = Config(batch_size=16, steps=10, log_every=5, checkpoint_every=10, sample_every=0)


@flax.struct.dataclass
class State:
    step: jax.Array
    key: jax.Array
    w: jax.Array

    def variables(self):
        return {"w": self.w}


def init(key):
    return State(jnp.int32(0), key, jnp.zeros(3))


def train_step(state, batch):
    noise = jax.random.normal(jax.random.fold_in(state.key, state.step), 3)
    w = 0.9 * state.w + batch.mean(0) + noise
    return state.replace(step=state.step + 1, w=w), {"loss/w": jnp.sum(w**2)}


def spoiled_step(state, batch):
    """A weight goes at step 6 in seed 0, 7 in seed 1, unless keys are other ones."""
    state, metrics = train_step(state, batch)
    high, low = jax.random.key_data(state.key)
    spoiled = (high == 0) & (low < 2) & (state.step == 6 + low)
    return state.replace(w=jnp.where(spoiled, jnp.nan, state.w)), metrics


def fit(folder, config=FEW, step=train_step):
    images = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
    config = dataclasses.replace(config, tensorboard=False)
    states = fit_task(Task(init, step, images), run_in(folder, config))
    return [weight_digest(with_plain_key(state)) for state in states]


def rows(folder):
    return [path.read_text() for path in sorted(folder.glob("**/metrics.jsonl"))]


def ask(*_):
    os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_in_the_midst_of_a_row_leaves_no_trace(tmp_path, monkeypatch):
    """The row is the mean over all its steps, also of those before the signal."""
    whole = fit(tmp_path / "whole")
    for step in (1, 2, 3):
        with monkeypatch.context() as patch:
            patch.setattr(CallLength, "observe", ask)
            with pytest.raises(Stopped, match=f"after step {step}, all saved"):
                fit(tmp_path / "asked")
    assert fit(tmp_path / "asked") == whole
    assert rows(tmp_path / "asked") == rows(tmp_path / "whole") != [""]


def test_a_second_sigterm_changes_nothing_and_a_second_sigint_ends_at_once():
    # Where tests run in the background it is ignored, and would stay so
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.closing(Interrupts()) as stop:
        ask()
        ask()
        assert stop.signum == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    signal.signal(signal.SIGINT, former)


def test_a_signal_does_not_wait_for_a_compilation(tmp_path, monkeypatch):
    never = threading.Event()

    def asking(self):
        ask()
        never.wait(60)

    monkeypatch.setattr(MultiStep, "compile", asking)
    with pytest.raises(Stopped, match="after step 0, all saved"):
        fit(tmp_path / "run")
    never.set()


def test_a_context_of_the_caller_holds_in_the_step(tmp_path):
    seen = []

    def seeing(*inputs):
        seen.append(jax.config.jax_default_matmul_precision)
        return train_step(*inputs)

    with jax.default_matmul_precision("highest"):
        fit(tmp_path / "run", step=seeing)
    assert set(seen) == {"highest"}


def test_what_an_action_raises_is_raised():
    stop = Interrupts()
    assert stop.run(max, 3, 4) == (0, 4)
    with pytest.raises(ZeroDivisionError):
        stop.run(divmod, 1, 0)
    stop.close()


def test_going_back_does_not_depend_on_where_calls_end(tmp_path, monkeypatch, logged):
    config = dataclasses.replace(
        FEW, num_seeds=2, on_nonfinite="rollback", checkpoint_every=5
    )
    found = []
    for pace in (1, 5):
        patch = lambda self, *_, pace=pace: setattr(self, "steps", pace)  # noqa: E731
        monkeypatch.setattr(CallLength, "observe", patch)
        folder = tmp_path / f"{pace}"
        found.append((fit(folder, config, spoiled_step), rows(folder)))
        told = logged()
        assert "seed 0: " in told and "seed 1: " in told and "1 of 3" in told
        assert "2 of 3" not in told
        assert told.startswith("WARNING: seed 0: ") and "warning" not in told
    assert found[0] == found[1]
    assert "NaN" not in "".join(found[0][1])
