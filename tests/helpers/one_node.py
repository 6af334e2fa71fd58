"""A Slurm of one node on loopback for tests, run by the calling user from the daemons of the Linux distribution.

`python tests/helpers/one_node.py start DIRECTORY` prints the variables that make sbatch and squeue find it; `stop DIRECTORY`
ends it. Everything it writes lies in the directory: key, sockets, state, logs and jobs.log, Slurm's record of finished jobs.
"""

from __future__ import annotations

import argparse
import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "sinfo")
SEARCH_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
# Marks the daemons in their environment, because slurmd's helpers outlive it and belong to no process group of ours.
MARK = "ONE_NODE_SLURM"
READY_WITHIN_S = 30
CANCELLED_WITHIN_S = 20

# No accounting daemon, so finished jobs are kept where squeue sees them, and written to a file. Jobs are not confined: that
# takes control groups. They get the whole node's memory and as many cores as there are.
CONFIGURATION = """\
ClusterName=one-node
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={directory}/munge.socket
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=0,bf_interval=5
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={directory}/jobs.log
MinJobAge=86400
KillWait=5
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory_mb} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing_programs() -> list[str]:
    """What is not installed of that which `start` and Snakemake need."""
    return [name for name in PROGRAMS if shutil.which(name, path=SEARCH_PATH) is None]


def cores() -> int:
    """Cores of the node: those that this process may use."""
    return len(os.sched_getaffinity(0))


def start(directory: Path) -> dict[str, str]:
    """Configure and start the node, its files in `directory`; the environment variables under which clients find it.

    Raises RuntimeError when a node of this directory runs already, and with the daemons' last words when it does not come up.
    """
    directory = directory.resolve()
    if _daemons(directory):
        raise RuntimeError(f"a node of {directory} is running: stop it first")
    _configure(directory)
    munge = f"--key-file={directory}/munge.key --socket={directory}/munge.socket --pid-file={directory}/munge.pid"
    munge += f" --log-file={directory}/munge.log --seed-file={directory}/munge.seed"
    # Forced, because it would rather not have its files in a directory that others cannot enter.
    _launch(directory, "munged", "--foreground", "--force", *munge.split())
    _wait(directory, lambda: (directory / "munge.socket").exists())
    _launch(directory, "slurmctld", "-D")
    _launch(directory, "slurmd", "-D")
    _wait(directory, lambda: _query(directory, "sinfo", "--noheader", "--format=%T") == "idle")
    return environment(directory)


def environment(directory: Path) -> dict[str, str]:
    """The variables under which Slurm's commands find the node of a directory."""
    directory = directory.resolve()
    return {"SLURM_CONF": f"{directory}/slurm.conf", "PATH": f"{directory}/bin:{os.environ['PATH']}"}


def stop(directory: Path) -> None:
    """Cancel all jobs and end all daemons of a directory's node; nothing to do if none runs. The files stay."""
    directory = directory.resolve()
    daemons = _daemons(directory)
    if any(p.name() == "slurmctld" for p in daemons):
        _query(directory, "scancel", "--user", getpass.getuser())
        deadline = time.monotonic() + CANCELLED_WITHIN_S
        while _query(directory, "squeue", "--noheader") and time.monotonic() < deadline:
            time.sleep(0.2)
    # Again, because the jobs' own helpers have gone by now, and with what a job may still have left.
    daemons = _daemons(directory)
    processes = set(daemons).union(*(_children(p) for p in daemons))
    for how in (psutil.Process.terminate, psutil.Process.kill):
        for process in processes:
            _unless_gone(how, process)
        _, processes = psutil.wait_procs(processes, timeout=5)


def _configure(directory: Path) -> None:
    for path in (directory, directory / "state", directory / "spool"):
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
    key = directory / "munge.key"
    key.unlink(missing_ok=True)
    key.touch(mode=0o400)
    key.chmod(0o600)
    key.write_bytes(os.urandom(128))
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        controller_port, node_port = one.getsockname()[1], other.getsockname()[1]
    text = CONFIGURATION.format(
        directory=directory,
        host=socket.gethostname().split(".")[0],
        user=getpass.getuser(),
        controller_port=controller_port,
        node_port=node_port,
        cores=cores(),
        memory_mb=psutil.virtual_memory().total // 2**20,
    )
    (directory / "slurm.conf").write_text(text)
    _write_srun(directory)


def _write_srun(directory: Path) -> None:
    """An srun that finds this node: Snakemake's job step takes SLURM_CONF, like most variables of that kind, away from it."""
    path = directory / "bin/srun"
    path.parent.mkdir(exist_ok=True)
    # Looked up beside sbatch: the path may begin with this very directory.
    srun = Path(shutil.which("sbatch", path=SEARCH_PATH)).with_name("srun")
    path.write_text(f'#!/bin/sh\nexport SLURM_CONF="{directory}/slurm.conf"\nexec {srun} "$@"\n')
    path.chmod(0o755)


def _variables(directory: Path) -> dict[str, str]:
    return os.environ | {"SLURM_CONF": f"{directory}/slurm.conf", "PATH": SEARCH_PATH}


def _launch(directory: Path, program: str, *arguments: str) -> None:
    with open(directory / f"{program}.out", "ab") as out:
        subprocess.Popen(
            [program, *arguments],
            env=_variables(directory) | {MARK: str(directory)},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


def _query(directory: Path, *command: str) -> str:
    """Standard output of one of Slurm's commands, stripped; its complaints are dropped."""
    result = subprocess.run(
        command, env=_variables(directory), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False
    )
    return result.stdout.strip()


def _wait(directory: Path, ready) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not ready():
        if time.monotonic() > deadline:
            logs = [*sorted(directory.glob("*.log")), *sorted(directory.glob("*.out"))]
            words = "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1000:]}" for log in logs)
            stop(directory)
            raise RuntimeError(f"the node did not come up within {READY_WITHIN_S} s:\n{words}")
        time.sleep(0.1)


def _daemons(directory: Path) -> list[psutil.Process]:
    return [p for p in psutil.process_iter() if _unless_gone(psutil.Process.environ, p, {}).get(MARK) == str(directory)]


def _children(process: psutil.Process) -> list[psutil.Process]:
    return _unless_gone(lambda p: p.children(recursive=True), process, [])


def _unless_gone(call, process: psutil.Process, default=None):
    try:
        return call(process)
    except psutil.Error:
        return default


def main() -> int:
    """Exit status: 0, or 1 after one sentence on standard error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("start", "stop"))
    parser.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    if arguments.action == "stop":
        stop(arguments.directory)
        return 0
    if missing_programs():
        print(f"Error: not installed: {', '.join(missing_programs())}: install slurm-wlm and munge", file=sys.stderr)
        return 1
    try:
        variables = start(arguments.directory)
    except RuntimeError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    for name, value in variables.items():
        print(f"export {name}={value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
