"""DIANet in one file: the whole method, trained on CIFAR-100 as in the paper.

Huang, Liang, Liang, Yang: DIANet: Dense-and-Implicit Attention Network, AAAI 2020. Needs torch and
torchvision only. To read, not to reproduce: `dia-repro run` trains the same network with
checkpoints, provenance and a database.

    python examples/dianet_cifar.py --depth 164 --epochs 180 --data data

Shapes: B batch, C channels of a residual branch, H height, W width, r reduction ratio.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn, optim
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
PLANES, EXPANSION = (16, 32, 64), 4


class DIALSTM(nn.Module):
    """The DIA unit: one LSTM cell that all blocks of a stage share (equation 1, Figure 4).

    It differs from a standard cell in two ways: input and hidden state pass a bottleneck C → C/r,
    and the output activation is a sigmoid, so that the hidden state h is an attention vector.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()

        def bottleneck() -> nn.Sequential:
            inner = channels // reduction
            return nn.Sequential(
                nn.Linear(channels, inner), nn.ReLU(), nn.Linear(inner, 4 * channels)
            )

        self.from_input, self.from_hidden = bottleneck(), bottleneck()

    def forward(self, pooled: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """Return h and c, each (B, C), from GAP(a_t), (B, C), and the state of the last block."""
        h, c = state or (torch.zeros_like(pooled), torch.zeros_like(pooled))
        i, f, g, o = (self.from_input(pooled) + self.from_hidden(h)).chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.sigmoid(), c


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Return a convolution without bias and its batch normalisation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.normal_(conv.weight, std=(2 / (kernel * kernel * outputs)) ** 0.5)
    return [conv, nn.BatchNorm2d(outputs)]


class Block(nn.Module):
    """Bottleneck block whose branch a_t is rescaled by the stage's DIA unit before the addition."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        outputs = EXPANSION * planes
        self.branch = nn.Sequential(
            *conv_bn(inputs, planes, 1), nn.ReLU(),
            *conv_bn(planes, planes, 3, stride), nn.ReLU(),
            *conv_bn(planes, outputs, 1),
        )  # fmt: skip
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Sequential(*([] if same else conv_bn(inputs, outputs, 1, stride)))

    def forward(
        self, x: Tensor, unit: DIALSTM, state: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the next feature map, (B, C, H, W), and the unit's state."""
        branch = self.branch(x)
        state = unit(branch.mean((2, 3)), state)
        attention = state[0][:, :, None, None]
        return functional.relu(self.shortcut(x) + attention * branch), state


class DIANet(nn.Module):
    """ResNet of depth 9n + 2 with one DIA unit for each of its three stages."""

    def __init__(self, depth: int = 164, classes: int = 100, reduction: int = 4) -> None:
        super().__init__()
        self.stem = nn.Sequential(*conv_bn(3, PLANES[0], 3), nn.ReLU())
        self.stages, self.units, channels = nn.ModuleList(), nn.ModuleList(), PLANES[0]
        for stage, planes in enumerate(PLANES):
            blocks = nn.ModuleList()
            for index in range((depth - 2) // 9):
                blocks.append(Block(channels, planes, stride=2 if stage and not index else 1))
                channels = EXPANSION * planes
            self.stages.append(blocks)
            self.units.append(DIALSTM(channels, reduction))
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits, (B, classes), of images, (B, 3, 32, 32)."""
        x = self.stem(x)
        for blocks, unit in zip(self.stages, self.units, strict=True):
            state = None  # h and c are 0 at the beginning of each stage
            for block in blocks:
                x, state = block(x, unit, state)
        return self.classifier(x.mean((2, 3)))


def loaders(root: str, batch: int) -> tuple[DataLoader, DataLoader]:
    """Return CIFAR-100 for training (pad 4, random crop, flip) and for testing."""
    plain = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    augmented = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), *plain]
    train = datasets.CIFAR100(root, train=True, transform=transforms.Compose(augmented))
    test = datasets.CIFAR100(root, train=False, transform=transforms.Compose(plain))
    return DataLoader(train, batch, shuffle=True, num_workers=4), DataLoader(test, 500)


def train_epoch(
    network: nn.Module, batches: DataLoader, optimizer: optim.Optimizer, device: str
) -> float:
    """Train on all batches once; return the mean loss."""
    network.train()
    total, images = 0.0, 0
    for x, labels in batches:
        loss = functional.cross_entropy(network(x.to(device)), labels.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total, images = total + loss.item() * len(x), images + len(x)
    return total / images


@torch.no_grad()
def accuracy(network: nn.Module, batches: DataLoader, device: str) -> float:
    """Return top-1 accuracy, %."""
    network.eval()
    right = 0
    for x, labels in batches:
        right += int((network(x.to(device)).argmax(1).cpu() == labels).sum())
    return 100 * right / len(batches.dataset)


def main() -> None:
    """Train and print a line for each epoch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, default=164)
    parser.add_argument("--epochs", type=int, default=180)
    parser.add_argument("--data", default="data", help="folder with CIFAR-100")
    asked = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    network = DIANet(asked.depth).to(device)
    optimizer = optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    milestones = [asked.epochs // 3, 2 * asked.epochs // 3]
    schedule = optim.lr_scheduler.MultiStepLR(optimizer, milestones)
    train, test = loaders(asked.data, batch=128)
    for epoch in range(1, asked.epochs + 1):
        loss = train_epoch(network, train, optimizer, device)
        schedule.step()
        print(f"epoch {epoch}: loss {loss:.4f}, top-1 {accuracy(network, test, device):.2f} %")


if __name__ == "__main__":
    main()
