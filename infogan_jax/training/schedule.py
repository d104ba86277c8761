"""When something is due, and how many steps a compiled call takes."""

import math

from infogan_jax.config import Config

_MAX_STEPS = 1000  # per compiled call
_CALL_SECONDS = 1.0  # target length of a compiled call, which a signal has to wait for


def intervals(config: Config) -> list[int]:
    """Returns the steps between what is due again and again."""
    always = [config.log_every, config.checkpoint_every]
    return always + [n for n in (config.sample_every, config.eval_every) if n]


def next_stop(config: Config, step: int, pseudo_label_step: float = math.inf) -> int:
    """Returns the next step after `step` at which anything is due."""
    due = [n * (step // n + 1) for n in intervals(config)]
    if step < pseudo_label_step < math.inf:
        due.append(int(pseudo_label_step))
    return min(config.steps, *due)


def max_call_steps(config: Config) -> int:
    """Upper bound on steps per compiled call: at most the shortest interval."""
    return min(_MAX_STEPS, config.steps, *intervals(config))


class CallLength:
    """How many steps a compiled call takes, by the duration of the last one."""

    def __init__(self, most: int):
        self.steps, self._most = 1, most

    def observe(self, steps: int, seconds: float) -> None:
        """Takes the duration of a call into account."""
        self.steps = max(1, min(self._most, int(_CALL_SECONDS * steps / seconds)))
