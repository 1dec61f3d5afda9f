"""The two protocols: what a network of the paper is trained on, and for how long.

`paper` follows the paper: its data, Tables 10 and 11. `demo` trains the very same networks on
scikit-learn's handwritten digits for minutes on a laptop's CPU; what it shows is that the suite
works, not whether the paper holds.
"""

from __future__ import annotations

from dataclasses import dataclass

from dia_repro.errors import UsageError
from dia_repro.experiments.names import Precision, Protocol
from dia_repro.experiments.spec import DataSpec, ModelSpec, RecipeSpec, Spec
from dia_repro.paper import hyperparameters

DATASETS = {
    "digits": DataSpec(dataset="digits", classes=10, image_size=8, augmentation="none"),
    "cifar10": DataSpec(dataset="cifar10", classes=10, image_size=32, augmentation="crop4-flip"),
    "cifar100": DataSpec(dataset="cifar100", classes=100, image_size=32, augmentation="crop4-flip"),
}

# For estimates, before anything is loaded.
TRAINING_IMAGES = {"digits": 1442, "cifar10": 50_000, "cifar100": 50_000}

# Chosen so that the shallowest and the deepest network of Table 5 both learn within minutes:
# the paper's rate of 0.1 leaves the 407-layer SENet at 30 % after as many epochs.
DEMO_RECIPE = RecipeSpec(
    epochs=8,
    batch_size=64,
    lr=0.01,
    momentum=0.9,
    weight_decay=1e-4,
    milestones=(5, 7),
    gamma=0.1,
)

# The paper trained in float32 on cards without TF32. Where numerics are not the subject, TF32
# is the default on cards that have it; a CPU has only fp32.
GPU_PRECISION: dict[Protocol, Precision] = {
    Protocol.PAPER: Precision.TF32,
    Protocol.DEMO: Precision.FP32,
}


@dataclass(frozen=True)
class Request:
    """How an artifact's networks are to be trained, as asked on the command line.

    Attributes:
        precision: arithmetic of the training step.
        precision_asked: whether the user said so; where numerics are the subject (Table 8,
            Figure 6), fp32 is trained otherwise.
        dataset: another data set than the artifact's own, by name; None for its own.
    """

    protocol: Protocol
    precision: Precision = Precision.FP32
    dataset: str | None = None
    precision_asked: bool = False


def paper_recipe(network: str) -> RecipeSpec:
    """The recipe of a network of Table 10 or 11, e.g. `ResNet164`."""
    paper = hyperparameters()[network]
    return RecipeSpec(
        epochs=paper.epochs,
        batch_size=paper.batch_size,
        lr=paper.lr,
        momentum=paper.momentum,
        weight_decay=paper.weight_decay,
        milestones=paper.schedule,
        gamma=paper.gamma,
    )


def make_spec(
    model: ModelSpec, network: str, dataset: str, request: Request, *, augment: bool = True
) -> Spec:
    """The experiment that trains a model as a request says.

    Args:
        model: the network.
        network: the column of Table 10 or 11 whose recipe the `paper` protocol follows.
        dataset: the data that the artifact shows in the paper.
        request: protocol, precision and, if asked for, other data.
        augment: False leaves training images as they are (Table 9).

    Raises:
        UsageError: the data set asked for is unknown.
    """
    if request.protocol is Protocol.DEMO:
        name, recipe = request.dataset or "digits", DEMO_RECIPE
    else:
        name, recipe = request.dataset or dataset, paper_recipe(network)
    if name not in DATASETS:
        known = ", ".join(DATASETS)
        raise UsageError(f"unknown data set {name!r}: choose one of {known}")
    data = DATASETS[name]
    if not augment:
        data = data.model_copy(update={"augmentation": "none"})
    return Spec(data=data, model=model, recipe=recipe, precision=request.precision.value)
