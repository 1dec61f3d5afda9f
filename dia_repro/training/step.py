"""One training step, as the paper's formulas have it: forward, loss, backward, SGD."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.sgd import sgd

from dia_repro.experiments.spec import RecipeSpec
from dia_repro.models.network import StagedNetwork
from dia_repro.training.metrics import Tally
from dia_repro.training.numerics import numerics

Work = Callable[[Tensor, Tensor], None]


class TrainingStep:
    """Cross entropy and SGD with momentum; no Nesterov, weight decay on every parameter.

    Nothing in a step waits for the device: what it sums up is read from `tally` when wanted.

    Args:
        model: the network, on its device.
        recipe: momentum and weight decay; the rate is set epoch by epoch.
        precision: arithmetic, as in a spec.
        device: where the network is.
        plain: the definition of what is computed, operation by operation; otherwise blocks go by
            `dia_repro.models.fast`, with the same figures but for rounding.

    Attributes:
        tally: sums over the batches since it was cleared.
        how: execution mode, with the reason where it is not the fastest; empty where it is not
            known before the first step.
    """

    def __init__(
        self,
        model: nn.Module,
        recipe: RecipeSpec,
        precision: str,
        device: torch.device,
        *,
        plain: bool = False,
    ) -> None:
        self.model, self.precision, self.device = model, precision, device
        self.how = "plain" if plain else "eager"
        if isinstance(model, StagedNetwork):
            model.use_fast(not plain)
        self.tally = Tally(device)
        self._parameters: list[Tensor] = list(model.parameters())
        # From the beginning, so that the first step is like all others: 0 · momentum + gradient.
        self.momentum = [torch.zeros_like(each) for each in self._parameters]
        self._momentum, self._decay = recipe.momentum, recipe.weight_decay
        self._rate: float | Tensor = recipe.lr
        if device.type == "cuda":  # a number frozen into a captured graph could not be changed
            self._rate = torch.tensor(recipe.lr, device=device)
        self._fused = device.type in ("cpu", "cuda")

    def set_rate(self, lr: float) -> None:
        """The learning rate of the steps that follow."""
        if isinstance(self._rate, Tensor):
            self._rate.fill_(lr)
        else:
            self._rate = lr

    def load_momentum(self, momentum: Sequence[Tensor]) -> None:
        """Go on with the optimizer's state that `momentum` was."""
        for own, given in zip(self.momentum, momentum, strict=True):
            own.copy_(given)

    def train(self, images: Tensor, labels: Tensor) -> None:
        """Move the weights once, and count the batch in `tally` as it was before the move.

        Args:
            images: (B, 3, H, W), normalised.
            labels: (B,).
        """
        self.train_eagerly(images, labels)

    def train_eagerly(self, images: Tensor, labels: Tensor) -> None:
        """As `train`, one operation at a time in any case: hooks are called."""
        with numerics(self.precision, self.device):
            logits = self.model(images)
            loss = functional.cross_entropy(logits, labels)
        self._forget_gradients()
        loss.backward()
        self._move()
        self.tally.add(loss, logits, labels)

    def _forget_gradients(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def _move(self) -> None:
        # The function of torch's optimizer: the optimizer itself imports torch's compiler when
        # it is made, which takes longer than all else that a process does before it trains.
        sgd(
            self._parameters,
            [parameter.grad for parameter in self._parameters],  # type: ignore[misc]
            self.momentum,  # type: ignore[arg-type]
            fused=self._fused,
            foreach=not self._fused,
            weight_decay=self._decay,
            momentum=self._momentum,
            lr=self._rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )

    @torch.no_grad()
    def evaluate(self, images: Tensor, labels: Tensor) -> None:
        """Count a batch in `tally`; the network is in evaluation mode."""
        with numerics(self.precision, self.device):
            logits = self.model(images)
            loss = functional.cross_entropy(logits, labels)
        self.tally.add(loss, logits, labels)


class CapturedStep(TrainingStep):
    """The same step as one CUDA graph for each batch size: one launch instead of thousands.

    Blocks of the most frequent batch size are compiled where that is possible; block by block,
    since the blocks of a stage share their code, and a whole network takes minutes to compile.

    Where a graph cannot be compiled or captured, steps run one operation at a time, and `how`
    says so with the reason.
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
        self._arena = _Arena(device)

    def train(self, images: Tensor, labels: Tensor) -> None:
        """As `TrainingStep.train`."""
        self._replay(self.train_eagerly, images, labels)

    def evaluate(self, images: Tensor, labels: Tensor) -> None:
        """As `TrainingStep.evaluate`."""
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
        """The first of these that works: compiled and captured, captured, None."""
        frequent = self.model.training and len(images) == self._batch_size
        reasons: list[str] = []
        for compiled in (True, False) if frequent and self._compiled else (False,):
            kept = self._copy_of_state()
            try:
                if isinstance(self.model, StagedNetwork):
                    self.model.use_compiled(compiled)
                graph = _Graph(work, images, labels, self._arena)
            except Exception as error:  # whatever a compiler or a driver raises
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                reasons.append(f"not {'compiled' if compiled else 'captured'} ({reason})")
                # The allocator may still record into the memory pool of a capture that failed.
                self._arena = _Arena(self.device)
            else:
                self._say("compiled and captured" if compiled else "captured", reasons, frequent)
                return graph
            finally:
                self._forget_gradients()
                self._put_back(kept)
                if isinstance(self.model, StagedNetwork):
                    self.model.use_compiled(False)
        self._say("eager", reasons, frequent)
        return None

    def _say(self, mode: str, reasons: Sequence[str], frequent: bool) -> None:
        """Describe batches of the most frequent size, and of other batches what went wrong."""
        text = ", ".join((mode, *reasons))
        if frequent:
            self.how = text
        elif reasons:
            kind = "other batches" if self.model.training else "evaluation"
            self.how += f"; {kind}: {text}"

    def _state(self) -> list[Tensor]:
        return [*self.model.state_dict().values(), *self.momentum, self.tally.sums]

    def _copy_of_state(self) -> tuple[list[Tensor], Tensor, Tensor]:
        copies = [tensor.clone() for tensor in self._state()]
        return copies, torch.get_rng_state(), torch.cuda.get_rng_state(self.device)

    def _put_back(self, kept: tuple[list[Tensor], Tensor, Tensor]) -> None:
        copies, random, cuda_random = kept
        for tensor, copy in zip(self._state(), copies, strict=True):
            tensor.copy_(copy)
        torch.set_rng_state(random)
        torch.cuda.set_rng_state(cuda_random, self.device)


class _Arena:
    """A stream and a memory pool, shared by graphs that are never replayed at the same time.

    torch shares the memory of a pool between graphs only if they were captured on one stream.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()


class _Graph:
    """Work on one batch, captured; calling it replays it on another batch of the same size.

    The work runs a few times before the capture: the caller restores what that changed.

    Raises:
        Exception: whatever the work, or the capture of it, raises. The current stream is then
            the one from before.
    """

    WARM_UP = 3  # torch wants work on a side stream before it captures

    def __init__(self, work: Work, images: Tensor, labels: Tensor, arena: _Arena) -> None:
        self.images, self.labels = images.clone(), labels.clone()
        current = torch.cuda.current_stream(images.device)
        arena.stream.wait_stream(current)
        # torch's own context leaves its stream the current one where a capture fails.
        with torch.cuda.stream(arena.stream):
            for _ in range(self.WARM_UP):
                work(self.images, self.labels)
            self.graph = torch.cuda.CUDAGraph()
            # Other threads may allocate meanwhile: a loader's thread pins the next images.
            with torch.cuda.graph(
                self.graph,
                pool=arena.pool,
                stream=arena.stream,
                capture_error_mode="thread_local",
            ):
                work(self.images, self.labels)
        current.wait_stream(arena.stream)

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        """Replay on a batch: images (B, 3, H, W) and labels (B,)."""
        self.images.copy_(images)
        self.labels.copy_(labels)
        self.graph.replay()


def to_device(model: StagedNetwork, device: torch.device) -> StagedNetwork:
    """Put a network on a device, its weights in the layout that is fast there.

    Images are channels last everywhere. A CPU's convolutions then copy weights of that layout at
    every step, and take the usual one as it is.
    """
    if device.type == "cuda":
        moved: StagedNetwork = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return moved
    return model.to(device)


def fast_step(
    model: nn.Module, recipe: RecipeSpec, precision: str, device: torch.device
) -> TrainingStep:
    """The fastest step that a device has."""
    if device.type == "cuda":
        return CapturedStep(model, recipe, precision, device)
    return TrainingStep(model, recipe, precision, device)
