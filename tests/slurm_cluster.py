"""A real SLURM of one node, for tests: its daemons in a folder, on ports of this machine."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests import ports

PARTS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")


# A job that is queued again waits until its credential has expired, two minutes by default.
CONF = """\
ClusterName=hpo
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,bf_interval=1,requeue_setup_env_fail
ReturnToService=2
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why no cluster can be started here; None where one can."""
    absent = [part for part in PARTS if shutil.which(part) is None]
    if absent:
        return f"needs SLURM and munge ({', '.join(absent)} not found)"
    return None if os.geteuid() == 0 else "SLURM's daemons are started by root"


@contextlib.contextmanager
def cluster(root: Path) -> Iterator[dict[str, str]]:
    """Start one; the environment variables by which SLURM's commands find it.

    Raises:
        RuntimeError: its node is not ready within 30 seconds.
    """
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool"):
        (root / name).mkdir()
    conf, key = root / "slurm.conf", root / "munge.key"
    conf.write_text(
        CONF.format(host=host, root=root, ports=(ports.free(), ports.free()), cpus=os.cpu_count())
    )
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    variables = {"SLURM_CONF": str(conf)}
    env = {**os.environ, **variables}
    files = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid",
             "log-file": "munged.log", "seed-file": "munged.seed"}  # fmt: skip
    options = [f"--{name}={root / file}" for name, file in files.items()]
    try:
        subprocess.run(["munged", "--force", *options], check=True, capture_output=True)
        for daemon in ("slurmctld", "slurmd"):
            subprocess.run([daemon, "-f", str(conf)], env=env, check=True, capture_output=True)
        _until_idle(env)
        yield variables
    finally:
        subprocess.run(["scancel", "--state=RUNNING"], env=env, capture_output=True)
        for daemon in ("slurmd", "slurmctld", "munged"):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((root / f"{daemon}.pid").read_text()), signal.SIGTERM)


def _until_idle(env: dict[str, str]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        said = subprocess.run(
            ["sinfo", "-h", "-o", "%T"], env=env, capture_output=True, text=True
        ).stdout.split()
        if said == ["idle"]:
            return
        time.sleep(0.1)
    raise RuntimeError("SLURM's node did not come up; its logs are in the cluster's folder.")
