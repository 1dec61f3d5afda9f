"""Runs as Slurm tasks: the script for sbatch, and the tasks.

`sbatch`, `srun` and `scontrol` are scripts that do on this machine what Slurm does with an array:
each task gets the batch script and its number, and one that is queued again starts anew.
"""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from dia_repro.errors import UsageError
from dia_repro.execution.dialogue import Dialogue
from dia_repro.execution.executors.local import LocalSupervisor
from dia_repro.execution.machine import Slots
from dia_repro.execution.messages import Ended, Job, Notice, Outcome
from dia_repro.execution.options import Device, Resources
from dia_repro.interrupts import Interrupted
from dia_repro.results.database import Database
from dia_repro.results.queries import all_runs, run_detail
from dia_repro.results.schema import State
from tests.execution.test_local import wait_until
from tests.execution.tiny_runs import make_jobs
from tests.helpers import cli, one_line, tiny_spec

on_slurm = pytest.importorskip("dia_repro.execution.executors.slurm")
slurm_jobs = pytest.importorskip("dia_repro.execution.slurm_jobs")
submitit = pytest.importorskip("submitit")

START = """
task() {{ # number: what Slurm sets for it
  SLURM_JOB_ID=$((7 + $1)) SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=$1 SLURM_PROCID=0 \\
    setsid bash {home}/script > {home}/task-$1.log 2>&1 < /dev/null &
}}
refuse() {{
  echo "sbatch: error: $1" >&2
  exit 1
}}
"""
# As a cluster does that keeps accounts by registered wckeys, and limits the size of arrays.
COMMANDS = {
    "sbatch": """
grep -q '^#SBATCH --wckey' "$1" && refuse "Invalid wckey specification"
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
[ "${{last:-0}}" -lt "${{MAX_ARRAY_SIZE:-1001}}" ] || refuse "Invalid job array specification"
job=$((7 + $(ls {home} | grep -c '^script-')))
[ "$job" -le "${{LAST_JOB:-99}}" ] || refuse "Job violates accounting/QOS policy"
cp "$1" {home}/script
cp "$1" {home}/script-$job
env > {home}/environment
echo "Submitted batch job $job"
if [ -n "$RUN_TASKS" ]; then for number in $(seq 0 "${{last:-0}}"); do task "$number"; done; fi
""",
    "srun": """
while [ "${{1#--}}" != "$1" ]; do
  case "$1" in --output | --error) shift ;; esac
  shift
done
echo $$ > {home}/pid-$SLURM_ARRAY_TASK_ID
exec "$@"
""",
    "scontrol": """
if [ "$*" = "show config" ]; then
  echo "MaxArrayTasks           = 10000"
  echo "MaxArraySize            = ${{MAX_ARRAY_SIZE:-1001}}"
  exit
fi
echo "$@" >> {home}/scontrol.log
task "${{2#*_}}"
""",
}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the cluster's commands on the path; what they note lies in it."""
    home = tmp_path / "slurm"
    home.mkdir()
    for name, text in COMMANDS.items():
        command = home / name
        command.write_text("#!/bin/bash\n" + (START + text).format(home=home))
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")
    return home


def options_in(script: Path) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in script.read_text().splitlines()]
    script_options = [line for line in lines if not line.startswith(("#", "export", "srun"))]
    return {name: value for name, _, value in (line.partition("=") for line in script_options)}


def submit(jobs: Sequence[Job], folder: Path) -> tuple[str, ...]:
    numbers: tuple[str, ...] = slurm_jobs.submit(
        jobs, on_slurm.sbatch_parameters({}, gpus=0), folder / "runs-slurm"
    )
    return numbers


def states(database: Database) -> list[State]:
    return [run.state for run in all_runs(database)]


def figures(database: Database, run: int) -> list[dict[str, object]]:
    epochs = run_detail(database, run).epochs
    return [{k: v for k, v in row.items() if k != "seconds"} for row in epochs]


def test_the_script_asks_for_what_the_command_says(slurm: Path, tmp_path: Path) -> None:
    command = (
        *("run", "table5", "--protocol", "demo", "--seeds", "2", "--only", "SENet ResNet83"),
        *("--executor", "slurm", "--gpus-per-run", "4", "--jobs", "1"),
        *("--slurm", "partition=gpu", "--slurm", "time=1-2:30:00", "--slurm", "nice=5"),
        *("--slurm", "account=lab", "--slurm", "cpus-per-task=16", "--slurm", "exclusive"),
    )
    result = cli(*command, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "job 7" in result.stderr
    assert "runs watch" in result.stderr
    asked = options_in(slurm / "script")
    expected = {
        "array": "0-1%1",
        "time": str(26 * 60 + 30),
        "partition": "gpu",
        "account": "lab",
        "gpus-per-node": "4",
        "cpus-per-task": "16",
        "nice": "5",
        "nodes": "1",
        "requeue": "",
        "signal": "USR2@180",
        "open-mode": "append",
        "ntasks-per-node": "1",
        "exclusive": "",
    }
    assert {name: asked.get(name) for name in expected} == expected
    assert Path(asked["output"]).parent == tmp_path / "runs-slurm"
    (srun,) = [line for line in (slurm / "script").read_text().splitlines() if "srun " in line]
    assert "--cpus-per-task=16 " in srun
    assert "export PYTHONSAFEPATH=1" in (slurm / "script").read_text().splitlines()


SEVEN_RUNS = ("run", "table5", "--protocol", "demo", "--seeds", "7", "--only", "SENet ResNet83")


@pytest.mark.parametrize(("jobs", "waiting"), [(None, [None] * 3), (2, [None, "7", "8"])])
def test_runs_beyond_an_arrays_size_go_to_several(
    slurm: Path, tmp_path: Path, jobs: int | None, waiting: list[str | None]
) -> None:
    bound = ("--jobs", str(jobs)) if jobs else ()
    command = (*SEVEN_RUNS, "--executor", "slurm", "--device", "cpu", *bound)
    result = cli(*command, cwd=tmp_path, MAX_ARRAY_SIZE="3")
    assert result.returncode == 0, result.stderr
    assert "as job 7, 8, 9." in result.stderr
    assert "'scancel 7 8 9'" in result.stderr
    asked = [options_in(slurm / f"script-{submitted}") for submitted in (7, 8, 9)]
    at_once = jobs or 3
    assert [options.get("array") for options in asked] == [f"0-2%{at_once}"] * 2 + [None]
    assert [options.get("dependency") for options in asked] == [
        f"afterany:{submitted}" if submitted else None for submitted in waiting
    ]


def test_what_is_submitted_before_slurm_refuses_is_named(slurm: Path, tmp_path: Path) -> None:
    command = (*SEVEN_RUNS, "--executor", "slurm", "--device", "cpu")
    result = cli(*command, cwd=tmp_path, MAX_ARRAY_SIZE="3", LAST_JOB="8")
    assert result.returncode == 3
    complaint = result.stderr.strip().splitlines()[-1]
    assert "Job violates accounting/QOS policy; the first 6 runs are submitted" in complaint
    assert complaint.endswith("as job 7, 8")
    assert sorted(path.name for path in slurm.glob("script-*")) == ["script-7", "script-8"]


class Notices(Dialogue):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def notice(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.parametrize("runs", [1, 2])
def test_a_signal_ends_an_sbatch_that_hangs(runs: int, slurm: Path, tmp_path: Path) -> None:
    (slurm / "sbatch").write_text(f"#!/bin/sh\necho $$ > {slurm}/pid\nexec sleep 20\n")
    database, jobs = make_jobs(tmp_path, [tiny_spec()], runs)
    dialogue = Notices()
    executor = on_slurm.Slurm(Resources(device=Device.CPU), dialogue)

    def interrupt(_number: int, _frame: object) -> None:
        if not (slurm / "pid").exists() or not (slurm / "pid").read_text():
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            return
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(Interrupted):
            executor.work(database, jobs, dialogue)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert "some may be in the queue" in dialogue.said[-1]
    with pytest.raises(ProcessLookupError):
        os.kill(int((slurm / "pid").read_text()), 0)


@pytest.mark.parametrize("name", ["10%train", "lr%a", "two\nlines"])
def test_a_folder_that_slurm_reads_as_another_is_refused(
    name: str, slurm: Path, tmp_path: Path
) -> None:
    """Jobs have the database's password, and would lie elsewhere, where all can read them."""
    (tmp_path / "work" / name).mkdir(parents=True)
    command = ("run", "table5", "--protocol", "demo", "--only", "SENet ResNet83")
    result = cli(*command, "--executor", "slurm", cwd=tmp_path / "work" / name)
    assert result.returncode == 2
    assert one_line(result.stderr.splitlines(keepends=True)[-1])
    assert "has a percent sign or a control character" in result.stderr
    assert not (slurm / "script").exists()
    assert [path.name for path in (tmp_path / "work").iterdir()] == [name]


@pytest.mark.parametrize("mode", [0o755, 0o777])
def test_a_folder_of_jobs_is_made_private(mode: int, tmp_path: Path) -> None:
    """Jobs have the database's password, and a task runs what it finds in them."""
    folder = tmp_path / "runs-slurm"
    folder.mkdir()
    folder.chmod(mode)
    slurm_jobs._make_private(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("fault", ["link", "owner"])
def test_another_users_folder_of_jobs_is_refused(
    fault: str, slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runs-slurm"
    if fault == "link":
        folder.symlink_to(tmp_path)
    else:
        folder.mkdir()
        monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    jobs = make_jobs(tmp_path, [tiny_spec()], 1)[1]
    with pytest.raises(slurm_jobs.SlurmError, match="is a link or another user's"):
        submit(jobs, tmp_path)


def test_the_size_of_an_array_is_the_clusters(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_ARRAY_SIZE", "250")
    assert slurm_jobs.max_array_size() == 250
    monkeypatch.setenv("MAX_ARRAY_SIZE", "0")
    assert slurm_jobs.max_array_size() == 1, "a cluster without arrays"
    (slurm / "scontrol").write_text("#!/bin/bash\nexit 1\n")
    assert slurm_jobs.max_array_size() == 1001, "Slurm's default"
    latin = "#!/bin/bash\nprintf 'ClusterName = caf\\351\\nMaxArraySize = 7\\n'\n"
    (slurm / "scontrol").write_text(latin)
    assert slurm_jobs.max_array_size() == 7


def test_job_submitted_from_a_job_inherits_nothing(slurm: Path, tmp_path: Path) -> None:
    outer = {
        "SLURM_JOB_ID": "5",
        "SLURM_CPUS_PER_TASK": "64",
        "SBATCH_TIMELIMIT": "1",
        "SBATCH_PARTITION": "cpu",
        "SUBMITIT_EXECUTOR": "local",
    }
    site = {"SLURM_CONF": "/opt/slurm.conf", "SBATCH_ACCOUNT": "lab"}
    command = (*SEVEN_RUNS, "--executor", "slurm", "--slurm", "partition=gpu")
    result = cli(*command, cwd=tmp_path, **outer, **site)
    assert result.returncode == 0, result.stderr
    lines = (slurm / "environment").read_text().splitlines()
    seen = dict(line.split("=", 1) for line in lines if "=" in line)
    assert {name: seen.get(name) for name in site} == site
    assert not set(outer) & set(seen)


@pytest.mark.parametrize("name", ["cpus-per-task", "cpus_per_task", "--cpus-per-task"])
@pytest.mark.parametrize("cpus", ["0", "-1", "x", "9" * 5000, "1" + "0" * 22])
def test_impossible_cpus_per_task_are_refused(name: str, cpus: str) -> None:
    with pytest.raises(UsageError, match="a number from 1 to 9999"):
        on_slurm.Slurm(Resources(slurm=(f"{name}={cpus}",)), Dialogue())


@pytest.mark.parametrize("text", ["comment=x\n#SBATCH --uid=0", "comment=\x1b[2J", "a\tb", "a=b\r"])
def test_control_characters_for_sbatch_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="has no control characters") as refusal:
        on_slurm.Slurm(Resources(slurm=(text,)), Dialogue())
    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("text", ["=5", "partition=", "--", "two words"])
def test_what_is_no_option_of_sbatch_is_refused(text: str, tmp_path: Path) -> None:
    result = cli(*SEVEN_RUNS, "--executor", "slurm", "--slurm", text, cwd=tmp_path)
    assert result.returncode == 2
    assert f"--slurm {text}: an option of sbatch" in result.stderr
    assert one_line(result.stderr)


@pytest.mark.slow
@pytest.mark.usefixtures("slurm")
def test_each_task_of_an_array_trains_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUN_TASKS", "yes")
    database, jobs = make_jobs(tmp_path, [tiny_spec(epochs=1)], 2)
    submit(jobs, tmp_path)
    wait_until(lambda: states(database) == [State.FINISHED] * 2, 120)
    assert [len(figures(database, job.run_id)) for job in jobs] == [1, 1]


@pytest.mark.exhaustive
def test_task_out_of_time_is_requeued_and_resumes(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUN_TASKS", "yes")
    spec = tiny_spec(epochs=6)
    database, jobs = make_jobs(tmp_path, [spec], 2)
    submit(jobs, tmp_path)
    run = jobs[0].run_id
    wait_until(lambda: len(run_detail(database, run).epochs) >= 1, 120)
    os.kill(int((slurm / "pid-0").read_text()), signal.SIGUSR2)
    wait_until(lambda: states(database) == [State.FINISHED] * 2, 120)
    assert (slurm / "scontrol.log").read_text() == "requeue 7_0\n"
    first, second = run_detail(database, run).provenance
    assert first["from_epoch"] == 0 != second["from_epoch"]

    (tmp_path / "serial").mkdir()
    serial, again = make_jobs(tmp_path / "serial", [spec], 2)
    LocalSupervisor(serial, Slots.on_cpu(1), lambda *_: None).run(again)
    for ours, theirs in zip(jobs, again, strict=True):
        assert figures(database, ours.run_id) == figures(serial, theirs.run_id)


@pytest.mark.exhaustive
def test_a_task_says_how_its_run_ended(tmp_path: Path) -> None:
    database, (job,) = make_jobs(tmp_path, [tiny_spec(epochs=1)], 1)
    submitted = submitit.LocalExecutor(tmp_path / "jobs").submit(slurm_jobs.Task(job))
    assert submitted.result() == "finished"
    assert "epoch 1/1" in submitted.stdout()
    assert states(database) == [State.FINISHED]


@pytest.mark.slow
def test_a_terminated_task_ends_with_an_error(tmp_path: Path) -> None:
    """As by a preemption: Slurm does not queue a job again that has completed."""
    database, (job,) = make_jobs(tmp_path, [tiny_spec(epochs=500)], 1)
    submitted = submitit.LocalExecutor(tmp_path / "jobs").submit(slurm_jobs.Task(job))
    wait_until(lambda: len(run_detail(database, job.run_id).epochs) >= 1, 120)
    for number in (signal.SIGCONT, signal.SIGTERM):
        submitted._process.send_signal(number)
    with pytest.raises(Exception, match="is saved and goes on with the same command"):
        submitted.result()
    assert states(database) == [State.INTERRUPTED]


def test_unwritable_log_ends_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database, (job,) = make_jobs(tmp_path, [tiny_spec(epochs=1)], 1)
    full = Path("/dev/full").open("w")  # noqa: SIM115 - closing it fails, too
    monkeypatch.setattr(sys, "stdout", full)
    assert slurm_jobs.Task(job)() == "finished"
    assert states(database) == [State.FINISHED]
    with suppress(OSError):
        full.close()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_task_writes_any_name_to_any_log(
    encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log lacks characters where LC_ALL or PYTHONIOENCODING say so."""
    _, (job,) = make_jobs(tmp_path, [tiny_spec(epochs=1)], 1)
    named = replace(job, label="cats\x1b[31m\udce9\u202e日本")
    log = tmp_path / "log"
    with log.open("w", encoding=encoding) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        slurm_jobs.print_message(named, Ended(Outcome.FAILED, "日本 is gone"))
        slurm_jobs.print_message(named, Notice("\x1b]0;title\x07"))
        monkeypatch.undo()
    said = "日本" if encoding == "utf-8" else "??"
    assert log.read_text(encoding) == (
        f"cats\\x1b[31m\\udce9\\u202e{said} failed: {said} is gone\n\\x1b]0;title\\x07\n"
    )


def test_node_without_the_gpus_is_an_error(tmp_path: Path) -> None:
    _, (job,) = make_jobs(tmp_path, [tiny_spec()], 1)
    task = slurm_jobs.Task(replace(job, device="cuda:0", processes=99))
    with pytest.raises(slurm_jobs.UnfitTaskError, match="needs 99 GPUs"):
        task()


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        *(("90", 90), ("90:00", 90), ("0:30", 1), ("2:00:00", 120), ("1:00:01", 61)),
        *(("1-0", 1440), ("1-12", 2160), ("1-12:30", 2190), ("2-0:0:1", 2881)),
    ],
)
def test_times_are_read_as_sbatch_reads_them(text: str, minutes: int) -> None:
    assert on_slurm.sbatch_parameters({"time": text}, gpus=1)["time"] == minutes


@pytest.mark.parametrize(
    "options",
    [
        *({"time": text} for text in ("soon", "9" * 5000, "99999999999999", "99999-0")),
        *({name: "9"} for name in ("array", "signal", "ntasks-per-node", "signal-delay-s")),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=f"--slurm {next(iter(options))}"):
        on_slurm.sbatch_parameters(options, gpus=1)


def test_without_slurm_a_sentence_says_so(tmp_path: Path) -> None:
    result = cli("run", "table5", "--protocol", "demo", "--executor", "slurm", cwd=tmp_path)
    assert result.returncode == 3
    assert "no Slurm here" in result.stderr
    assert one_line(result.stderr)
    assert not (tmp_path / "runs.db").exists()


def test_slurms_own_refusal_is_shown(slurm: Path, tmp_path: Path) -> None:
    refusal = "sbatch: error: invalid partition specified: nowhere"
    (slurm / "sbatch").write_text(f"#!/bin/bash\necho '{refusal}' >&2\nexit 1\n")
    command = ("run", "table5", "--protocol", "demo", "--executor", "slurm")
    result = cli(*command, "--slurm", "partition=nowhere", cwd=tmp_path)
    assert result.returncode == 3
    assert "invalid partition specified: nowhere" in result.stderr
    assert one_line(result.stderr.strip().splitlines()[-1])


def test_job_number_is_read_next_to_other_bytes(slurm: Path, tmp_path: Path) -> None:
    (slurm / "sbatch").write_text("#!/bin/bash\nprintf 'Submitted job 42 on caf\\351\\n'\n")
    _, jobs = make_jobs(tmp_path, [tiny_spec()], 1)
    assert submit(jobs, tmp_path) == ("42",)


def test_submission_without_job_number_is_no_refusal(slurm: Path, tmp_path: Path) -> None:
    (slurm / "sbatch").write_text("#!/bin/bash\necho Submitted\n")
    _, jobs = make_jobs(tmp_path, [tiny_spec()], 1)
    with pytest.raises(slurm_jobs.SlurmError, match="jobs may be submitted: see 'squeue"):
        submit(jobs, tmp_path)


def test_missing_sbatch_is_named(slurm: Path, tmp_path: Path) -> None:
    (slurm / "sbatch").unlink()
    _, jobs = make_jobs(tmp_path, [tiny_spec()], 1)
    with pytest.raises(slurm_jobs.SlurmError, match=r"cannot submit .*: sbatch: No such file"):
        submit(jobs, tmp_path)
