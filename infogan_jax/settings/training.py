"""Sections of settings: what is trained, and how."""

import dataclasses

from infogan_jax import former
from infogan_jax.core.augment import WARPS, parse_warp
from infogan_jax.core.losses import GAN_LOSSES, PENALTIES
from infogan_jax.core.models import ARCHITECTURES, DTYPES
from infogan_jax.core.spec import parse_spec
from infogan_jax.errors import UserError, check_one_of
from infogan_jax.fields import INT32_END, any_of, field

# Files of infogan_jax/evaluation, one for each.
EVALUATORS = (
    "appearance",
    "clustering",
    "code_auc",
    "conditional_accuracy",
    "disentanglement",
    "explained_variance",
    "fidelity",
    "kinds",
    "label_free",
    "metadata",
    "pose_r2",
    "traversal",
    "treatments",
    "two_sample",
)
DEFAULT_COMPOSITE = "red,blue,lime,yellow,cyan,magenta"


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Codes and networks"""

    codes: str = field(
        "cat:10,uniform:2,noise:62",
        "Latent codes: kind:size[:weight=W][:sigma=S][:prior=P,P,..], separated by "
        "commas; cat:K:prior=learned for kinds that are not equally frequent.",
    )
    architecture: str = field("mnist", f"Networks: {any_of(ARCHITECTURES)}.")
    base_channels: int = field(
        0,
        "Channels at full resolution, of dcgan, residual and resnet; 0: the standard "
        "of each.",
        least=0,
    )
    dtype: str = field(
        "float32",
        f"Type of the networks' arithmetic, {any_of(DTYPES)}; parameters stay "
        "float32. On CPUs bfloat16 is faster only with AMX.",
    )

    def check(self) -> None:
        """Raises UserError for the first field that cannot work."""
        if (better := former.ARCHITECTURES.get(self.architecture)) is not None:
            raise UserError(
                f"--architecture={self.architecture}: gone since 0.2.0; train by "
                f"{better}, or open a former run with the version that made it"
            )
        check_one_of("architecture", self.architecture, ARCHITECTURES)
        check_one_of("dtype", self.dtype, DTYPES)
        try:
            spec = parse_spec(self.codes)
        except ValueError as error:
            raise UserError(f"--{error}") from None
        if not any(code.n_params for code in spec):
            raise UserError(
                f"--codes={self.codes}: Q needs a code to read, even if it only "
                "watches; add one, such as cat:10"
            )


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """Objective"""

    gan_loss: str = field("non_saturating", f"Losses of D and G: {any_of(GAN_LOSSES)}.")
    gan_weight: float = field(
        1.0,
        "alpha, the factor of the adversarial losses of D and G; more of it makes "
        "better pictures.",
        least=0,
    )
    gan_on_copies: float = field(
        0.0,
        "Fraction, 0 to 1, of the adversarial losses that is read from augmented "
        "copies of real and generated images, so that D cannot learn few images by "
        "heart; needs --augment.",
        least=0,
        most=1,
    )
    info_weight: float = field(1.0, "lambda, the factor of I(c; G).", least=0)
    real_mi_weight: float = field(
        0.0, "mu, the factor of I(c; x) on real images.", least=0
    )
    consistency_fraction: float = field(
        0.0,
        "Fraction, 0 to 1, of I(c; x) that is taken as consistency of images with "
        "their augmented copies; the rest is mutual information.",
        least=0,
        most=1,
    )
    entropy_weight: float = field(
        0.0,
        "Further factor, within mu, of the entropy of the categories in use.",
        least=0,
    )
    equivariance_weight: float = field(
        0.0,
        "nu, the factor of I(c' - c; w): the first continuous codes follow what "
        "augmentation changes: slant and width of upright images; size, colour and "
        "focus if it rotates or flips them.",
        least=0,
    )
    prior_weight: float = field(
        0.0,
        "eta, the factor of the squared distance between the continuous codes that Q "
        "reads in real images and their prior; codes become quantiles.",
        least=0,
    )
    penalty: str = field(
        "r1_r2",
        f"Gradient penalty of D: {any_of(PENALTIES)}, used if it has a weight.",
    )
    penalty_weight: float = field(0.0, "gamma, the factor of the penalty.", least=0)
    penalty_every: int = field(
        1, "Every n-th image of a batch is penalised, at less cost.", least=1
    )
    pseudo_label_step: int = field(
        0,
        "Step from which on Q learns pseudo-labels: categories of the training images "
        "at that step, corrected by their neighbours, or, with cat:K:prior=learned, "
        "found by them; 0, or beyond --steps: never.",
        least=0,
    )
    augment: str = field(
        "none",
        f"Label-preserving augmentation, what a category must not mean: "
        f"{any_of(WARPS)}; parts changed as in cells:rotation=90:gain=0.",
    )
    augment_every: int = field(
        2, "Every n-th image of a batch is also seen augmented.", least=1
    )

    def check(self) -> None:
        """Raises UserError for the first field that cannot work."""
        check_one_of("gan_loss", self.gan_loss, GAN_LOSSES)
        check_one_of("penalty", self.penalty, PENALTIES)
        try:
            augment = parse_warp(self.augment)
        except ValueError as error:
            raise UserError(f"--{error}") from None
        if self.real_mi_weight > 0:
            if self.info_weight == 0:
                raise UserError(
                    f"--real_mi_weight={self.real_mi_weight}: --info_weight=0 is a "
                    "plain GAN that Q watches; set --real_mi_weight=0, or "
                    "--info_weight above 0"
                )
            if augment is None:
                raise UserError(
                    f"--real_mi_weight={self.real_mi_weight}: needs augmented copies; "
                    f"choose --augment, one of {sorted(set(WARPS) - {'none'})}"
                )
        elif self.pseudo_label_step > 0:
            raise UserError(
                f"--pseudo_label_step={self.pseudo_label_step}: Q learns pseudo-labels "
                "in place of I(c; x); set --real_mi_weight above 0, or "
                "--pseudo_label_step=0"
            )


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Optimisation"""

    batch_size: int = field(128, "Images per step, over all devices.", least=2)
    g_learning_rate: float = field(1e-3, "Adam's step size for G.", least=0)
    d_learning_rate: float = field(2e-4, "Adam's step size for D and Q.", least=0)
    adam_b1: float = field(0.5, "Adam's decay of the mean gradient.", least=0, below=1)
    adam_b2: float = field(
        0.999, "Adam's decay of the squared gradient.", least=0, below=1
    )
    lr_decay_fraction: float = field(
        0.0,
        "Fraction of the run, at its end, over which the step sizes fall to 0.",
        least=0,
        most=1,
    )
    ema_decay: float = field(
        0.99, "Decay per step of G's averaged weights.", least=0, below=1
    )
    seed: int = field(0, "Seed of everything that is drawn.", least=0)
    num_seeds: int = field(
        1,
        "Members trained at once, with seeds --seed, --seed + 1 and so on.",
        least=1,
    )

    def check(self) -> None:
        """Raises UserError if the last member's seed is too large."""
        if self.seed + self.num_seeds > INT32_END:
            raise UserError(
                f"--seed={self.seed} --num_seeds={self.num_seeds}: expected a sum "
                f"of at most {INT32_END}"
            )


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """The run"""

    steps: int = field(
        23_400,
        "Updates of each player in the whole run.",
        least=1,
        changeable=True,
    )
    log_every: int = field(
        25,
        "Steps between log lines, which give means over them.",
        least=1,
        changeable=True,
    )
    checkpoint_every: int = field(
        500, "Steps between checkpoints.", least=1, changeable=True
    )
    max_to_keep: int = field(
        2, "Checkpoints kept, the newest ones.", least=1, changeable=True
    )
    sample_every: int = field(
        100,
        "Steps between frames of the animation; 0: none.",
        least=0,
        changeable=True,
    )
    eval_every: int = field(
        0,
        "Steps between evaluations; 0: at the end only.",
        least=0,
        changeable=True,
    )
    evaluators: str = field(
        "clustering,label_free,traversal",
        f"Measures on held-out images, by commas: {', '.join(EVALUATORS)}.",
        changeable=True,
    )
    choose_by: str = field(
        "categories",
        "By what one of several members is chosen, without a label: the one whose "
        "categories, or whose codes, are most like those of the others.",
        changeable=True,
    )
    eval_classifier: str = field(
        "",
        "Work directory of the classification network by which pictures are measured.",
        changeable=True,
    )
    baseline: str = field(
        "",
        "Work directory of a plain GAN, for the report's comparisons.",
        changeable=True,
    )
    composite: str = field(
        DEFAULT_COMPOSITE,
        "Colours of the channels in pictures, where those are not grey or RGB, each "
        "with a name if you like, as in brightfield=white,DNA=lime; black hides one.",
        changeable=True,
    )
    on_nonfinite: str = field(
        "stop",
        "At a value that is not finite: stop, or rollback to the last good state and "
        "continue with other random numbers, at most 3 times from each state.",
        changeable=True,
    )
    tensorboard: bool = field(
        True, "Write TensorBoard events beside metrics.jsonl.", changeable=True
    )
    profile: bool = field(
        False,
        "Write a trace of one compiled call to WORKDIR/profile, and show how much of "
        "the roofline of a step is reached.",
        changeable=True,
    )

    def check(self) -> None:
        """Raises UserError for the first field that cannot work."""
        check_one_of("choose_by", self.choose_by, ("categories", "codes"))
        check_one_of("on_nonfinite", self.on_nonfinite, ("stop", "rollback"))
        for name in self.evaluator_names():
            check_one_of("evaluators", name, EVALUATORS)

    def evaluator_names(self) -> list[str]:
        """Returns the evaluators that are asked for."""
        names = (name.strip() for name in self.evaluators.split(","))
        return [name for name in names if name]
