"""Which is slower, making batches or training on them: for images that are streamed from disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dia_repro.data.throughput import CoreRate
from dia_repro.execution.planning import PlannedRun
from dia_repro.experiments.protocols import LARGEST_LIKE_CIFAR
from dia_repro.experiments.spec import DataSpec

EVEN = 1.1  # closer than that, neither is called the bottleneck


@dataclass(frozen=True)
class Balance:
    """A data path against a training.

    Attributes:
        data: name of the data.
        rate: of the data path, on one core.
        cores: that make batches for one run.
        runs: at a time.
        network: what is trained.
        training: images a second that its training takes, were they there at once; None where
            there is no GPU to keep busy, and training was not measured.
        device: where it is trained; `cpu` shares its cores with the data path.
        pack: the command that packs the data; None where they are packed, or cannot be.
    """

    data: str
    rate: CoreRate
    cores: int
    runs: int
    network: str
    training: float | None
    device: str
    pack: str | None = None

    @property
    def supply(self) -> float:
        """Images a second that the data path gives one run."""
        return self.rate.per_core * self.cores

    @property
    def bottleneck(self) -> str:
        """`data`, `training`, or `even`."""
        if self.training is None:
            return "training"
        if self.training > self.supply * EVEN:
            return "data"
        return "training" if self.supply > self.training * EVEN else "even"

    def sentence(self) -> str:
        """One line for people."""
        images = " (made-up photographs of its usual size)" if self.rate.made_up else ""
        cores = f"{self.cores} core{'s' if self.cores > 1 else ''}"
        each = f" for each of {self.runs} runs" if self.runs > 1 else ""
        path = (
            f"Data path of {self.data}{images}: {_number(self.rate.per_core)} images/s per core "
            f"× {cores}{each} = {_number(self.supply)} images/s"
        )
        if self.training is None:
            return f"{path}; there is no GPU here to keep busy."
        shared = " of the same cores" if self.device == "cpu" else ""
        return (
            f"{path}; training {self.network} on {self.device} takes "
            f"{_number(self.training)}{shared}: {self._verdict(self.training)}."
        )

    def _verdict(self, training: float) -> str:
        if self.bottleneck == "even":
            return f"neither waits long for the other{self._remedy(training)}"
        if self.bottleneck == "data":
            return f"the data path is the bottleneck{self._remedy(training)}"
        if self.device == "cpu":
            share = training / self.supply
            return f"training is the bottleneck, the data path adds {share:.1%} to its time"
        return "the GPU is the bottleneck"

    def _remedy(self, training: float) -> str:
        """What packing would change."""
        gain = self.rate.pack_gain
        if self.pack is None or gain is None or gain < EVEN:
            return ""
        enough = "enough" if self.supply * gain >= training else "still not enough"
        return f"; '{self.pack}' would make it {gain:.1f} times as fast, {enough}"


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def is_streamed(data: DataSpec) -> bool:
    """Whether images are decoded as training needs them, not held decoded."""
    own = data.content_hash is not None and data.image_size > LARGEST_LIKE_CIFAR
    return own or data.dataset == "imagenet"


def with_data_path(
    planned: Sequence[PlannedRun], supplies: Mapping[DataSpec, float], *, shared: bool
) -> list[PlannedRun]:
    """Runs whose estimates count the data path in, where they were of training alone.

    Args:
        planned: with estimates.
        supplies: images a second that the data path gives one run.
        shared: whether training and data path have the same cores, and take turns, or work at
            the same time.
    """

    def slowed(run: PlannedRun) -> PlannedRun:
        supply = supplies.get(run.spec.data)
        if supply is None or run.seconds is None:
            return run
        path = run.training_images * run.spec.recipe.epochs * run.left / supply
        return replace(run, seconds=run.seconds + path if shared else max(run.seconds, path))

    return [slowed(run) for run in planned]
