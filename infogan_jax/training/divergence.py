"""Values that are not finite: detected, described, and undone by a rollback."""

import dataclasses
from typing import Any

import numpy as np

from infogan_jax.config import Config
from infogan_jax.run.checkpoints import named_leaves
from infogan_jax.run.directory import split_members

_MAX_RETRIES = 3  # rollbacks to one state before the run gives up
_SHOWN = 3  # metrics and tensors that a message names
_CURES = (
    "Likely cures: a smaller --d_learning_rate and --g_learning_rate, "
    "--dtype=float32, another --seed"
)
_ROLLBACK = ", --on_nonfinite=rollback"


class Diverged(Exception):
    """A value is no longer finite."""


@dataclasses.dataclass
class Divergence:
    """Which members diverged since the last good state, and what to do about it.

    Attributes:
        diverged: bool `[M]`, since the last rollback.
        reasons: what is not finite, a text per member.
        retried: bool `[M]`, the members that ever caused a rollback to `last_step`.
        retries: rollbacks to `last_step`.
        last_step: the step of the state that was rolled back to.
    """

    config: Config

    def __post_init__(self) -> None:
        members = self.config.num_seeds
        self.diverged, self.reasons = np.zeros(members, bool), list[str]()
        self.retried, self.retries, self.last_step = np.zeros(members, bool), 0, -1

    def to_notes(self) -> dict[str, Any]:
        """Returns the last rollback, as JSON can hold it."""
        retried = [bool(x) for x in self.retried]
        return {"step": self.last_step, "retries": self.retries, "retried": retried}

    def recall(self, notes: dict[str, Any], step: int) -> None:
        """Takes up a rollback that an earlier process recorded, if it was to `step`."""
        if notes.get("step") == step:
            self.last_step, self.retries = step, notes["retries"]
            self.retried = np.array(notes["retried"], bool)

    @property
    def is_pending(self) -> bool:
        """Whether a member has diverged since the last rollback."""
        return bool(self.diverged.any())

    @property
    def _stops(self) -> bool:
        return self.config.on_nonfinite == "stop"

    def check(
        self,
        state: Any,
        metrics: dict[str, np.ndarray],
        norm: np.ndarray,
        begin: int,
        end: int,
    ) -> None:
        """Looks at the metrics of steps `begin` to `end - 1`.

        Args:
            state: after the last step, of all members.
            metrics: of each step, `[M, K]` each.
            norm: of all parameters after the last step, `[M]`.
            begin: the first step.
            end: the step after the last one.
        """
        is_new = ~is_finite(metrics, norm) & ~self.diverged
        if is_new.any():
            states = split_members(state, self.config)
            seeds, steps = self.config.seeds, (begin, end)
            self.reasons += describe(states, metrics, norm, seeds, is_new, steps)
            self.diverged = self.diverged | is_new

    def must_act(self, is_at_boundary: bool) -> bool:
        """Returns whether to roll back or to stop now.

        Roll back only at a logging or checkpoint boundary: the result must not depend
        on how many steps a compiled call happens to take.
        """
        return self.is_pending and (self._stops or is_at_boundary)

    def start_rollback(self, last_step: int) -> str:
        """Records a rollback to step `last_step`, caused by the members in `diverged`.

        Returns:
            What to tell the user, in a line.

        Raises:
            Diverged: the config says stop, or there were too many rollbacks already.
        """
        if last_step != self.last_step:
            self.retried = np.zeros_like(self.retried)
            self.retries, self.last_step = 0, last_step
        self.retries += 1
        self.retried = self.retried | self.diverged
        what = "; ".join(self.reasons)
        self.diverged, self.reasons = np.zeros_like(self.diverged), []
        if self._stops or self.retries > _MAX_RETRIES:
            more = _ROLLBACK if self._stops else ""
            raise Diverged(f"{what}; {self._kept()}. {_CURES}{more}")
        return (
            f"{what}; back to step {last_step:,} with other random numbers, "
            f"{self.retries} of {_MAX_RETRIES}"
        )

    def _kept(self) -> str:
        times = f"{self.retries} times; " if self.retries > 1 else ""
        kept = f"the state of step {self.last_step:,} is kept"
        return times + (kept if self.last_step else "nothing was saved yet")


def is_finite(metrics: dict[str, np.ndarray], norm: np.ndarray) -> np.ndarray:
    """Returns True for each member whose metrics and parameter norm are finite.

    Args:
        metrics: `[M, K]` each.
        norm: of all parameters, `[M]`.

    Returns:
        bool `[M]`.
    """
    finite = np.isfinite(np.column_stack([*metrics.values(), norm]))
    return np.asarray(finite.all(axis=1))


def describe(
    states: list[Any],
    metrics: dict[str, np.ndarray],
    norm: np.ndarray,
    seeds: list[int],
    members: np.ndarray,
    steps: tuple[int, int],
) -> list[str]:
    """Returns what is not finite in some members, and by which step.

    Only the parameters after the last step are seen. Earlier damage to them shows in
    the metrics of the step that follows.

    Args:
        states: after the last step, of each member.
        metrics: of each step, `[M, K]` each.
        norm: of all parameters after the last step, `[M]`.
        seeds: of each member.
        members: which ones to describe, bool `[M]`.
        steps: the first step, and the one after the last.
    """
    begin, end = steps
    lines = []
    for m in np.flatnonzero(members):
        broken = {name: ~np.isfinite(values[m]) for name, values in metrics.items()}
        since = {n: begin + 1 + int(x.argmax()) for n, x in broken.items() if x.any()}
        if not np.isfinite(norm[m]):
            since["norm/state"] = end
        tensors = [
            name
            for name, leaf in named_leaves(states[m].variables()).items()
            if not np.isfinite(np.asarray(leaf, np.float32)).all()
        ]
        whose = f"seed {seeds[m]}: " if len(seeds) > 1 else ""
        where = f" (in {_first(tensors)})" if tensors else ""
        lines.append(
            f"{whose}{_first(sorted(since))} not finite by step "
            f"{min(since.values()):,}{where}"
        )
    return lines


def _first(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
