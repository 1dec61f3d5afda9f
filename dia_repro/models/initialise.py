"""How weights start."""

from __future__ import annotations

from torch import nn


def initialise_he(network: nn.Module) -> None:
    """Convolutions normal with std sqrt(2 / (k·k·out)), BN 1 and 0; Linear layers as they are.

    He, Zhang, Ren, Sun: Delving Deep into Rectifiers, ICCV 2015, eq. 14, without regard to groups.
    """
    if next(network.parameters()).is_meta:
        return  # nothing to fill, and torch would load its compiler to do that
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
            nn.init.normal_(module.weight, std=(2.0 / fan_out) ** 0.5)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def initialise_kaiming(network: nn.Module) -> None:
    """ResNeXt's start: Kaiming normal, BN 1 and 0, the classifier's bias 0.

    Convolutions count fan-out and their groups; the classifier counts fan-in.
    """
    if next(network.parameters()).is_meta:
        return
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear) and name == "classifier":
            nn.init.kaiming_normal_(module.weight)
            nn.init.zeros_(module.bias)
