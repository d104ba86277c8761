"""How much of each code is explained by an object's position and orientation."""

import numpy as np

from infogan_jax.data.imaging import pose
from infogan_jax.evaluation import Subject
from infogan_jax.evaluation.results import Measures


def pose_r2(codes: np.ndarray, poses: np.ndarray) -> float:
    """Returns the R2 of codes as a function of the pose.

    Least squares on position, its squares, and sine and cosine of the angle and of
    twice the angle; fitted to every other image, measured on the rest.

    Args:
        codes: of each image, `[N, d]`.
        poses: row, column and angle (radians) of each, `[N, 3]`.

    Returns:
        R2 on the rest, 0 or more.
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


def evaluate(subject: Subject) -> Measures:
    """Measures each code as Q reads it from held-out images."""
    images = subject.data.eval_images
    poses = np.array([pose(image) for image in images])
    codes = subject.trained.infer_codes(images)
    return Measures({name: {"r2": pose_r2(codes[name], poses)} for name in codes})
