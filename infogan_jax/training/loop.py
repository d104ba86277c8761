"""The loop: from where a work directory left off to the last step."""

import contextlib
from typing import Any

from infogan_jax.distributed import processes
from infogan_jax.run.directory import Run, split_members
from infogan_jax.training.divergence import Divergence
from infogan_jax.training.feed import Feeder
from infogan_jax.training.hooks import Hooks, Position
from infogan_jax.training.interrupt import Interrupts, Stopped, run_in_thread
from infogan_jax.training.programs import Pause, Programs, PseudoLabels, Trace, call
from infogan_jax.training.schedule import CallLength, next_stop
from infogan_jax.training.start import Starter
from infogan_jax.training.task import Task


def fit(task: Task, run: Run) -> list[Any]:
    """Trains to `run.config.steps`, from where the work directory left off.

    Returns:
        The state of each member.

    Raises:
        Stopped: by SIGINT or SIGTERM, after saving.
        Diverged: a loss or a parameter is not finite; the last good state is kept.
    """
    config = run.config
    with contextlib.ExitStack() as stack:
        interrupts = stack.enter_context(contextlib.closing(Interrupts()))
        checkpoints = stack.enter_context(contextlib.closing(run.open_checkpoints()))
        feeder = stack.enter_context(contextlib.closing(Feeder(task, config)))
        start = Starter(task, run, checkpoints, feeder.mesh)
        programs = Programs(task, run, feeder, checkpoints.latest() or 0)
        reading = run_in_thread(feeder.read)
        guard = Divergence(config)
        position = start.restore_or_init(guard)
        pause = Pause(interrupts, checkpoints, run)
        processes.on_all(lambda: pause(position, reading.result))
        feeder.put()
        trace = Trace(task, run, feeder, position.step)
        hooks = Hooks(task, run, checkpoints, feeder, position, trace.min_step_time)
        stack.enter_context(contextlib.closing(hooks))
        labels = PseudoLabels(task, run, feeder)
        calls = CallLength(feeder.max_steps)
        if programs.started_early and config.eval_every:
            hooks.precompile(position)

        end = min(position.step + 1, config.steps)
        while True:
            signum, length = processes.all_max(interrupts.signum, calls.steps)
            is_done = position.step >= config.steps
            if is_done or (signum and not guard.is_pending):
                break
            stop = next_stop(config, end, task.pseudo_label_step)
            next_end = min(stop, end + length) if end < config.steps else end
            inputs = feeder.get(position.step, end, next_end)
            pseudo_labels = labels.get(position, pause)
            program = programs.get(position, inputs, pseudo_labels, pause)
            with trace.at(position.step):
                state, metrics, norm, seconds = call(
                    program, position, inputs, pseudo_labels, config.num_seeds, end
                )
            calls.observe(end - position.step, seconds)
            guard.check(state, metrics, norm, position.step, end)
            stop = next_stop(config, position.step, task.pseudo_label_step)
            if guard.must_act(end == stop):
                position = start.roll_back(guard, hooks)
                labels.forget()
                stop = next_stop(config, position.step, task.pseudo_label_step)
                end = min(stop, position.step + length)
                continue
            position.means.add(metrics)
            position = Position(end, state, position.means)
            end = next_end
            hooks(position, norm)
        position.save(checkpoints)
        checkpoints.wait()
        (signum,) = processes.all_max(interrupts.signum)
    if signum:
        raise Stopped(signum, position.step, run.path)
    return split_members(position.state, config)
