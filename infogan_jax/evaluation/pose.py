"""How far codes are spent on where an object is and how it lies."""

import numpy as np

from infogan_jax.data.imaging import pose
from infogan_jax.evaluation.inference import apply
from infogan_jax.latents import parse_spec
from infogan_jax.steps import infer_codes


def share_explained(codes: np.ndarray, poses: np.ndarray) -> float:
    """The share of the variance of codes that a function of the pose explains.

    Least squares on position, its squares, and sine and cosine of the angle and of
    twice the angle; fitted to every other image, measured on the rest.

    Args:
        codes: of each image, `[N, d]`.
        poses: row, column and angle (radians) of each, `[N, 3]`.

    Returns:
        R2, 0 or more.
    """
    row, column, angle = poses.T
    waves = [f(k * angle) for f in (np.sin, np.cos) for k in (1, 2)]
    x = np.stack([np.ones_like(row), row, column, row**2, column**2, *waves], axis=1)
    weights = np.linalg.lstsq(x[::2], codes[::2], rcond=None)[0]
    rest = codes[1::2]
    total = ((rest - rest.mean(0)) ** 2).sum()
    if total < 1e-12:
        return 0.0
    return max(0.0, float(1 - ((rest - x[1::2] @ weights) ** 2).sum() / total))


def evaluate(state, config, data) -> dict:
    """Of each code as Q reads it from held-out images."""
    poses = np.array([pose(image) for image in data.eval_images])
    codes = apply(infer_codes, state, data.eval_images, config)
    return {
        code.name: {"explained_by_pose": share_explained(codes[code.name], poses)}
        for code in parse_spec(config.codes)
        if code.n_params
    }
