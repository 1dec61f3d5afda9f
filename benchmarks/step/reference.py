"""Reference of the step's speed: the paper's formulas written plainly, and a usual loop.

NCHW, eager, float32, torchvision's transforms in a DataLoader, loss and accuracy read at every
step. Results of the suite never come from it.

Float32 on a GPU is exact, as in our `fp32`: by default torch's convolutions would round their
inputs to TF32, and the time would be that of another precision.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as MapDataset
from torchvision import transforms

from dia_repro.data.dataset import Dataset
from dia_repro.experiments.spec import DIALSTMAttention, ResNetBackbone, SEAttention, Spec
from dia_repro.training.numerics import numerics

LOADER_WORKERS = 4
EXPANSION = 4


class DIAUnit(nn.Module):
    """DIA-LSTM of eq. 1, gate by gate."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        inner = channels // reduction
        self.x1, self.x2 = nn.Linear(channels, inner), nn.Linear(inner, 4 * channels)
        self.h1, self.h2 = nn.Linear(channels, inner), nn.Linear(inner, 4 * channels)

    def forward(self, y: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Return the new h and c from y, h and c, (B, C) each."""
        gates = self.x2(functional.relu(self.x1(y))) + self.h2(functional.relu(self.h1(h)))
        i, f, g, o = gates.chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.sigmoid(c), c


class SEModule(nn.Module):
    """Squeeze-and-excitation of pooled channels."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.f1 = nn.Linear(channels, channels // reduction)
        self.f2 = nn.Linear(channels // reduction, channels)

    def forward(self, y: Tensor) -> Tensor:
        """Return the channels' scales (B, C) from their means (B, C)."""
        return torch.sigmoid(self.f2(functional.relu(self.f1(y))))


class Block(nn.Module):
    """A bottleneck block, with an SE module if asked for."""

    def __init__(self, channels: int, planes: int, stride: int, se: int | None) -> None:
        super().__init__()
        out = planes * EXPANSION
        self.conv1 = nn.Conv2d(channels, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.se = SEModule(out, se) if se else None
        self.down = None
        if stride != 1 or channels != out:
            self.down = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def residual(self, x: Tensor) -> Tensor:
        """Return the output of the residual branch, up to the last BN."""
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.relu(self.bn2(self.conv2(x)))
        a: Tensor = self.bn3(self.conv3(x))
        return a


class ReferenceNet(nn.Module):
    """CIFAR ResNet with bottleneck blocks: without attention, with SE or with DIA-LSTM."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        backbone, attention = spec.model.backbone, spec.model.attention
        if not isinstance(backbone, ResNetBackbone) or backbone.block != "bottleneck":
            raise TypeError("the reference is written for CIFAR ResNets with bottleneck blocks")
        se = attention.reduction if isinstance(attention, SEAttention) else None
        self.conv, self.bn = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.stages, self.units = nn.ModuleList(), nn.ModuleList()
        channels = 16
        for planes in (16, 32, 64):
            blocks = nn.ModuleList()
            for index in range((backbone.depth - 2) // 9):
                stride = 2 if planes > 16 and index == 0 else 1
                blocks.append(Block(channels, planes, stride, se))
                channels = planes * EXPANSION
            self.stages.append(blocks)
            if isinstance(attention, DIALSTMAttention):
                self.units.append(DIAUnit(channels, attention.reduction))
        self.fc = nn.Linear(channels, spec.data.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, classes) of images (B, 3, H, W)."""
        x = functional.relu(self.bn(self.conv(x)))
        for number, blocks in enumerate(self.stages):
            h = c = None
            for block in blocks:  # type: ignore[attr-defined]
                a = block.residual(x)
                if self.units:
                    y = functional.adaptive_avg_pool2d(a, 1).flatten(1)
                    if h is None or c is None:
                        h, c = torch.zeros_like(y), torch.zeros_like(y)
                    h, c = self.units[number](y, h, c)
                    a = a * h.view(*h.shape, 1, 1)
                elif block.se is not None:
                    y = functional.adaptive_avg_pool2d(a, 1).flatten(1)
                    a = a * block.se(y).view(*y.shape, 1, 1)
                x = functional.relu(a + (x if block.down is None else block.down(x)))
        x = functional.adaptive_avg_pool2d(x, 1).flatten(1)
        logits: Tensor = self.fc(x)
        return logits


class _Transformed(MapDataset[tuple[Tensor, Tensor]]):
    """Images from uint8 pixels by torchvision's transforms, each separately."""

    def __init__(self, dataset: Dataset, augmentation: str, *, test: bool = False) -> None:
        self.images = dataset.test if test else dataset.train
        steps: list[object] = [transforms.ToPILImage()]
        if augmentation == "crop4-flip":
            side = dataset.train.pixels.shape[-1]
            steps += [transforms.RandomCrop(side, 4), transforms.RandomHorizontalFlip()]
        steps += [transforms.ToTensor(), transforms.Normalize(dataset.mean, dataset.std)]
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.transform(self.images.pixels[index]), self.images.labels[index]


class ReferenceLoop:
    """Trains step by step, as in tutorials.

    Args:
        spec: experiment with a CIFAR ResNet.
        dataset: uint8 images with the mean and std for their normalisation.
    """

    def __init__(self, spec: Spec, dataset: Dataset, device: torch.device) -> None:
        self.device, recipe = device, spec.recipe
        self.batch_size = recipe.batch_size
        self.model = ReferenceNet(spec).to(device).train()
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )
        self.loader = self._loader(_Transformed(dataset, spec.data.augmentation), shuffle=True)
        self.test_loader = self._loader(_Transformed(dataset, "none", test=True), shuffle=False)
        self.loss, self.correct, self.seen = 0.0, 0, 0

    def _loader(self, images: _Transformed, *, shuffle: bool) -> DataLoader[tuple[Tensor, Tensor]]:
        return DataLoader(
            images,
            batch_size=self.batch_size,
            shuffle=shuffle,
            num_workers=LOADER_WORKERS,
            pin_memory=self.device.type == "cuda",
            persistent_workers=True,
        )

    def steps(self) -> Iterator[int]:
        """Train without end, with an evaluation after each epoch.

        Yields:
            The number of images of each finished step, and 0 after an evaluation.
        """
        while True:
            self.model.train()
            for images, labels in self.loader:
                yield self._step(images.to(self.device), labels.to(self.device))
            self.model.eval()
            with torch.no_grad():
                for images, labels in self.test_loader:
                    self._count(images.to(self.device), labels.to(self.device))
            yield 0

    def _count(self, images: Tensor, labels: Tensor) -> Tensor:
        with numerics("fp32", self.device):
            logits = self.model(images)
            loss = functional.cross_entropy(logits, labels)
        self.loss += loss.item() * len(labels)
        self.correct += int((logits.argmax(1) == labels).sum().item())
        self.seen += len(labels)
        return loss

    def _step(self, images: Tensor, labels: Tensor) -> int:
        loss = self._count(images, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return len(labels)
