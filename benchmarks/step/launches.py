"""Launches and bytes of a compiled training step on an H200, from code that nothing runs.

Training steps on a GPU are captured after torch's compiler has written their kernels. Here that
compiler writes the same code on a machine without a GPU: the step is traced with tensors that have
no memory, each graph is moved to a device that only seems to be there, and what its code would
launch is counted each time that the step comes by it.

This holds for one version of torch: parts of its compiler without a stable interface are called.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import torch._functorch.config
import torch._inductor.config
import torch._inductor.scheduler
import torch._inductor.utils
import torch.utils._triton
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from benchmarks.step.operations import Count, cell_of_a_gpu
from dia_repro.experiments.spec import Spec
from dia_repro.models import from_spec
from dia_repro.training import step as training_step
from dia_repro.training.step import TrainingStep

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
# Of an H200, as far as the compiler asks.
PROPERTIES = SimpleNamespace(
    name="NVIDIA H200",
    multi_processor_count=132,
    major=9,
    minor=0,
    regs_per_multiprocessor=65536,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    warp_size=32,
    total_memory=141 * 10**9,
    gcnArchName="",
    shared_memory_per_block_optin=232448,
    shared_memory_per_multiprocessor=233472,
    L2_cache_size=60 * 2**20,
)
# A call in generated code that launches at least one kernel.
LAUNCH = re.compile(r"^\s*\w+\.run\(|extern_kernels\.\w+\(|torch\.ops\.aten\.\w+\.\w+\(")


@dataclass(frozen=True)
class Launches:
    """Launches and traffic of a training step.

    Attributes:
        compiled: calls in the compiler's code.
        others: operations between these.
        gigabytes: read and written by the compiler's code and by its calls of libraries.
    """

    compiled: int
    others: Counter[str]
    gigabytes: float

    @property
    def total(self) -> int:
        """Number of launches; a library's call counts as one."""
        return self.compiled + self.others.total()


class _Compiler:
    """A backend of `torch.compile` that counts what the graphs' code launches when they run.

    Attributes:
        launches, bytes: of all graphs that ran since `clear`.
        running: whether a graph is running: its operations are no launches then.
    """

    def __init__(self) -> None:
        self.clear()
        self.running = False

    def clear(self) -> None:
        """Set the sums to 0."""
        self.launches = self.bytes = 0

    def backend(self) -> Callable[..., Any]:
        """Return what `torch.compile` takes."""
        from torch._dynamo.backends.common import aot_autograd
        from torch._functorch.partitioners import min_cut_rematerialization_partition
        from torch._inductor.decomposition import select_decomp_table

        backend: Callable[..., Any] = aot_autograd(
            fw_compiler=partial(self._compile, backward=False),
            bw_compiler=partial(self._compile, backward=True),
            partition_fn=partial(min_cut_rematerialization_partition, compiler="inductor"),
            decompositions=select_decomp_table(),
            keep_inference_input_mutations=True,
        )
        return backend

    def _compile(
        self, module: fx.GraphModule, examples: Sequence[Any], *, backward: bool
    ) -> Callable[..., Any]:
        from functorch.compile import make_boxed_func  # type: ignore[import-untyped]

        text, size = _code(module, examples, backward=backward)
        body = text[text.rindex("def call(self, args)") :]
        count = sum(
            bool(LAUNCH.search(line)) for line in body[: body.index("return (")].splitlines()
        )

        def run(*arguments: Any) -> Any:
            self.launches += count
            self.bytes += size
            self.running = True
            try:
                return module(*arguments)
            finally:
                self.running = False

        return make_boxed_func(run)  # type: ignore[no-any-return]


def _code(module: fx.GraphModule, examples: Sequence[Any], *, backward: bool) -> tuple[str, int]:
    """Return the code of a graph as a GPU's, and the bytes that it moves."""
    from torch._guards import TracingContext, tracing
    from torch._inductor import compile_fx
    from torch._inductor.debug import DebugContext
    from torch._inductor.fx_passes.post_grad import view_to_reshape
    from torch._inductor.graph import GraphLowering
    from torch._inductor.virtualized import V

    with unset_fake_temporarily(), ExitStack() as stack:
        _seem_to_have_a_gpu(stack)
        moved = copy.deepcopy(module)
        inputs, mode = _move(moved, examples)
        for context in (
            V.set_fake_mode(mode),
            tracing(TracingContext(mode)),
            torch.no_grad(),
            V.set_debug_handler(DebugContext()),
        ):
            stack.enter_context(context)
        view_to_reshape(moved)
        compile_fx._recursive_post_grad_passes(moved, is_inference=False)
        lowering = GraphLowering(moved, inputs, is_inference=False, is_backward=backward)
        stack.enter_context(V.set_graph_handler(lowering))
        stack.enter_context(V.set_extern_kernel_nodes([]))
        lowering.run(*inputs)
        code, _ = lowering.codegen()
        size = sum(node.get_read_write_buffers_sizes() for node in lowering.scheduler.nodes)
    return code.value, size


def _move(module: fx.GraphModule, examples: Sequence[Any]) -> tuple[list[Any], FakeTensorMode]:
    """Move a graph that was traced on a CPU, and return its inputs on the GPU."""
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)

    def on_gpu(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        with mode:
            return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=GPU)

    inputs = [on_gpu(value) for value in examples]
    given = iter(inputs)
    values: dict[fx.Node, Any] = {}
    for node in module.graph.nodes:
        value = None
        if node.op == "placeholder":
            value = next(given)
        elif node.op == "get_attr":
            value = on_gpu(getattr(module, node.target))
        elif node.op == "call_function":
            node.kwargs = {k: GPU if k == "device" else v for k, v in node.kwargs.items()}
            arguments = fx.map_arg((node.args, node.kwargs), values.__getitem__)
            with mode:
                value = node.target(*arguments[0], **arguments[1])
        values[node] = value
        if value is not None:
            node.meta["val"] = value
            node.meta.pop("tensor_meta", None)
    module.recompile()
    return inputs, mode


def _seem_to_have_a_gpu(stack: ExitStack) -> None:
    """Until the stack's end let the compiler find an H200; nothing may be run."""
    from torch._dynamo.device_interface import CudaInterface
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    def always(value: Any) -> Callable[..., Any]:
        return lambda *_args, **_kwargs: value

    def channels_last(images: Tensor, *_: object) -> torch.memory_format:
        return torch.channels_last if images.ndim == 4 else torch.contiguous_format

    functions_of: dict[Any, dict[str, Any]] = {
        torch.cuda: {
            "is_available": True,
            "device_count": 1,
            "current_device": 0,
            "get_device_properties": PROPERTIES,
            "get_device_capability": (9, 0),
            "get_device_name": PROPERTIES.name,
            "is_bf16_supported": True,
            "memory_allocated": 0,
            "set_device": None,
            "synchronize": None,
            "_lazy_init": None,
        },
        CudaInterface: {
            "is_available": True,
            "device_count": 1,
            "current_device": 0,
            "get_device_properties": PROPERTIES,
            "get_compute_capability": 90,
            "is_triton_capable": True,
            "raise_if_triton_unavailable": None,
            "synchronize": None,
        },
        CudaInterface.Worker: {"get_device_properties": PROPERTIES, "current_device": 0},
        torch.utils._triton: {"has_triton": True, "triton_hash_with_backend": "none"},
        torch._inductor.scheduler: {"has_triton": True},
        torch._inductor.utils: {"has_triton": True},
    }
    for owner, functions in functions_of.items():
        for name, value in functions.items():
            if hasattr(owner, name):
                made: Any = always(value)
                replacement = staticmethod(made) if isinstance(owner, type) else made
                stack.enter_context(patch.object(owner, name, replacement))
    target = always(GPUTarget("cuda", 90, 32))
    seen = SimpleNamespace(get_current_target=target, get_current_device=always(0))
    stack.enter_context(patch.object(driver, "_active", seen))
    layout = "_conv_determine_backend_memory_format"
    stack.enter_context(patch.object(torch._C, layout, channels_last))


def _without_memory(network: nn.Module) -> None:
    for module in network.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                module._parameters[name] = nn.Parameter(_like(weight))
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = _like(buffer)


def _like(tensor: Tensor) -> Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)


@contextmanager
def _numerics(precision: str, _device: object) -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        yield


def launches(spec: Spec) -> Launches:
    """Count what a compiled training step of a spec's network launches on an H200.

    Takes about a minute, most of it the compiler's.
    """
    compiler, side, size = _Compiler(), spec.data.image_size, spec.recipe.batch_size
    network = from_spec(spec.model, spec.data.classes).to(memory_format=torch.channels_last)
    count = Count(lambda: not compiler.running)
    with ExitStack() as stack:
        stack.enter_context(torch._functorch.config.patch(enable_autograd_cache=False))
        stack.enter_context(patch.object(training_step, "numerics", _numerics))
        mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
        stack.enter_context(mode)
        stack.enter_context(cell_of_a_gpu(count.calls))
        _without_memory(network)
        step = TrainingStep(network, spec.recipe, spec.precision, CPU)
        step.use_compiled(backend=compiler.backend())
        images = torch.empty(size, 3, side, side).contiguous(memory_format=torch.channels_last)
        labels = torch.empty(size, dtype=torch.int64)
        step.train(images, labels)
        compiler.clear()
        count.calls.clear()
        with count:
            step.train(images, labels)
    return Launches(compiler.launches, count.launches(), compiler.bytes / 1e9)
