"""Runs on a real Ray cluster of several nodes, all on this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dia_repro.execution.local import LocalExecutor
from dia_repro.execution.messages import Ended, Message, Outcome, Progress, WorkOrder
from dia_repro.execution.placing import Places
from dia_repro.experiments.names import DataLocation
from dia_repro.experiments.protocols import DATASETS
from dia_repro.results.database import open_database
from dia_repro.results.queries import all_runs, run_detail
from dia_repro.results.schema import State
from dia_repro.training.disk import Disk
from dia_repro.training.objects import Objects
from dia_repro.training.probing import NoStoreError
from tests.execution.tiny_runs import DATABASE, make_orders, report
from tests.helpers import cli, one_line, tiny_spec

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]

EPOCHS = 2
STORE_BYTES = 80 * 1024**2  # the least that Ray takes


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Three nodes with a processor each."""
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": STORE_BYTES}
    made = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    for _ in range(2):
        made.add_node(**node)
    yield made
    ray.shutdown()
    made.shutdown()  # type: ignore[no-untyped-call]


def rows(folder: Path) -> dict[int, list[tuple[Any, ...]]]:
    """Epochs' figures by seed, for runs that finished."""
    database = open_database(str(folder / DATABASE), create=False)
    found = {}
    for run in all_runs(database):
        assert run.state is State.FINISHED, run
        names = ("epoch", "lr", "train_loss", "train_top1", "test_loss", "test_top1")
        epochs = run_detail(database, run.id).epochs
        found[run.seed] = [tuple(epoch[name] for name in names) for epoch in epochs]
    database.close()
    return found


@pytest.mark.parametrize("runs", [5, pytest.param(20, marks=pytest.mark.slow)])
def test_a_lost_node_loses_no_run(runs: int, cluster: Cluster, tmp_path: Path) -> None:
    """One of three nodes is killed midway: each run finishes once, as in a serial execution."""
    from dia_repro.execution.on_ray import RayExecutor, Share, UnfitNodeError, check_nodes, connect

    found = connect(cluster.address)
    assert (len(found.nodes), found.room(Share(0, 1))) == (3, 3)
    check_nodes(found, [tiny_spec().data], DataLocation(tmp_path), Disk(tmp_path))
    with pytest.raises(UnfitNodeError, match=r"^node \S+: .*cifar10"):
        check_nodes(found, [DATASETS["cifar10"].spec], DataLocation(tmp_path), Disk(tmp_path))
    database, orders = make_orders(tmp_path, [tiny_spec(epochs=EPOCHS)], runs)
    ends: list[int] = []
    victim = cluster.worker_nodes.copy().pop()

    def listen(order: WorkOrder, message: Message) -> None:
        if isinstance(message, Ended):
            ends.append(order.run_id)
            if len(ends) == runs // 3:
                threading.Thread(target=cluster.remove_node, args=(victim, False)).start()

    ended = RayExecutor(database, Share(0, 1), listen).run(orders)
    assert {one.outcome for one in ended.values()} == {Outcome.FINISHED}
    assert sorted(ends) == sorted(ended) == sorted(order.run_id for order in orders)
    database.close()
    serial = tmp_path / "serial"
    serial.mkdir()
    database, orders = make_orders(serial, [tiny_spec(epochs=EPOCHS)], runs)
    LocalExecutor(database, Places.on_cpu(2), report).run(orders)
    database.close()
    assert rows(tmp_path) == rows(serial)
    assert len(rows(tmp_path)) == runs


@pytest.mark.slow
def test_a_lost_nodes_run_goes_on_from_the_object_store(
    bucket: str,  # before the cluster: its nodes have the settings from here
    cluster: Cluster,
    tmp_path: Path,
) -> None:
    """All nodes have a run; one is killed when all have done two epochs."""
    from dia_repro.execution.on_ray import RayExecutor, Share, check_nodes, connect

    runs, epochs = 3, 8
    found = connect(cluster.address)
    database, orders = make_orders(tmp_path, [tiny_spec(epochs=epochs)], runs, bucket)
    check_nodes(found, [tiny_spec().data], DataLocation(tmp_path), Objects(bucket))
    with pytest.raises(NoStoreError, match="bucket does not exist"):
        check_nodes(found, [], DataLocation(tmp_path), Objects(f"{bucket}-missing"))
    done: dict[int, int] = {}
    victims = [cluster.worker_nodes.copy().pop()]

    def listen(order: WorkOrder, message: Message) -> None:
        if isinstance(message, Progress):
            done[order.run_id] = message.epochs
        if victims and len(done) == runs and min(done.values()) >= 2:
            threading.Thread(target=cluster.remove_node, args=(victims.pop(), False)).start()

    ended = RayExecutor(database, Share(0, 1), listen).run(orders)
    assert {one.outcome for one in ended.values()} == {Outcome.FINISHED}
    assert not victims
    attempts = [run_detail(database, order.run_id).provenance for order in orders]
    assert sorted(len(one) for one in attempts) == [1, 1, 2]
    assert max(int(str(one[-1]["from_epoch"])) for one in attempts) >= 2
    assert len(Objects(bucket).run_folders()) == runs
    assert not list(tmp_path.rglob("*.pt"))
    database.close()
    serial = tmp_path / "serial"
    serial.mkdir()
    database, orders = make_orders(serial, [tiny_spec(epochs=epochs)], runs)
    LocalExecutor(database, Places.on_cpu(2), report).run(orders)
    database.close()
    assert rows(tmp_path) == rows(serial)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--executor", "ray", "--jobs", "2"), 2, "--jobs is for this machine"),
        (("--address", "auto"), 2, "add --executor ray"),
        (("--executor", "ray", "--address", "127.0.0.1:1"), 3, "no Ray cluster at 127.0.0.1:1"),
        (("--executor", "ray", "--address", "nowhere"), 3, "no Ray cluster at nowhere"),
        (("--per-gpu", "2", "--device", "cpu"), 3, "no GPU here to share"),
    ],
)
def test_misuse_is_one_line(
    options: tuple[str, ...], code: int, words: str, tmp_path: Path
) -> None:
    done = cli("run", "table5", "--protocol", "demo", *options, cwd=tmp_path)
    assert (done.returncode, one_line(done.stderr)) == (code, True), done.stderr
    assert words in done.stderr
    assert not (tmp_path / "runs.db").exists()
