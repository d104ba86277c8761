"""The compiled calls of the loop, the labels that they take, and a trace of one."""

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import jax
import numpy as np

from infogan_jax.distributed import devices, processes
from infogan_jax.run.checkpoints import Checkpoints
from infogan_jax.run.directory import Run, split_members, state_shapes
from infogan_jax.training.feed import Feeder
from infogan_jax.training.hooks import Position
from infogan_jax.training.interrupt import Interrupts, Stopped, run_in_thread
from infogan_jax.training.schedule import next_stop
from infogan_jax.training.task import Task


class Pause:
    """Saves, then runs a long action that a signal may interrupt."""

    def __init__(self, interrupts: Interrupts, checkpoints: Checkpoints, run: Run):
        self._interrupts, self._checkpoints, self._run = interrupts, checkpoints, run

    def __call__(self, position: Position, action: Callable, *inputs: Any) -> Any:
        """Returns the action's result; raises Stopped if a signal arrives before."""
        if position.step:
            position.save(self._checkpoints)
        signum, result = self._interrupts.run(action, *inputs)
        if signum:
            raise Stopped(signum, position.step, self._run.path)
        return result


class Programs:
    """The compiled calls, without and with pseudo-labels; the first one early."""

    def __init__(self, task: Task, run: Run, feeder: Feeder, begin: int):
        config, mesh = run.config, feeder.mesh
        self._steps = devices.make_multi_step(
            task.train_step,
            mesh,
            feeder.max_steps,
            config.num_seeds,
            feeder.is_streamed,
        )
        self._compiled: dict[bool, devices.MultiStep] = {}
        self._early: Future | None = None
        if begin < min(config.steps, task.pseudo_label_step):
            # Compiled from shapes, while the data are read.
            state = state_shapes(task.init, config)
            state = devices.shapes(state, devices.placement(mesh, config.num_seeds))
            lowered = self._steps.lower(state, *feeder.take(begin, begin + 1))
            self._early = run_in_thread(lowered.compile)

    @property
    def started_early(self) -> bool:
        """Whether a program compiles already."""
        return self._early is not None

    def get(
        self,
        position: Position,
        inputs: tuple[Any, np.ndarray],
        pseudo_labels: Any,
        pause: Pause,
    ) -> devices.MultiStep:
        """Returns the compiled call for such inputs."""
        has_labels = pseudo_labels is not None
        if has_labels not in self._compiled:
            if self._early and not has_labels:
                self._compiled[False] = pause(position, self._early.result)
            else:
                lowered = self._steps.lower(position.state, *inputs, pseudo_labels)
                self._compiled[has_labels] = pause(position, lowered.compile)
        return self._compiled[has_labels]


def call(
    program: devices.MultiStep,
    position: Position,
    inputs: tuple[Any, np.ndarray],
    pseudo_labels: Any,
    members: int,
    end: int,
) -> tuple[Any, dict[str, np.ndarray], np.ndarray, float]:
    """Takes the steps up to `end`.

    Returns:
        The state; metrics of each step, `[M, K]` each; the norm of all parameters,
        `[M]`; and the seconds that it took.
    """
    begin = time.perf_counter()
    state, metrics, norm = program(position.state, *inputs, pseudo_labels)
    metrics, norm = devices.gather((metrics, norm))
    count = end - position.step
    metrics = {
        name: np.asarray(values).reshape(members, -1)[:, :count]
        for name, values in metrics.items()
    }
    return state, metrics, np.ravel(norm), time.perf_counter() - begin


class PseudoLabels:
    """The pseudo-labels of the training images, from the step on that has them."""

    def __init__(self, task: Task, run: Run, feeder: Feeder):
        self._task, self._config, self._feeder = task, run.config, feeder
        self._placement = devices.placement(feeder.mesh, run.config.num_seeds)
        self._labels: Any = None

    def forget(self) -> None:
        """Drops the labels; the next `get` computes or reads them."""
        self._labels = None

    def get(self, position: Position, pause: Pause) -> Any:
        """Returns int `[N]`, or `[M, N]` of several members; None before their step."""
        if position.step < self._task.pseudo_label_step:
            self._labels = None
        elif self._labels is None:
            states = split_members(position.state, self._config)
            action: tuple = (self._feeder.no_labels,)
            if processes.is_primary():
                action = (self._task.pseudo_labels, position.step, states)
            labels = processes.on_all(lambda: pause(position, *action))
            labels = processes.broadcast(labels)
            labels = labels if self._config.num_seeds > 1 else labels[0]
            self._labels = jax.device_put(labels, self._placement)
        return self._labels


class Trace:
    """A profiler trace of the first full call, if the config asks for one."""

    def __init__(self, task: Task, run: Run, feeder: Feeder, step: int):
        self._step, self._folder, self.min_step_time = -1, run.profile, 0.0
        if run.config.profile and processes.is_primary():
            self._step = next_stop(run.config, step, task.pseudo_label_step)
            self.min_step_time = feeder.min_step_time()

    def at(self, step: int) -> contextlib.AbstractContextManager:
        """Returns a context for the call at a step, for TensorBoard and Perfetto."""
        if step != self._step:
            return contextlib.nullcontext()
        folder = str(self._folder)
        return jax.profiler.trace(folder, create_perfetto_trace=True)
