"""Candidates measured in turn, each in a process of its own."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.__main__ import app
from benchmarks.measurements import BenchmarkError, Measurement, Series, Window, ratio
from benchmarks.step.candidates import Mode, Task, stream
from benchmarks.step.images import image_files
from benchmarks.step.measure import take_turns
from dia_repro.execution import forkserver
from dia_repro.experiments.spec import PreResNetBackbone
from tests.fuzz.commands import run_command
from tests.helpers import benchmarks, one_line, tiny_spec


def task(mode: Mode, text: str | None = None) -> Task:
    return Task(mode, text or tiny_spec(weight_decay=0.0).canonical_json(), "cpu", 1, 256, 64)


def from_files(mode: Mode = Mode.FILES) -> Task:
    spec = tiny_spec(weight_decay=0.0)
    spec = spec.model_copy(
        update={"data": spec.data.model_copy(update={"augmentation": "resized-crop-flip"})}
    )
    return task(mode, spec.canonical_json())


def test_the_files_are_of_a_photographs_size(tmp_path: Path) -> None:
    dataset = image_files("photographs", 32, 3, 2, tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (3, 2)
    for path in tmp_path.glob("*/*/*.jpg"):
        assert 90e3 < path.stat().st_size < 130e3
        with Image.open(path) as image:
            assert image.size == (500, 375)


@pytest.mark.slow
def test_groups_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates are forked, which spares three interpreters the import of torch."""
    forkserver.start()
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: forkserver.CONTEXT)
    seen: list[int] = []
    tasks = ([task(Mode.OURS)] * 2, [task(Mode.PLAIN)])
    both, plain = take_turns(tasks, 2, 0.1, lambda: seen.append(1))
    assert len(seen) == 4
    assert (both.how, plain.how) == ("eager", "plain")
    for series, together in ((both, 2), (plain, 1)):
        assert len(series.windows) == 2
        for window in series.windows:
            assert window.images % 256 == 0, "whole epochs"
            assert window.images >= together * 256
            assert window.seconds >= 0.1
        assert series.start_seconds > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chosen", "how"),
    [
        (task(Mode.FIXED), "eager"),
        pytest.param(from_files(), "decoded by 1", marks=pytest.mark.exhaustive),
        pytest.param(from_files(Mode.PACKED), "decoded by 1", marks=pytest.mark.exhaustive),
    ],
)
def test_ways_of_making_steps(chosen: Task, how: str) -> None:
    steps, wait, made = stream(chosen)
    assert made == how
    epoch = [next(steps) for _ in range(4)]
    assert epoch == [128, 128, 0, 128], "two batches, an evaluation, the next epoch"
    wait()


@pytest.mark.exhaustive
def test_a_candidate_that_fails_is_named_in_a_line() -> None:
    with pytest.raises(BenchmarkError, match=r"^reference: \w+Error: "):
        take_turns([[task(Mode.REFERENCE, '{"not": "a spec"}')]], 1, 0.1)


def test_a_ratio_is_the_median_of_pairs() -> None:
    def series(*rates: float) -> Series:
        return Series(tuple(Window(round(rate), 1.0) for rate in rates), "", 0.0)

    assert ratio(series(20, 90, 40), series(10, 10, 10)) == 4
    assert series(20, 90, 40).rate == 40


@pytest.mark.parametrize(
    ("value", "least", "most", "met"),
    [
        (1.5, 1.5, None, True),
        (1.4, 1.5, None, False),
        (2.1, None, 2.0, False),
        (9, None, None, None),
    ],
)
def test_goals(value: float, least: float | None, most: float | None, met: bool | None) -> None:
    assert Measurement("", value, "x", least, most).met is met


@pytest.mark.exhaustive
def test_the_command_measures_and_writes(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(tiny_spec().canonical_json())
    options = ("--windows", "1", "--seconds", "0.1", "--device", "cpu")
    done = benchmarks("step", "--spec", "spec.json", "--reference", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ours ÷ reference" in done.stdout
    content = json.loads((tmp_path / "bench.json").read_text())
    assert content["environment"]["torch"]
    rates = {rate["name"].rpartition(": ")[2]: rate["value"] for rate in content["measurements"]}
    assert rates["ours ÷ reference"] == pytest.approx(rates["ours"] / rates["reference"])


def test_misuse_is_one_line(tmp_path: Path) -> None:
    other = tiny_spec().model_copy(
        update={
            "model": tiny_spec().model.model_copy(update={"backbone": PreResNetBackbone(depth=20)})
        }
    )
    (tmp_path / "other.json").write_text(other.canonical_json())
    (tmp_path / "bad.json").write_text("{")
    for arguments, code in (
        ((), 2),
        (("--suite", "cpu", "--spec", "x.json"), 2),
        (("--spec", "missing.json"), 3),
        (("--spec", "bad.json"), 2),
        (("--suite", "cpu", "--out", "no/such/folder.json"), 2),
        (("--suite", "cpu", "--out", "a" * 300 + "/x"), 1),
        (("--spec", "other.json", "--reference", "--device", "cpu"), 2),
        (("--artifact", "table5", "--only", "nothing", "--device", "cpu"), 2),
    ):
        done = run_command("step", *arguments, cwd=tmp_path, program=app)
        assert done.code == code, (arguments, done.stderr)
        assert one_line(done.stderr), (arguments, done.stderr)
