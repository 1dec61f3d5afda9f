"""Precision, threads and devices of a process that trains."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from dia_repro.errors import UsageError
from dia_repro.training.environment import use_writable_caches

CPU = torch.device("cpu")
# Options of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_ALL = 1 << 30


class PrecisionError(UsageError):
    """The device cannot compute in the precision asked for."""


def check_precision(precision: str, device: torch.device) -> None:
    """Raise `PrecisionError` for a precision that the device does not have."""
    if has_precision(precision, device):
        return
    if device.type != "cuda":
        raise PrecisionError(f"precision {precision} needs a GPU: use --precision fp32 on a CPU")
    name = torch.cuda.get_device_name(device)
    raise PrecisionError(f"{name} does not have {precision}: use --precision fp32")


def has_precision(precision: str, device: torch.device) -> bool:
    """Return whether a device has a precision.

    A CPU, and a GPU older than compute capability 8, has only fp32.
    """
    if precision == "fp32":
        return True
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def prepare_process(
    threads: int, device: torch.device = CPU, *, deterministic: bool = False
) -> None:
    """Set a process up to train; call it before anything is computed.

    Freed memory stays with the process, where the C library has such an option: activations are
    freed and allocated at every step, and mapping and clearing their pages again would take a
    tenth of the time.

    Args:
        threads: number of CPU threads.
        device: device of the training; a GPU becomes the process's current device.
        deterministic: use only algorithms that give the same bits every time on a GPU, which
            costs some speed. A CPU's algorithms always do.
    """
    use_threads(threads)
    use_device(device)
    torch.backends.cudnn.benchmark = not deterministic
    # The same as `use_deterministic_algorithms`, which imports the whole compiler, for seconds.
    torch.set_deterministic_debug_mode("error" if deterministic else "default")
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _ALL)
        mallopt(_M_MMAP_THRESHOLD, _ALL)


def use_device(device: torch.device) -> None:
    """Make a GPU the current device of this process.

    Triton kernels, CUDA graphs, new streams and NCCL use the current device, which is `cuda:0`
    unless set, whatever device their tensors are on.
    """
    if device.type == "cuda":
        use_writable_caches()
        if device.index is not None:
            torch.cuda.set_device(device)


def use_threads(threads: int) -> None:
    """Give torch, and the passes that numba compiles, this number of CPU threads."""
    import numba  # here, since only a network that is trained needs it

    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(threads)  # after numba, which tells OpenMP its own number as it starts


@contextmanager
def numerics(precision: str, device: torch.device) -> Iterator[None]:
    """Compute inside the block in a precision.

    fp32: float32 throughout. tf32: matrix products and convolutions may round their inputs to
    10 bits. bf16: autocast, with weights and statistics in float32; what autocast leaves in float32
    is computed as in tf32.
    """
    tf32 = precision in ("tf32", "bf16")
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    with torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext():
        yield
