"""A Slurm cluster of two nodes that are both this machine, for as long as a test lasts: controller,
two node daemons and munge with a key of their own, on free ports of the loopback device, with all
files in one folder. Needs no systemd and no cgroups. To be started by root."""

import os
import pathlib
import secrets
import socket
import subprocess
import time

CONFIGURATION = """\
ClusterName=trireme
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
TmpFS={folder}/tmp-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
GresTypes=gpu
KillWait={kill_wait}
MinJobAge=600
ReturnToService=2
MpiDefault=none
{nodes}
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=test Nodes=ALL Default=YES PriorityTier=1 GraceTime=20 State=UP
PartitionName=urgent Nodes=ALL PriorityTier=2 State=UP
"""
NODES = ("north", "south")
# Slurm only counts them, as if they were GPUs.
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random")


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Cluster:
    """With `with`: started at its beginning, gone at its end."""

    def __init__(self, folder, kill_wait=30):
        self.folder = pathlib.Path(folder)
        self.host = socket.gethostname().split(".")[0]
        self.kill_wait = kill_wait
        self.daemons = []
        self.environment = dict(os.environ, SLURM_CONF=str(self.folder / "slurm.conf"))

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if len(self.daemons) > 1:
            self.run("scancel", f"--user={os.getuid()}", "--signal=KILL", "--full", check=False)
            time.sleep(1)
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in reversed(self.daemons):
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self.daemons = []

    def run(self, *command, check=True, **options):
        """Standard output of a command that is told where the cluster is."""
        done = subprocess.run([str(part) for part in command], env=self.environment, text=True,
                              capture_output=True, timeout=120, check=False, **options)
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, command))}: {done.returncode}: {done.stderr}")
        return done.stdout

    def log(self):
        """The last lines of all daemons."""
        lines = []
        for path in sorted(self.folder.glob("*.log")):
            text = path.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
            lines += [f"--- {path.name}"] + text
        return "\n".join(lines)

    def _start(self):
        munge = self.folder / "munge"
        munge.mkdir(parents=True)
        munge.chmod(0o711)
        (munge / "key").write_bytes(secrets.token_bytes(128))
        (munge / "key").chmod(0o400)
        controller, *node_ports = free_ports(1 + len(NODES))
        for name in ["state"] + [part + node for node in NODES for part in ("spool-", "tmp-")]:
            (self.folder / name).mkdir()
        nodes = "\n".join(
            f"NodeName={name} NodeHostname={self.host} NodeAddr=127.0.0.1 Port={port} "
            f"CPUs=64 RealMemory=1000 Gres=gpu:{len(DEVICES)} State=UNKNOWN"
            for name, port in zip(NODES, node_ports))
        (self.folder / "gres.conf").write_text(
            "".join(f"Name=gpu File={device}\n" for device in DEVICES), encoding="utf-8")
        (self.folder / "slurm.conf").write_text(
            CONFIGURATION.format(host=self.host, user=self._user(), controller_port=controller,
                                 folder=self.folder, kill_wait=self.kill_wait, nodes=nodes),
            encoding="utf-8")
        self._daemon("munged", "--foreground", "--force", f"--key-file={munge}/key",
                     f"--socket={munge}/socket", f"--pid-file={munge}/pid",
                     f"--log-file={munge}/log", f"--seed-file={munge}/seed")
        self._wait_for(lambda: (munge / "socket").exists(), "munged")
        self._daemon("slurmctld", "-D")
        for node in NODES:
            self._daemon("slurmd", "-D", "-N", node)
        self._wait_for(self._are_nodes_idle, "the nodes")

    def _are_nodes_idle(self):
        shown = self.run("sinfo", "-h", "-p", "test", "-o", "%t %D", check=False)
        return shown.split() == ["idle", str(len(NODES))]

    def _user(self):
        return self.run("id", "-un").strip()

    def _daemon(self, name, *arguments):
        output = open(self.folder / f"{name}-{len(self.daemons)}.out", "w", encoding="utf-8")
        with output:
            self.daemons.append(subprocess.Popen(
                [name, *arguments], env=self.environment, stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, start_new_session=True))

    def _wait_for(self, is_there, what):
        until = time.monotonic() + 30
        while not is_there():
            ended = [daemon.args[0] for daemon in self.daemons if daemon.poll() is not None]
            if ended or time.monotonic() > until:
                raise RuntimeError(f"{what} did not come; ended: {ended}\n{self.log()}\n" +
                                   self.run("sinfo", "--long", check=False))
            time.sleep(0.1)
