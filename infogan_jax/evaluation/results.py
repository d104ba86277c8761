"""What evaluators return, typed, and its form in JSON."""

import dataclasses
from typing import Any, NotRequired, TypedDict

import msgspec


class AppearanceRow(TypedDict):
    """Means of a property, and its distances in the real images' standard deviation."""

    real: float
    generated: float
    distance: float
    real_reference: float


class ClusteringRow(TypedDict):
    """Agreement of a categorical code's categories with classes."""

    accuracy: float
    purity: float
    nmi: float
    ari: float
    code_to_class: list[int | None]
    table: list[list[int]]  # counts [category][class]
    warnings: list[str]


class CodeAucRow(TypedDict):
    """How well the best code separates a class."""

    auc: float
    code: str
    table: dict[str, float]  # AUC by code
    examples: dict[str, list[int]]  # group -> indices of held-out images


class ConditionalAccuracyRow(TypedDict):
    """How well the categories of a code determine the classes of generated images."""

    conditional_accuracy: float
    per_category: list[float]
    modes: int
    class_nmi: float
    entropy: float
    table: list[list[int]]  # counts [category][class]


class DisentanglementRow(TypedDict):
    """The measures of `evaluation/disentanglement.py`, each at most 1."""

    factor_vae: float
    factor_vae_of_infogan_cr: float
    beta_vae: float
    mig: float
    dci_disentanglement: float
    dci_completeness: float
    dci_informativeness: float
    sap: float
    modularity: float
    explicitness: float
    info_modularity: float
    info_compactness: float
    info_explicitness: float


class ExplainedVarianceRow(TypedDict):
    """How much of real images a code explains; groups at its ends, outermost first."""

    r2: float
    low: list[str]
    high: list[str]


class FidelityRow(TypedDict):
    """Distances of a set of images to real ones."""

    fid: float
    kid: float
    precision: float
    recall: float
    density: float
    coverage: float


class Community(TypedDict):
    """Images that are neighbours of each other."""

    images: int
    category: NotRequired[int]  # that Q gives to most of them
    fraction: NotRequired[float]  # of them that have it


class KindsOverall(TypedDict):
    """How communities of neighbours merge; see `evaluation/kinds.py`."""

    suggested: list[int]  # numbers of kinds, one by each division into communities
    shared: list[tuple[int, float]]  # sets before a merger, and its share of links
    mergers: list[tuple[int, int]]  # from the number of communities on: earlier mergers
    communities: list[Community]


class LabelFreeRow(TypedDict):
    """Scores of a code that need no label, in nats; the last one is a fraction."""

    bound: float
    mi_real: NotRequired[float]
    marginal_entropy: NotRequired[float]
    consistency: NotRequired[float]


class MetadataRow(TypedDict):
    """How much codes tell of a column of metadata, beside what chance tells."""

    nmi: float  # of the main code's categories
    nmi_by_chance: float
    auc: float  # of the best code, for the value that it tells best from the others
    auc_by_chance: float
    code: str
    value: str
    units: int  # groups, or images, among which values were shuffled


class PoseRow(TypedDict):
    """R2 of a code as a function of the object's pose."""

    r2: float


class TreatmentRow(TypedDict):
    """The effect of a treatment on a code; see `evaluation/treatments.py`."""

    column: str
    value: str  # that is compared with the control; "trend": all doses in order
    control: str
    code: str
    effect: float | None  # difference of wells' means, or slope; None: there is none
    low: float | None  # of the 95 % confidence interval
    high: float | None
    in_deviations: float | None  # the effect over that of the control's cells
    p: float | None  # None: no test is possible
    q: float | None
    plates: int
    plates_that_agree: int
    wells: int
    control_wells: int


def surest_first(rows: list[TreatmentRow]) -> list[TreatmentRow]:
    """Returns effects by q, and those of equal q by size, untested ones last."""

    def rank(row: TreatmentRow) -> tuple[bool, float, float]:
        return row["q"] is None, row["q"] or 0.0, -abs(row["in_deviations"] or 0.0)

    return sorted(rows, key=rank)


class WellRow(TypedDict):
    """A well, and the value of a column that it has."""

    plate: str
    value: str
    cells: int
    means: list[float]  # of each code, or a category's share


class TreatmentsOverall(TypedDict):
    """All treatments and codes."""

    names: list[str]  # of the codes
    rows: list[TreatmentRow]
    wells: dict[str, list[WellRow]]  # by column
    notes: list[str]


class TraversalRow(TypedDict):
    """What a continuous code does to properties of the image."""

    name: str  # of the property with the best R2, or "unnamed"
    r2: dict[str, float]
    slope: dict[str, float]


class TwoSampleRow(TypedDict):
    """How well a network tells held-out real images from others."""

    accuracy: float
    auc: float


class ExplainedVarianceOverall(TypedDict):
    """What all codes together explain."""

    together: float


class FidelityOverall(TypedDict):
    """What belongs to the comparison as a whole."""

    near_duplicate_rate: float
    nearest: list[int]  # training images, of the first generated images
    searched: int
    images: int
    extractor: str


class Warnings(TypedDict):
    """Signs that something went wrong."""

    warnings: list[str]


_ROWS: dict[str, Any] = {
    "appearance": AppearanceRow,
    "clustering": ClusteringRow,
    "code_auc": CodeAucRow,
    "conditional_accuracy": ConditionalAccuracyRow,
    "disentanglement": DisentanglementRow,
    "explained_variance": ExplainedVarianceRow,
    "fidelity": FidelityRow,
    "kinds": Any,  # there are none: all is of the images as a whole
    "label_free": LabelFreeRow,
    "metadata": MetadataRow,
    "pose_r2": PoseRow,
    "traversal": TraversalRow,
    "treatments": Any,  # there are none by code alone
    "two_sample": TwoSampleRow,
}
_OVERALL: dict[str, Any] = {
    "explained_variance": ExplainedVarianceOverall,
    "fidelity": FidelityOverall,
    "kinds": KindsOverall,
    "label_free": Warnings,
    "metadata": Warnings,
    "treatments": TreatmentsOverall,
}


@dataclasses.dataclass(frozen=True)
class Measures:
    """What was measured."""

    rows: dict[str, Any]  # by code, class or set of images; a TypedDict from above
    overall: Any = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return self.rows | self.overall


@dataclasses.dataclass(frozen=True)
class Skipped:
    """Why nothing was measured."""

    reason: str

    def to_json(self) -> dict[str, Any]:
        return {"skipped": self.reason}


def from_json(name: str, content: dict[str, Any]) -> Measures | Skipped:
    """Returns what `to_json` of either made of an evaluator's result.

    Raises:
        ValueError: it is not of that evaluator's form.
    """
    if set(content) == {"skipped"} and isinstance(content["skipped"], str):
        return Skipped(str(content["skipped"]))
    overall = _OVERALL.get(name)
    names = set(overall.__annotations__) if overall else set()
    rows = {k: v for k, v in content.items() if k not in names}
    rest = {k: v for k, v in content.items() if k in names}
    return Measures(
        {key: msgspec.convert(row, _ROWS[name]) for key, row in rows.items()},
        msgspec.convert(rest, overall) if overall else {},
    )


@dataclasses.dataclass(frozen=True)
class Member:
    """What is known of one member; nats, and fractions of images."""

    seed: int
    score: float  # by which the members are compared; see `Choice.because`
    bound: float | None = None
    mi_real: float | None = None
    marginal_entropy: float | None = None
    consistency: float | None = None
    accuracy: float | None = None  # on held-out labels, after the choice
    rank: int | None = None  # by accuracy, from 1


@dataclasses.dataclass(frozen=True)
class Choice:
    """The member that was chosen, and why."""

    chosen: int  # its seed
    because: str
    members: list[Member]
