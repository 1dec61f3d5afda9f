"""State of an own attention: refused where a checkpoint could not restore it bit for bit."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from dia_repro.errors import DiaReproError


class UnstorableStateError(DiaReproError):
    """An own attention has state that a run could not be resumed with."""


def registered(network: nn.Module) -> dict[str, bool]:
    """Return the names of all parameters and buffers, and whether each has a value yet."""
    return {
        f"{place}.{name}": tensor is not None
        for place, module in network.named_modules()
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
    }


def check_storable(network: nn.Module, at_first: Mapping[str, bool]) -> None:
    """Refuse state that a fresh network could not get from a checkpoint.

    A buffer may be set later than in the constructor, and change its shape.

    Args:
        at_first: what `registered` returned when the network had been built.

    Raises:
        UnstorableStateError: a parameter or buffer was made or removed later, a buffer shares
            memory with another tensor or in itself, or a module has an extra state.
    """
    now = registered(network)
    for name in sorted(now.keys() ^ at_first.keys()):
        done = "made" if name in now else "removed"
        raise UnstorableStateError(
            f"{name} was {done} after the attention had been built: a resumed run would lack that; "
            "register every parameter and buffer in __init__, as None where it has no value yet"
        )
    for name, had_value in at_first.items():
        if had_value and not now[name]:
            raise UnstorableStateError(f"{name} was set to None, which a checkpoint cannot say")
    _check_memory(network)
    for place, module in network.named_modules():
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            raise UnstorableStateError(f"{place} has an extra state: keep it in buffers")


def _check_memory(network: nn.Module) -> None:
    owners: dict[int, str] = {}
    for place, module in network.named_modules():
        for name, tensor in module._buffers.items():
            if tensor is None or not tensor.numel():
                continue
            whole = f"{place}.{name}"
            if any(
                size > 1 and not step
                for size, step in zip(tensor.shape, tensor.stride(), strict=True)
            ):
                raise UnstorableStateError(f"{whole} is an expanded tensor: add .clone()")
            address = _address(tensor)
            if (other := owners.setdefault(address, whole)) != whole:
                raise UnstorableStateError(
                    f"{other} and {whole} share memory, which a resumed run would not: "
                    "give each its own, by .clone()"
                )
    for name, parameter in network.named_parameters():
        if (other := owners.get(_address(parameter), "")) and parameter.numel():
            raise UnstorableStateError(
                f"{other} and {name} share memory, which a resumed run would not: "
                "give each its own, by .clone()"
            )


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
