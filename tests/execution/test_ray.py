"""Runs on a real Ray cluster of several nodes, all on this machine."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

import dia_repro
from dia_repro.data import known_data
from dia_repro.execution.executors.local import LocalSupervisor
from dia_repro.execution.machine import Slots
from dia_repro.execution.messages import Ended, Job, Message, Outcome, Progress
from dia_repro.experiments.names import DataLocation
from dia_repro.results.database import open_database
from dia_repro.results.queries import RunSummary, all_runs, run_detail
from dia_repro.results.schema import State
from dia_repro.training.probing import NoStoreError
from dia_repro.training.store import Store
from tests.execution.tiny_runs import DATABASE, make_jobs, report
from tests.helpers import (
    Program,
    can_mount,
    clean_environment,
    cli,
    one_line,
    tiny_spec,
    write_folder,
)

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

    from dia_repro.execution.ray_nodes import Cluster as Nodes

pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]

RUNS, LONG = 3, 8  # of what is interrupted
PACKAGE = Path(dia_repro.__file__).parent
ROOT = PACKAGE.parent
STORE_BYTES = 80 * 1024**2  # the least that Ray takes
NODE: dict[str, Any] = {"num_cpus": 1, "object_store_memory": STORE_BYTES}


@pytest.fixture(scope="module", autouse=True)
def settings() -> Iterator[None]:
    """Ray gives its workers the lowest priority: next to other tests they would get no core."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        patch.setenv("RAY_worker_niceness", "0")
        yield


def start_cluster() -> Cluster:
    """Start a cluster of one node with a processor."""
    from ray.cluster_utils import Cluster

    return Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Three nodes with a processor each."""
    import ray

    made = start_cluster()
    for _ in range(2):
        made.add_node(**NODE)
    yield made
    ray.shutdown()
    made.shutdown()  # type: ignore[no-untyped-call]


@dataclass
class Standing:
    """A cluster of one node that tests share, started again once a test has shut it down."""

    running: Cluster | None = None

    @property
    def cluster(self) -> Cluster:
        self.running = self.running or start_cluster()
        return self.running

    @property
    def address(self) -> str:
        address: str = self.cluster.address
        return address

    def shut_down(self) -> None:
        running, self.running = self.running, None
        if running is not None:
            running.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def standing(settings: None) -> Iterator[Standing]:
    """A cluster that outlives its drivers."""
    shared = Standing()
    yield shared
    shared.shut_down()


@pytest.fixture
def pair(standing: Standing) -> Iterator[Standing]:
    """The same cluster with a second node."""
    added = standing.cluster.add_node(**NODE)
    yield standing
    if added in standing.cluster.worker_nodes:
        standing.cluster.remove_node(added)


def rows(location: Path | str) -> dict[int, list[tuple[Any, ...]]]:
    """Epochs' figures by seed, for runs that finished."""
    database = open_database(str(location), create=False)
    found = {}
    for run in all_runs(database):
        assert run.state is State.FINISHED, run
        names = ("epoch", "lr", "train_loss", "train_top1", "test_loss", "test_top1")
        epochs = run_detail(database, run.id).epochs
        found[run.seed] = [tuple(epoch[name] for name in names) for epoch in epochs]
    database.close()
    return found


def most_at_a_time(location: Path) -> int:
    """How many attempts were under way at the same time, at most."""
    database = open_database(str(location), create=False)
    attempts = [
        attempt for run in all_runs(database) for attempt in run_detail(database, run.id).provenance
    ]
    database.close()
    begun = [str(attempt["started_at"]) for attempt in attempts]
    return max(
        sum(str(attempt["started_at"]) <= moment < str(attempt["ended_at"]) for attempt in attempts)
        for moment in begun
    )


def assert_nodes_need_data(found: Nodes, folder: Path) -> None:
    """Two nodes have the digits, and no CIFAR-10."""
    from dia_repro.execution.ray_nodes import Share, UnfitNodeError, check_nodes

    check_nodes(found, Share(0, 1), [tiny_spec().data], DataLocation(folder), Store(folder))
    cifar10 = [known_data("cifar10").spec]
    with pytest.raises(UnfitNodeError, match=r"^node \S+, \S+: cifar10"):
        check_nodes(found, Share(0, 1), cifar10, DataLocation(folder), Store(folder))


@pytest.mark.slow
def test_a_lost_node_loses_no_run(
    pair: Standing, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """One of two nodes is killed midway: each run finishes once, as in a serial execution."""
    runs, epochs = 3, 16  # two runs are under way when one node is killed, and one waits
    import ray

    from dia_repro.execution.executors.ray import RaySupervisor
    from dia_repro.execution.ray_nodes import Share, connect

    found = connect(pair.address)
    request.addfinalizer(ray.shutdown)
    assert (len(found.nodes), found.room(Share(0, 1))) == (2, 2)
    assert_nodes_need_data(found, tmp_path)
    database, jobs = make_jobs(tmp_path, [tiny_spec(epochs=epochs)], runs)
    need = 1_500_000_000
    jobs = [replace(job, memory=need) for job in jobs]
    ends: list[int] = []
    under_way: set[int] = set()

    def memory() -> float:
        free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
        return free.get("memory", 0.0)

    free = [memory()]
    victims = [*pair.cluster.worker_nodes]

    def listen(job: Job, message: Message) -> None:
        if not ends:
            free.append(memory())
        if isinstance(message, Progress):
            under_way.add(job.run_id)
        if isinstance(message, Ended):
            ends.append(job.run_id)
            under_way.discard(job.run_id)
        if len(under_way) == 2 and victims:
            lost = (victims.pop(), False)
            threading.Thread(target=pair.cluster.remove_node, args=lost).start()

    ended = RaySupervisor(database, Share(0, 1), listen).run(jobs)
    # One whose node was lost after its end, and before it was told, is found done by the next task.
    assert {ending.outcome for ending in ended.values()} <= {Outcome.FINISHED, Outcome.DONE_BEFORE}
    assert {run.state for run in all_runs(database)} == {State.FINISHED}
    assert free[0] - min(free) >= need, "what it takes is set aside for each"
    assert sorted(ends) == sorted(ended) == sorted(job.run_id for job in jobs)
    attempts = [len(run_detail(database, job.run_id).provenance) for job in jobs]
    assert sorted(attempts) == [1, 1, 2], "the lost node had a run"
    database.close()
    assert most_at_a_time(tmp_path / DATABASE) <= 2, "a processor was lent to a second run"
    assert rows(tmp_path / DATABASE) == serial_rows(tmp_path / "serial", runs, epochs)
    assert len(rows(tmp_path / DATABASE)) == runs


SETTINGS = {"OMP_THREAD_LIMIT": "1", "OMP_DYNAMIC": "true", "NUMBA_NUM_THREADS": "1"}
# Threads that a task gets of torch and numba, on a node that was started with other settings.
COUNT_THREADS = (
    "import sys\n"
    "from pathlib import Path\n"
    "from dia_repro.execution.messages import Ended, Outcome\n"
    "from dia_repro.execution.executors.ray import RaySupervisor\n"
    "from dia_repro.execution.ray_nodes import Share\n"
    "import ray\n"
    "from tests.execution.tiny_runs import make_jobs, report\n"
    "from tests.helpers import tiny_spec\n"
    "def count(job, *_):\n"
    "    import os, torch, numba\n"
    "    from dia_repro.training.numerics import prepare_process\n"
    "    prepare_process(job.threads)\n"
    "    left = [name for name in sys.argv[1:] if name in os.environ]\n"
    "    threads = torch.get_num_threads(), numba.get_num_threads()\n"
    "    return Ended(Outcome.FINISHED, f'{threads} {left}')\n"
    "ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False,\n"
    f"    object_store_memory={STORE_BYTES})\n"
    "database, jobs = make_jobs(Path.cwd(), [tiny_spec()], 1)\n"
    "ended = RaySupervisor(database, Share(0, 2), report, attempt=count).run(jobs)\n"
    "print(*(ending.detail for ending in ended.values()))\n"
)


@pytest.mark.exhaustive
def test_run_gets_the_threads_of_its_share(tmp_path: Path) -> None:
    environment = clean_environment(
        PYTHONPATH=str(ROOT), RAY_ENABLE_UV_RUN_RUNTIME_ENV="0", **SETTINGS
    )
    driver = subprocess.run(
        [sys.executable, "-c", COUNT_THREADS.replace("sys.argv[1:]", repr(list(SETTINGS)))],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    cores = min(2, len(os.sched_getaffinity(0)))
    assert driver.stdout.splitlines()[-1:] == [f"(2, {cores}) []"], driver.stderr


def start(folder: Path, *command: object) -> subprocess.Popen[str]:
    """A driver in a process of its own, with that folder to work in."""
    folder.mkdir(exist_ok=True)
    environment = clean_environment(PYTHONPATH=str(ROOT), RAY_ENABLE_UV_RUN_RUNTIME_ENV="0")
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, command)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run_on(executor: str, folder: Path, *words: object) -> subprocess.Popen[str] | Program:
    """`dia-repro run`, which only for Ray has to be an interpreter of its own."""
    if executor == "ray":
        return start(folder, "dia_repro", "run", *words)
    return Program("dia_repro.cli.main", "run", *map(str, words), cwd=folder)


def all_output(driver: subprocess.Popen[str] | Program, timeout: float | None = None) -> str:
    return "".join(filter(None, driver.communicate(timeout=timeout)))


def wait_until(condition: Callable[[], bool], driver: subprocess.Popen[str] | Program) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert driver.poll() is None, all_output(driver)
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def known(location: Path | str) -> tuple[RunSummary, ...]:
    database = open_database(str(location), create=False)
    try:
        return all_runs(database)
    finally:
        database.close()


def has_epochs(location: Path | str) -> Callable[[], bool]:
    return lambda: any(run.epochs for run in known(location))


def serial_rows(folder: Path, runs: int, epochs: int) -> dict[int, list[tuple[Any, ...]]]:
    folder.mkdir()
    database, jobs = make_jobs(folder, [tiny_spec(epochs=epochs)], runs)
    LocalSupervisor(database, Slots.on_cpu(2), report).run(jobs)
    database.close()
    return rows(folder / DATABASE)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "backend", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
)
def test_a_killed_driver_is_followed_by_another(
    backend: str, pair: Standing, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Its tasks die with it; the next on the same cluster finishes each run, as if undisturbed."""
    location = str(tmp_path / DATABASE)
    if backend == "postgres":
        location = request.getfixturevalue("postgres")
    command = ("tests.execution.tiny_runs", RUNS, 0, LONG, pair.address, location)
    driver = start(tmp_path, *command)
    wait_until(has_epochs(location), driver)
    driver.kill()
    driver.wait()
    assert State.RUNNING in {run.state for run in known(location)}
    again = start(tmp_path, *command)
    output, _ = again.communicate(timeout=120)
    assert output.split().count("finished") == RUNS, output
    assert "waiting for a sign of life" not in output
    assert rows(location) == serial_rows(tmp_path / "serial", RUNS, LONG)


@pytest.mark.exhaustive
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_ends_a_ray_driver(times: int, pair: Standing, tmp_path: Path) -> None:
    command = ("dia_repro", "run", "table5", "--protocol", "demo", "--only", "SENet ResNet83")
    options = ("--epochs", 2, "--seeds", 3, "--executor", "ray", "--address", pair.address)
    driver = start(tmp_path, *command, *options)
    wait_until(has_epochs(tmp_path / DATABASE), driver)
    for _ in range(times):
        os.killpg(driver.pid, signal.SIGINT)
        time.sleep(0.2)
    output, _ = driver.communicate(timeout=60)
    assert (driver.returncode, "Traceback" in output) == (130, False), output
    assert "nothing is lost" in output
    states = {run.state for run in known(tmp_path / DATABASE)}
    assert State.FAILED not in states
    assert (State.INTERRUPTED in states) or times == 2
    output, _ = start(tmp_path, *command, *options).communicate(timeout=200)
    assert {run.state for run in known(tmp_path / DATABASE)} == {State.FINISHED}, output
    assert all(run.epochs == 2 for run in known(tmp_path / DATABASE))


@pytest.mark.exhaustive
def test_ctrl_c_does_not_wait_for_a_database_that_others_hold(
    standing: Standing, tmp_path: Path
) -> None:
    command = ("dia_repro", "run", "table5", "--protocol", "demo", "--only", "SENet ResNet83")
    options = ("--epochs", 60, "--executor", "ray", "--address", standing.address, "--yes")
    driver = start(tmp_path, *command, *options)
    wait_until(has_epochs(tmp_path / DATABASE), driver)
    with closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as other:
        other.execute("begin immediate")
        os.killpg(driver.pid, signal.SIGINT)
        output, _ = driver.communicate(timeout=90)  # it is held all the time
    assert (driver.returncode, "Traceback" in output) == (130, False), output


@pytest.mark.parametrize(
    "executor",
    [
        pytest.param("ray", marks=pytest.mark.exhaustive),
        pytest.param("local", marks=pytest.mark.slow),
    ],
)
def test_a_database_that_vanishes_is_one_line(
    executor: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    images = write_folder(tmp_path / "pets", {"train": 8, "val": 4})
    command = ("table5", "--protocol", "demo", "--only", "SENet ResNet83", "--seeds", 2)
    data = ("--dataset", f"folder:{images}", "--image-size", 8, "--yes", "--epochs", 6)
    where: tuple[str | int, ...] = ("--jobs", 2)
    if executor == "ray":
        where = ("--executor", "ray", "--address", request.getfixturevalue("pair").address)
    driver = run_on(executor, tmp_path, *command, *data, *where)
    wait_until(has_epochs(tmp_path / DATABASE), driver)
    (tmp_path / DATABASE).rename(tmp_path / "elsewhere.db")
    output = all_output(driver, timeout=100)
    complaints = [line for line in output.splitlines() if not re.search(r": epoch|to train", line)]
    assert (driver.returncode, len(complaints)) == (3, 1), output
    gone = r"dia-repro: database runs.db is gone \(.*the same command goes on"
    assert re.match(gone, complaints[0])
    assert not (tmp_path / DATABASE).exists(), "an empty one in its place"
    (tmp_path / "elsewhere.db").rename(tmp_path / DATABASE)
    output = all_output(run_on(executor, tmp_path, *command, *data, *where))
    assert "without a checkpoint" not in output
    finished = known(tmp_path / DATABASE)
    assert [(run.state, run.epochs) for run in finished] == [(State.FINISHED, 6)] * 2, output


@pytest.mark.exhaustive
@pytest.mark.slow
def test_what_nodes_report_is_not_printed(standing: Standing, tmp_path: Path) -> None:
    """Such as that a task is begun again; for a process that has not joined by `connect` it is."""
    code = """
import sys, time, ray
from ray._private.utils import push_error_to_driver
from dia_repro.execution.ray_nodes import connect
if sys.argv[2] == "ours":
    connect(sys.argv[1])
else:
    ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
push_error_to_driver(ray._private.worker.global_worker, "lost", "a task was lost")
time.sleep(5)
"""
    printed = {}
    for who in ("ours", "Ray's"):
        command = [sys.executable, "-c", code, standing.address, who]
        environment = clean_environment(PYTHONPATH=str(ROOT), RAY_ENABLE_UV_RUN_RUNTIME_ENV="0")
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        printed[who] = done.stdout
    assert "a task was lost" in printed["Ray's"], "the test no longer provokes what it is about"
    assert printed["ours"] == ""


@contextmanager
def blind_node(address: str, name: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A node that sees nothing in a folder: something else is mounted there, for it alone."""
    ray_start = (
        f"{sys.executable} -m ray.scripts.scripts start --address {address} --node-name {name} "
        f"--num-cpus 1 --object-store-memory {STORE_BYTES} --block"
    )
    hidden = f"mount -t tmpfs none {shlex.quote(str(folder))} && exec {ray_start}"
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", hidden],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


@pytest.mark.exhaustive
@pytest.mark.skipif(not can_mount(), reason="mounting needs root")
def test_faulty_nodes_are_all_named(cluster: Cluster, tmp_path: Path) -> None:
    """Of six nodes one has another version and one does not see the images; one gets no runs."""
    import ray

    other = shutil.copytree(PACKAGE, tmp_path / "other" / "dia_repro") / "__init__.py"
    other.write_text('__version__ = "9.9"\n', encoding="utf-8")
    photos = write_folder(tmp_path / "photos", {"train": 4, "test": 2})
    cluster.add_node(**NODE, node_name="old", env_vars={"PYTHONPATH": str(other.parents[1])})
    cluster.add_node(num_cpus=0, object_store_memory=STORE_BYTES, node_name="idle")
    ray.init(cluster.address, log_to_driver=False)
    with blind_node(cluster.address, "blind", photos) as process:
        wait_until(lambda: len(ray.nodes()) == 6, process)  # type: ignore[no-untyped-call]
        options = ("--dataset", "folder:photos", "--executor", "ray", "--address", cluster.address)
        driver = start(tmp_path, "dia_repro", "run", "table5", "--protocol", "demo", *options)
        output, _ = driver.communicate(timeout=200)
    assert (driver.returncode, one_line(output)) == (3, True), output
    assert re.search(r"node old: has dia-repro 9\.9, torch \S+, and this machine dia-repro", output)
    assert re.search(r"node blind: .*photos", output), output
    assert not re.search(r"idle", output), output
    assert not (tmp_path / DATABASE).exists()


def test_a_share_fits_the_nodes_that_have_gpus() -> None:
    """Processors are shared out node by node: a big one without GPUs has none to give."""
    from dia_repro.execution.ray_nodes import Cluster, Node, Share, UnfitNodeError

    plain, small, large = Node("a", "a", 0, 64), Node("b", "b", 2, 9), Node("c", "c", 4, 32)
    cluster = Cluster((plain, small, large))
    assert cluster.share(1) == Share(1, 4)
    assert cluster.room(Share(1, 4)) == 6
    assert cluster.share(1 / 3) == Share(1 / 3, 1)
    assert cluster.room(Share(1 / 3, 1)) == 6 + 12
    assert cluster.room(cluster.share(0)) == 64 + 9 + 32
    bare = Cluster((Node("d", "d", 2, 0), Node("e", "e", 0, 8)))
    with pytest.raises(
        UnfitNodeError, match=r"a processor and a GPU \(.* of d: 0 and 2; e: 8 and 0"
    ):
        bare.share(1)
    with pytest.raises(UnfitNodeError, match="no node of the cluster has room"):
        Cluster((Node("f", "f", 0, 0),)).share(0)


def test_cluster_without_gpus_is_one_line(standing: Standing, tmp_path: Path) -> None:
    options = ("--executor", "ray", "--address", standing.address, "--device", "cuda")
    done = cli("run", "table5", "--protocol", "demo", *options, cwd=tmp_path)
    assert (done.returncode, one_line(done.stderr)) == (3, True), done.stderr
    assert "no node of the cluster has a GPU" in done.stderr


@pytest.mark.exhaustive
def test_lost_nodes_run_resumes_from_object_store(
    bucket: str,  # before the cluster: its nodes have the settings from here
    cluster: Cluster,
    tmp_path: Path,
) -> None:
    """All nodes have a run; one is killed when all have done two epochs."""
    from dia_repro.execution.executors.ray import RaySupervisor
    from dia_repro.execution.ray_nodes import Share, check_nodes, connect

    runs, epochs = 3, 8
    found = connect(cluster.address)
    database, jobs = make_jobs(tmp_path, [tiny_spec(epochs=epochs)], runs, bucket)
    share, where = Share(0, 1), DataLocation(tmp_path)
    check_nodes(found, share, [tiny_spec().data], where, Store(bucket))
    with pytest.raises(NoStoreError, match="bucket does not exist"):
        check_nodes(found, share, [], where, Store(f"{bucket}-missing"))
    done: dict[int, int] = {}
    victims = [cluster.worker_nodes.copy().pop()]

    def listen(job: Job, message: Message) -> None:
        if isinstance(message, Progress):
            done[job.run_id] = message.epochs
        if victims and len(done) == runs and min(done.values()) >= 2:
            threading.Thread(target=cluster.remove_node, args=(victims.pop(), False)).start()

    ended = RaySupervisor(database, Share(0, 1), listen).run(jobs)
    assert {ending.outcome for ending in ended.values()} == {Outcome.FINISHED}
    assert not victims
    attempts = [run_detail(database, job.run_id).provenance for job in jobs]
    assert sorted(len(of_run) for of_run in attempts) == [1, 1, 2]
    assert max(int(str(of_run[-1]["from_epoch"])) for of_run in attempts) >= 2
    assert len(Store(bucket).run_folders()) == runs
    assert not list(tmp_path.rglob("*.pt"))
    database.close()
    assert rows(tmp_path / DATABASE) == serial_rows(tmp_path / "serial", runs, epochs)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--executor", "ray", "--jobs", "2"), 2, "--jobs does not go with --executor ray"),
        (("--address", "auto"), 2, "--address does not go with --executor local"),
        (("--executor", "ray", "--address", "127.0.0.1:1"), 3, "no Ray cluster at 127.0.0.1:1"),
        (("--executor", "ray", "--address", "nowhere"), 3, "no Ray cluster at nowhere"),
        (("--per-gpu", "2", "--device", "cpu"), 3, "no GPU here to share"),
        pytest.param(
            ("--device", "cuda"),
            3,
            "no GPU that torch can use",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU"),
        ),
    ],
)
def test_misuse_is_one_line(
    options: tuple[str, ...], code: int, words: str, tmp_path: Path
) -> None:
    done = cli("run", "table5", "--protocol", "demo", *options, cwd=tmp_path)
    assert (done.returncode, one_line(done.stderr)) == (code, True), done.stderr
    assert words in done.stderr
    assert not (tmp_path / "runs.db").exists()


@pytest.mark.slow
def test_a_cluster_that_is_gone_is_one_line(standing: Standing, tmp_path: Path) -> None:
    images = write_folder(tmp_path / "pets", {"train": 8, "val": 4})
    command = ("dia_repro", "run", "table5", "--protocol", "demo", "--only", "SENet ResNet83")
    data = ("--dataset", f"folder:{images}", "--image-size", 8, "--yes", "--epochs", 9999)
    where = ("--executor", "ray", "--address", standing.address)
    driver = start(tmp_path, *command, *data, "--seeds", 2, *where)
    wait_until(has_epochs(tmp_path / DATABASE), driver)
    standing.shut_down()
    output, _ = driver.communicate(timeout=120)
    complaints = [line for line in output.splitlines() if not re.search(r": epoch|to train", line)]
    assert (driver.returncode, len(complaints)) == (3, 1), output
    assert complaints[0].startswith("dia-repro: the Ray cluster is gone"), output
