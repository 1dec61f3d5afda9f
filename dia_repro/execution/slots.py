"""Where on a machine runs are placed: so many on each device, and no more than its memory holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

CPU = "cpu"


@dataclass
class _Device:
    name: str
    memory: int | None
    runs: int = 0
    taken: int = 0

    def holds(self, need: int) -> bool:
        # An estimate may be too high: alone, any run is given its chance.
        return not self.runs or self.memory is None or self.taken + need <= self.memory


class Slots:
    """Devices, each with room for some runs at a time.

    Args:
        devices: names, e.g. `cuda:0`; each once.
        each: runs at a time on each.
        memory: bytes of those devices whose memory is limited.
        at_once: runs at a time in all; None for as many as there is room for.
    """

    def __init__(
        self,
        devices: Iterable[str],
        each: int,
        memory: Mapping[str, int] | None = None,
        at_once: int | None = None,
    ) -> None:
        self._devices = [_Device(name, (memory or {}).get(name)) for name in devices]
        self._each = each
        room = each * len(self._devices)
        self.total = room if at_once is None else min(at_once, room)

    @classmethod
    def on_cpu(cls, runs: int) -> Slots:
        """Room for so many runs on the processor."""
        return cls([CPU], runs)

    @property
    def free(self) -> int:
        """How many more runs could be placed if all were small."""
        return self.total - sum(device.runs for device in self._devices)

    def take(self, need: int) -> str | None:
        """The device with the fewest runs that has room for one of `need` bytes, if there is one.

        It is taken until it is given back.
        """
        open_ones = [one for one in self._devices if one.runs < self._each and one.holds(need)]
        if not open_ones or self.free < 1:
            return None
        chosen = min(open_ones, key=lambda one: one.runs)
        chosen.runs += 1
        chosen.taken += need
        return chosen.name

    def give_back(self, name: str, need: int) -> None:
        """A run of `need` bytes has left its device."""
        device = next(one for one in self._devices if one.name == name)
        device.runs -= 1
        device.taken -= need
