"""What is exported: the tables and their columns, described in this one place.

Readers take rows in the order of these columns, writers and `schema.json` their names and types.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Type = Literal["integer", "number", "text", "boolean", "time"]


@dataclass(frozen=True)
class Column:
    """A column of an exported table.

    Attributes:
        meaning: a sentence.
        unit: of a number; empty where it has none.
        nullable: whether a value may be missing.
        source: where it comes from, if not from the attribute of its name: an attribute of the
            database's row, or for `runs` a path that begins with `run.`, `spec.` or `words.`.
    """

    name: str
    type: Type
    meaning: str
    unit: str = ""
    nullable: bool = False
    source: str = ""

    @property
    def origin(self) -> str:
        """Where it comes from."""
        return self.source or self.name


@dataclass(frozen=True)
class Table:
    """An exported table: a file of that name, one record a row."""

    name: str
    meaning: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of its columns, in their order."""
        return tuple(column.name for column in self.columns)


def _run(
    name: str,
    type_: Type,
    meaning: str,
    unit: str = "",
    *,
    source: str = "",
    nullable: bool = False,
) -> Column:
    return Column(name, type_, meaning, unit, nullable, f"run.{source or name}")


def _spec(
    name: str, type_: Type, meaning: str, unit: str = "", *, source: str, nullable: bool = False
) -> Column:
    return Column(name, type_, meaning, unit, nullable, f"spec.{source}")


RUNS = Table(
    "runs",
    "One record a run: one training of one experiment with one seed.",
    (
        _run("run", "integer", "The run's number in this database.", source="id"),
        _run("uid", "text", "The run's name, which it keeps when databases are merged."),
        _run("spec_id", "text", "Names the experiment: a hash of all that defines it."),
        _run("seed", "integer", "Of all random draws."),
        _run("state", "text", "pending, running, finished, diverged, failed or interrupted."),
        _run("reason", "text", "Why it failed, or how it diverged.", nullable=True),
        _run("owner", "text", "The process that trains it, while one does.", nullable=True),
        Column("network", "text", "The network in short words.", source="words.network"),
        Column("data", "text", "The data in short words.", source="words.data"),
        _spec("dataset", "text", "Name of the data set.", source="data.dataset"),
        _spec("classes", "integer", "Classes of the data set.", source="data.classes"),
        _spec(
            "image_size",
            "integer",
            "Side of the square images.",
            "pixels",
            source="data.image_size",
        ),
        _spec(
            "augmentation", "text", "How training images are varied.", source="data.augmentation"
        ),
        _spec(
            "content_hash",
            "text",
            "SHA-256 of a user's own images.",
            source="data.content_hash",
            nullable=True,
        ),
        _spec("backbone", "text", "Family of the backbone.", source="model.backbone.family"),
        _spec(
            "depth",
            "integer",
            "Layers, where the family leaves a choice.",
            source="model.backbone.depth",
            nullable=True,
        ),
        _spec(
            "block", "text", "bottleneck or basic.", source="model.backbone.block", nullable=True
        ),
        _spec(
            "widen_factor",
            "integer",
            "Of wide ResNets and ResNeXts.",
            source="model.backbone.widen_factor",
            nullable=True,
        ),
        _spec(
            "cardinality",
            "integer",
            "Groups of ResNeXts.",
            source="model.backbone.cardinality",
            nullable=True,
        ),
        _spec(
            "dropout",
            "number",
            "Probability, of wide ResNets.",
            source="model.backbone.dropout",
            nullable=True,
        ),
        _spec(
            "conv_bias",
            "boolean",
            "Whether convolutions have a bias, of ImageNet's networks.",
            source="model.backbone.conv_bias",
            nullable=True,
        ),
        _spec("attention", "text", "none, se, dia-se or dia-lstm.", source="model.attention.kind"),
        _spec(
            "reduction",
            "integer",
            "The attention's reduction ratio r.",
            source="model.attention.reduction",
            nullable=True,
        ),
        _spec(
            "attention_bias",
            "boolean",
            "Whether SE modules have biases.",
            source="model.attention.bias",
            nullable=True,
        ),
        _spec(
            "activation",
            "text",
            "At the LSTM's output.",
            source="model.attention.activation",
            nullable=True,
        ),
        _spec(
            "cells",
            "integer",
            "Stacked LSTM cells.",
            source="model.attention.cells",
            nullable=True,
        ),
        _spec(
            "stages",
            "text",
            "Stages with a DIA unit, spaces between; missing for all.",
            source="model.attention.stages",
            nullable=True,
        ),
        _spec(
            "extraction",
            "text",
            "What the DIA unit sees of a feature map: gap or bn+gap.",
            source="model.attention.extraction",
            nullable=True,
        ),
        _spec("norm", "boolean", "Whether there is batch normalisation.", source="model.norm"),
        _spec("skip", "boolean", "Whether there are skip connections.", source="model.skip"),
        _spec(
            "epochs", "integer", "Length of the whole training.", "epochs", source="recipe.epochs"
        ),
        _spec("batch_size", "integer", "Images of a step.", "images", source="recipe.batch_size"),
        _spec("lr", "number", "Learning rate at the start.", source="recipe.lr"),
        _spec("momentum", "number", "Of SGD.", source="recipe.momentum"),
        _spec("weight_decay", "number", "On all parameters.", source="recipe.weight_decay"),
        _spec(
            "milestones",
            "text",
            "Epochs, counted from 0, at whose start the rate is cut; spaces between.",
            "epochs",
            source="recipe.milestones",
        ),
        _spec("gamma", "number", "What the rate is cut to, as a factor.", source="recipe.gamma"),
        _spec("precision", "text", "Arithmetic: fp32, tf32 or bf16.", source="precision"),
        _run(
            "parameters",
            "integer",
            "Of the network, as counted; missing before it is built.",
            nullable=True,
        ),
        _run("epochs_done", "integer", "Epochs that are recorded.", "epochs", source="epochs"),
        _run("best_top1", "number", "Best test accuracy over epochs.", "%", nullable=True),
        _run("last_top1", "number", "Test accuracy of the last epoch.", "%", nullable=True),
        _run("seconds", "number", "Wall time of all recorded epochs.", "s"),
        _run("created_at", "time", "When the run was first asked for."),
        _run("changed_at", "time", "When anything of it last changed."),
    ),
)
EPOCHS = Table(
    "epochs",
    "One record an epoch of a run.",
    (
        Column("run", "integer", "The run's number, as in runs.", source="run_id"),
        Column("epoch", "integer", "Counted from 1."),
        Column("lr", "number", "Learning rate during the epoch."),
        Column("train_loss", "number", "Mean cross entropy while the weights moved.", "nats"),
        Column("train_top1", "number", "Training accuracy while the weights moved.", "%"),
        Column("test_loss", "number", "Mean cross entropy on the whole test set.", "nats"),
        Column("test_top1", "number", "Accuracy on the whole test set.", "%"),
        Column("seconds", "number", "Wall time, evaluation included.", "s"),
    ),
)
ATTEMPTS = Table(
    "attempts",
    "One record an attempt at a run, with what it ran on; a run that was resumed has several.",
    (
        Column("attempt", "integer", "The attempt's number in this database.", source="id"),
        Column("run", "integer", "The run's number, as in runs.", source="run_id"),
        Column("started_at", "time", "When it began."),
        Column("ended_at", "time", "When it ended; missing if it was killed.", nullable=True),
        Column("wall_seconds", "number", "How long it took.", "s", nullable=True),
        Column("peak_memory_bytes", "integer", "The most memory it held.", "bytes", nullable=True),
        Column("host", "text", "Name of the machine."),
        Column("device", "text", "Name of the GPU or processor."),
        Column("threads", "integer", "CPU threads of the training process."),
        Column("python", "text", "Version of Python."),
        Column("torch", "text", "Version of torch."),
        Column("cuda", "text", "Version of CUDA; missing on a CPU.", nullable=True),
        Column("package", "text", "Version of this package."),
        Column("git_commit", "text", "Of the code; missing outside a checkout.", nullable=True),
        Column("git_clean", "boolean", "Whether the checkout had no changes.", nullable=True),
        Column("command", "text", "The command line."),
        Column("data_sha256", "text", "Of pixels and labels."),
        Column("from_epoch", "integer", "Epochs that were done before.", "epochs"),
        Column("step", "text", "In which way its steps were made.", nullable=True),
        Column(
            "deterministic", "boolean", "Whether the same would give the same bits.", nullable=True
        ),
    ),
)
TABLES = (RUNS, EPOCHS, ATTEMPTS)
