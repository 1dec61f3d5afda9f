"""Suites: ratios with their goals, on a CPU and on a GPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import torch

from benchmarks.measurements import BenchmarkError, Measurement, Series, ratio
from benchmarks.step import GPUPart as Part
from benchmarks.step.candidates import Mode, Task
from benchmarks.step.measure import take_turns
from benchmarks.step.operations import operations
from dia_repro.errors import UsageError
from dia_repro.experiments.spec import (
    Attention,
    DataSpec,
    DIALSTMAttention,
    ImageNetBackbone,
    ModelSpec,
    NoAttention,
    Precision,
    RecipeSpec,
    ResNetBackbone,
    Spec,
)

# Largest numbers of operations of a training step; without capture each is a kernel launch.
BUDGETS = {"ResNet164": 1450, "DIANet164": 2000}
# The same, compiled for an H200 in bf16, and what such a step reads and writes at most.
LAUNCHES = {"ResNet164": 1700, "DIANet164": 2100}
GIGABYTES = 16.0
NETWORKS: dict[str, Attention] = {"ResNet164": NoAttention(), "DIANet164": DIALSTMAttention()}
# Training and test images of an epoch, by device and image size: as many as the digits, or fewer
# where they take long; 50 steps on a GPU.
IMAGES = {
    ("cpu", 8): (1437, 360),
    ("cpu", 32): (320, 80),
    ("cuda", 8): (6_400, 1_280),
    ("cuda", 32): (6_400, 1_280),
}
LARGE_IMAGES = (1_024, 256)
# A run of this number of epochs is compiled, even if they are short.
RECIPE = RecipeSpec(
    epochs=5_000,
    batch_size=128,
    lr=0.1,
    momentum=0.9,
    weight_decay=1e-4,
    milestones=(),
    gamma=0.1,
)
GPU_SECONDS = 180.0  # of the whole suite
LEAST_TRAFFIC_BYTES = 7.1e9  # of a step of ResNet-164 at batch 128 in bf16, all fused


@dataclass(frozen=True)
class Setting:
    """Device and extent of the measurements.

    Attributes:
        threads: number of cores of the CPU.
        windows, seconds, on_window, deadline: see `take_turns`.
    """

    device: torch.device
    threads: int
    windows: int
    seconds: float
    on_window: Callable[[], None] = lambda: None
    deadline: float | None = None

    def task(self, spec: Spec, mode: Mode = Mode.OURS, *, deterministic: bool = False) -> Task:
        """Return the task of training a spec in a mode."""
        images = IMAGES.get((self.device.type, spec.data.image_size), LARGE_IMAGES)
        text = spec.canonical_json()
        return Task(mode, text, str(self.device), self.threads, *images, deterministic)

    def measure(self, *groups: Sequence[Task]) -> list[Series]:
        """Measure groups of tasks in turn; see `take_turns`."""
        return take_turns(groups, self.windows, self.seconds, self.on_window, self.deadline)


def resnet(
    depth: int,
    attention: Attention,
    *,
    size: int = 32,
    batch: int = 128,
    precision: Precision = "fp32",
) -> Spec:
    """Return a CIFAR ResNet with the paper's recipe, without milestones."""
    return Spec(
        data=DataSpec(
            dataset="cifar100",
            classes=100,
            image_size=size,
            augmentation="crop4-flip" if size == 32 else "none",
        ),
        model=ModelSpec(backbone=ResNetBackbone(depth=depth), attention=attention),
        recipe=RECIPE.model_copy(update={"batch_size": batch}),
        precision=precision,
    )


def against_reference(
    spec: Spec, setting: Setting, least: float | None = None
) -> list[Measurement]:
    """Measure images a second of the reference and of ours, and their ratio, with evaluation.

    Raises:
        UsageError: the reference does not have the network.
    """
    backbone = spec.model.backbone
    if not isinstance(backbone, ResNetBackbone) or backbone.block != "bottleneck":
        raise UsageError(
            f"--reference knows CIFAR ResNets with bottleneck blocks, not {label(spec)}"
        )
    ours, reference = setting.measure([setting.task(spec)], [setting.task(spec, Mode.REFERENCE)])
    return _compared(spec, ours, reference, least)


def _compared(
    spec: Spec, ours: Series, reference: Series, least: float | None
) -> list[Measurement]:
    name = f"{label(spec)}, batch {spec.recipe.batch_size}"
    how = ours.described(reference)
    return [
        Measurement.of_rate(f"{name}: reference", reference),
        Measurement.of_rate(f"{name}: ours", ours),
        Measurement(f"{name}: ours ÷ reference", ratio(ours, reference), "x", least, how=how),
    ]


def label(spec: Spec) -> str:
    """Return the name of a spec's network, and its image size."""
    size = spec.data.image_size
    return f"{spec.model.label}, {size}x{size}"


def ours_alone(spec: Spec, setting: Setting) -> list[Measurement]:
    """Measure images a second of ours, with evaluation."""
    (ours,) = setting.measure([setting.task(spec)])
    return [Measurement.of_rate(f"{label(spec)}, batch {spec.recipe.batch_size}: ours", ours)]


def count_operations() -> Iterator[Measurement]:
    """Count the operations a step of the two networks, with their budgets."""
    for name, attention in NETWORKS.items():
        count = sum(operations(resnet(164, attention)).values())
        yield Measurement(f"{name}: operations a step", count, "", most=BUDGETS[name])


def count_launches() -> Iterator[Measurement]:
    """Count what a compiled step launches and moves on an H200, with the budgets; without a GPU."""
    from benchmarks.step.launches import launches

    for name, attention in NETWORKS.items():
        found = launches(resnet(164, attention, precision="bf16"))
        how = f"{found.compiled} in compiled code"
        yield Measurement(f"{name}: launches a step", found.total, "", most=LAUNCHES[name], how=how)
        yield Measurement(f"{name}: traffic of a step", found.gigabytes, "GB", most=GIGABYTES)


def cpu_suite(setting: Setting) -> Iterator[Measurement]:
    """Measure everything that needs no GPU."""
    yield from count_operations()
    small, large = (resnet(83, DIALSTMAttention(), size=size, batch=64) for size in (8, 32))
    one_core = replace(setting, threads=1)
    ours, reference, everywhere, fixed = setting.measure(
        [setting.task(small)],
        [setting.task(small, Mode.REFERENCE)],
        [one_core.task(small)] * setting.threads,
        [setting.task(small, Mode.FIXED)],
    )
    yield from _compared(small, ours, reference, least=1.5)
    name = f"{label(small)}, batch 64"
    at_a_time = f"{setting.threads} runs at a time, a core each"
    yield Measurement(f"{name}: {at_a_time} ÷ reference", ratio(everywhere, reference), "x")
    yield Measurement(f"{name}: time of an epoch ÷ on one batch", ratio(fixed, ours), "x")
    fewer = replace(setting, windows=max(1, setting.windows - 2))  # they take longer
    yield from against_reference(large, fewer, least=1.5)


def gpu_suite(setting: Setting, parts: Sequence[Part] = ()) -> Iterator[Measurement]:
    """Measure the goals of a GPU, in about `GPU_SECONDS`; a failing part does not stop the rest.

    Args:
        parts: parts to measure; by default all.
    """
    yield from count_operations()
    begun, chosen = time.monotonic(), list(parts or Part)
    for number, part in enumerate(chosen):
        left = begun + GPU_SECONDS - time.monotonic()
        deadline = time.monotonic() + left / (len(chosen) - number)
        try:
            yield from _PARTS[part](replace(setting, deadline=deadline))
        except BenchmarkError as error:
            hint = f"{error}; --part {part} measures it alone"
            yield Measurement(f"failed: {part}", float("nan"), "", how=hint)


def _modes_on_gpu(setting: Setting) -> Iterator[Measurement]:
    dia, plain = DIALSTMAttention(), NoAttention()
    bandwidth = copy_bandwidth(setting.device)
    yield Measurement("copy bandwidth", bandwidth / 1e12, "TB/s")
    dianet = resnet(164, dia, precision="bf16")
    ours, captured, fixed, deterministic, resnet164 = setting.measure(
        [setting.task(dianet)],
        [setting.task(dianet, Mode.CAPTURED)],
        [setting.task(dianet, Mode.FIXED)],
        [setting.task(dianet, deterministic=True)],
        [setting.task(resnet(164, plain, precision="bf16"))],
    )
    yield Measurement.of_rate("DIANet164, bf16: ours", ours)
    yield Measurement("DIANet164: start to first step", ours.start_seconds, "s", how=ours.how)
    yield Measurement("DIANet164: compiled ÷ captured only", ratio(ours, captured), "x")
    yield Measurement("DIANet164 ÷ ResNet164, time", ratio(resnet164, ours), "x", most=1.25)
    yield Measurement(
        "DIANet164: epoch with augmentation ÷ fixed batch, time", ratio(fixed, ours), "x", most=1.02
    )
    yield Measurement(
        "DIANet164: deterministic ÷ not, time", ratio(ours, deterministic), "x", most=1.15
    )
    step = 128 / fixed.rate
    yield Measurement(
        "DIANet164: step ÷ its least traffic at copy bandwidth",
        step / (LEAST_TRAFFIC_BYTES / bandwidth),
        "x",
        most=3,
    )


def _against_reference_on_gpu(
    setting: Setting, attention: Attention, name: str, least: float
) -> Iterator[Measurement]:
    fp32 = resnet(164, attention)
    reference, *all_ours = setting.measure(
        [setting.task(fp32, Mode.REFERENCE)],
        *([setting.task(fp32.model_copy(update={"precision": p}))] for p in get_args(Precision)),
    )
    yield Measurement.of_rate(f"{name}: reference, fp32", reference)
    for precision, ours in zip(get_args(Precision), all_ours, strict=True):
        goal = least if precision == "bf16" else None
        value = ratio(ours, reference)
        yield Measurement(
            f"{name}: ours in {precision} ÷ reference", value, "x", goal, how=ours.how
        )


def _several_on_gpu(setting: Setting) -> Iterator[Measurement]:
    dia = DIALSTMAttention()
    task, deep, shallow = (
        setting.task(resnet(depth, dia, precision="bf16")) for depth in (164, 407, 83)
    )
    alone, four, long, short = setting.measure([task], [task] * 4, [deep], [shallow])
    yield Measurement("DIANet164: 4 runs at a time ÷ 1, images", ratio(four, alone), "x", least=2)
    yield Measurement("DIANet: depth 407 ÷ 83, time", ratio(short, long), "x", most=5.0)


def _imagenet(setting: Setting) -> Iterator[Measurement]:
    spec = Spec(
        data=DataSpec(dataset="imagenet", classes=1000, image_size=224, augmentation="none"),
        model=ModelSpec(backbone=ImageNetBackbone(family="resnet50"), attention=NoAttention()),
        recipe=RECIPE.model_copy(update={"batch_size": 256}),
        precision="bf16",
    )
    augmented = spec.data.model_copy(update={"augmentation": "resized-crop-flip"})
    from_disk = spec.model_copy(update={"data": augmented})
    ours, amp, files, packed = setting.measure(
        [setting.task(spec, Mode.FIXED)],
        [setting.task(spec, Mode.SYNTHETIC_AMP)],
        [setting.task(from_disk, Mode.FILES)],
        [setting.task(from_disk, Mode.PACKED)],
    )
    yield Measurement.of_rate("ImageNet ResNet50, synthetic: ours", ours)
    yield Measurement.of_rate("ImageNet ResNet50, JPEG files: ours", files)
    yield Measurement.of_rate("ImageNet ResNet50, packed: ours", packed)
    yield Measurement(
        "ImageNet ResNet50, synthetic: ours ÷ eager AMP NCHW", ratio(ours, amp), "x", least=1.7
    )


_PARTS: dict[Part, Callable[[Setting], Iterator[Measurement]]] = {
    Part.DIANET: lambda s: _against_reference_on_gpu(s, DIALSTMAttention(), "DIANet164", 7.0),
    Part.MODES: _modes_on_gpu,
    Part.SEVERAL: _several_on_gpu,
    Part.RESNET: lambda s: _against_reference_on_gpu(s, NoAttention(), "ResNet164", 3.0),
    Part.IMAGENET: _imagenet,
}


def copy_bandwidth(device: torch.device) -> float:
    """Return bytes a second, read and written, of copying 1 GiB on a GPU; median of 10."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(11):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        target.copy_(source)
        end.record()
        end.synchronize()
        seconds.append(begin.elapsed_time(end) / 1000)
    return float(2 * source.numel() / statistics.median(seconds[1:]))
