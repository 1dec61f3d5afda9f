"""The training step captured as CUDA graphs, with compiled blocks where that is possible."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dia_repro.errors import reason_of
from dia_repro.experiments.spec import RecipeSpec
from dia_repro.training.seeding import random_state, renew_generator, restore_random_state
from dia_repro.training.step import TrainingStep

Work = Callable[[Tensor, Tensor], None]
# On an H200 compiling DIANet164 takes 10 to 55 s and saves about 10 ms a step: it pays from this
# number of steps on.
COMPILED_FROM = 5_000


class CapturedStep(TrainingStep):
    """The same step as one CUDA graph for each batch size: one launch instead of thousands.

    Blocks of the most frequent batch size are compiled where that is possible: one by one, or from
    one call of the stage's unit to the next (`dia_repro.models.fast.segments`); and so is what
    comes before and after them, with loss and metrics. Blocks share their code; a whole network
    would take minutes to compile.

    Where a graph cannot be compiled or captured, steps run one operation at a time, and `how`
    gives the reason.

    Args:
        compiled: try to compile; a short run ends sooner without, see `fast_step`.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: RecipeSpec,
        precision: str,
        device: torch.device,
        *,
        compiled: bool = True,
    ) -> None:
        super().__init__(model, recipe, precision, device)
        self.how = ""
        self._batch_size = recipe.batch_size
        self._compiled = compiled
        self._graphs: dict[tuple[bool, int], _Graph | None] = {}
        self._new_memory()

    def _new_memory(self) -> None:
        # Graphs are never replayed at the same time, and share the memory of a pool; torch lets
        # them do so only if they were captured on one stream.
        self._stream = torch.cuda.Stream(self.device)
        self._pool = torch.cuda.graph_pool_handle()

    def train(self, images: Tensor, labels: Tensor) -> None:
        """See `TrainingStep.train`."""
        self._replay(self.train_eagerly, images, labels)

    def evaluate(self, images: Tensor, labels: Tensor) -> None:
        """See `TrainingStep.evaluate`."""
        self._replay(super().evaluate, images, labels)

    def _replay(self, work: Work, images: Tensor, labels: Tensor) -> None:
        key = (self.model.training, len(images))
        if key not in self._graphs:
            self._graphs[key] = self._capture(work, images, labels)
        graph = self._graphs[key]
        if graph is None:
            work(images, labels)
        else:
            graph(images, labels)

    def _capture(self, work: Work, images: Tensor, labels: Tensor) -> _Graph | None:
        """Return the graph of compiled blocks, else of plain ones, else None (eager)."""
        frequent = self.model.training and len(images) == self._batch_size
        reasons: list[str] = []
        for compiled in (True, False) if frequent and self._compiled else (False,):
            copies = [tensor.clone() for tensor in self._state()]
            random = random_state(self.device)
            try:
                self.use_compiled(compiled)
                graph = _Graph(work, images, labels, self._stream, self._pool)
            except Exception as error:  # whatever a compiler or a driver raises
                reason = reason_of(error)
                reasons.append(f"not {'compiled' if compiled else 'captured'} ({reason})")
                self._start_anew()
            else:
                self._say("compiled and captured" if compiled else "captured", reasons, frequent)
                return graph
            finally:
                self._forget_gradients()
                self._restore(copies, random)
                self.use_compiled(False)
        self._say("eager", reasons, frequent)
        return None

    def _start_anew(self) -> None:
        """Replace what a failed capture may have left recording, and what belongs to it.

        That is the memory pool, and the state of the device's random numbers: graphs that were
        captured before read the old state, which is not seeded any more.
        """
        self._graphs.clear()
        self._new_memory()
        renew_generator(self.device)

    def _say(self, mode: str, reasons: Sequence[str], frequent: bool) -> None:
        """Describe the mode of the most frequent batch size, and failures of other batches."""
        text = ", ".join((mode, *reasons))
        if frequent:
            self.how = text
        elif reasons:
            kind = "other batches" if self.model.training else "evaluation"
            self.how += f"; {kind}: {text}"

    def _state(self) -> list[Tensor]:
        return [*self.model.state_dict().values(), *self.momentum, self.tally.sums]

    def _restore(self, copies: list[Tensor], random: dict[str, Any]) -> None:
        for tensor, copy in zip(self._state(), copies, strict=True):
            tensor.copy_(copy)
        restore_random_state(random, self.device)


class _Graph:
    """Work on one batch, captured; calling it replays it on another batch of the same size.

    The work runs a few times before the capture: the caller restores what that changed.

    Raises:
        Exception: what the work, or the capture of it, raises. The current stream is then the same
            as before.
    """

    WARM_UP = 3  # torch wants work on a side stream before it captures

    def __init__(
        self, work: Work, images: Tensor, labels: Tensor, stream: torch.cuda.Stream, pool: Any
    ) -> None:
        self.images, self.labels = images.clone(), labels.clone()
        current = torch.cuda.current_stream(images.device)
        stream.wait_stream(current)
        # torch's own context leaves its stream the current one where a capture fails.
        with torch.cuda.stream(stream):
            for _ in range(self.WARM_UP):
                work(self.images, self.labels)
            self.graph = torch.cuda.CUDAGraph()
            # Other threads may allocate meanwhile: a loader's thread pins the next images.
            mode = "thread_local"
            with torch.cuda.graph(self.graph, pool=pool, stream=stream, capture_error_mode=mode):
                work(self.images, self.labels)
        current.wait_stream(stream)

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        """Replay on a batch: images (B, 3, H, W) and labels (B,)."""
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.graph.replay()


def fast_step(
    model: nn.Module, recipe: RecipeSpec, precision: str, device: torch.device, steps: int
) -> TrainingStep:
    """Return the fastest step on a device for a run with this number of steps."""
    if device.type == "cuda":
        compiled = steps >= COMPILED_FROM
        return CapturedStep(model, recipe, precision, device, compiled=compiled)
    return TrainingStep(model, recipe, precision, device)
