"""Sweeps and experiments on a real Slurm: munged, slurmctld and slurmd in a private folder on loopback. Needs root and
`apt-get install slurm-wlm munge`; skipped without."""
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

from fedctl import FEDCTL, ROOT, TOY, Case, digests, events, rounds, wait_until

NEEDED = ["munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol"]
MISSING = [name for name in NEEDED if shutil.which(name) is None]

CONF = """
ClusterName=fedctl
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=1
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
TOY_GRID = """
name: toy-grid
experiment: toy.yaml
metric: loss
grid: {train.optimizer.lr: [0.05, 0.02], train.steps: [20000, 20001]}
seeds: [1, 2, 3]
executor: {kind: slurm, time: "00:10:00", extra: [--nice=0]}
"""
# A run of about a second; seeds draw the cohorts.
SLOW = TOY.replace("count: 6,", "count: 6, per_round: 3,").replace("rounds: 5", "rounds: 12").replace("steps: 5", "steps: 20000")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Cluster:
    """One node, said to have four cores; everything it starts ends with stop()."""

    def __init__(self):
        self.temporary = tempfile.TemporaryDirectory(prefix="fedctl-slurm-")
        self.folder = pathlib.Path(self.temporary.name)
        self.processes = []

    def start(self):
        folder, host = self.folder, socket.gethostname().split(".")[0]
        folder.chmod(0o755)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        conf = folder / "slurm.conf"
        conf.write_text(CONF.format(host=host, folder=folder, controller=free_port(), daemon=free_port(), cpus=4))
        self.env = {**os.environ, "SLURM_CONF": str(conf), "FEDCTL": FEDCTL}
        self.run_daemon("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.sock",
                        f"--pid-file={folder}/munged.pid", f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed")
        wait_until(lambda: (folder / "munge.sock").exists(), "munged", 20)
        self.run_daemon("slurmctld", "-D")
        self.run_daemon("slurmd", "-D")
        wait_until(lambda: "idle" in self.command("sinfo", "--noheader", check=False), "the node", 60)

    def run_daemon(self, *words):
        log = open(self.folder / f"{words[0]}.out", "wb")
        self.processes.append(subprocess.Popen(words, env=self.env, stdout=log, stderr=subprocess.STDOUT))
        log.close()

    def command(self, *words, check=True):
        return subprocess.run(words, env=self.env, capture_output=True, text=True, check=check, timeout=60).stdout

    def stop(self):
        if self.processes:
            self.command("scancel", "--user=root", check=False)
            wait_until(lambda: not self.command("squeue", "--noheader", check=False).strip(), "the end of the jobs", 60)
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.temporary.cleanup()


@unittest.skipIf(MISSING, "no Slurm here: " + ", ".join(MISSING) + " missing (apt-get install slurm-wlm munge)")
@unittest.skipUnless(os.geteuid() == 0, "Slurm's daemons need root")
class Slurm(Case):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster()
        cls.addClassCleanup(cls.cluster.stop)
        cls.cluster.start()

    def setUp(self):
        super().setUp()
        self.env = self.cluster.env

    def requeue(self, task):
        self.cluster.command("scontrol", "requeue", task)
        # Slurm keeps a requeued task back for two minutes; its node refuses one that comes within the second it was killed in.
        wait_until(lambda: "PENDING" in self.cluster.command("squeue", "--noheader", "--array", "--format=%T", f"--jobs={task}"), "the task in the queue")
        self.cluster.command("scontrol", "update", f"jobid={task}", "StartTime=now+2")

    def test_array_with_requeued_tasks_is_the_local_table(self):
        self.write("toy.yaml", SLOW)
        file = self.write("sweep.yaml", TOY_GRID)
        local, array = self.folder / "local", self.folder / "array"
        self.finish(self.start("sweep", file, "--run-dir", local, "--executor", "local"))
        process = self.start("sweep", file, "--run-dir", array, env=self.env)
        requeued = []
        for _ in range(2):
            def running():
                return [path.parts[-4:-2] for path in array.glob("*/*/checkpoint/round-00000002")
                        if path.parts[-4:-2] not in requeued and not (path.parents[1] / "sweep.status").exists()]
            wait_until(running, "a task in its middle")
            cell, seed = running()[0]
            requeued.append((cell, seed))
            self.requeue(f"{self.job(array)}_{self.number_of(array, cell, seed)}")
        _, err = self.finish(process)
        self.assertIn("with 12 tasks", err)
        for name in ("table.csv", "runs.csv", "plot.svg"):
            self.assertEqual((array / name).read_bytes(), (local / name).read_bytes(), name)
        for cell, seed in requeued:
            self.assertEqual(len(events(array / cell / seed, "resume")), 1, (cell, seed))

    @staticmethod
    def job(folder):
        return (folder / "slurm.job").read_text().strip()

    def number_of(self, folder, cell, seed):
        """Of the run in the sweep: the place of its directory among the commands of a dry run elsewhere."""
        _, out, _ = self.run_fedctl("sweep", self.folder / "sweep.yaml", "--run-dir", "none", "--executor", "local", "--dry-run")
        return next(i for i, line in enumerate(out.splitlines()) if f"none/{cell}/{seed} " in line.replace("'", ""))

    def test_submitting_twice_waits_for_the_first(self):
        self.write("toy.yaml", SLOW)
        file = self.write("sweep.yaml", TOY_GRID.replace("kind: slurm", "kind: slurm, wait: false").replace("[1, 2, 3]", "[1]"))
        folder = self.folder / "array"
        self.finish(self.start("sweep", file, "--run-dir", folder, env=self.env))
        job = self.job(folder)
        self.write("sweep.yaml", TOY_GRID.replace("[1, 2, 3]", "[1]"))
        _, err = self.finish(self.start("sweep", file, "--run-dir", folder, env=self.env))
        self.assertIn(f"job {job} computes runs of this folder", err)
        self.assertIn("4 of 4 runs are done", err)
        self.assertEqual(self.job(folder), job)

    def test_refusal_of_slurm_is_told(self):
        self.write("toy.yaml", TOY)
        file = self.write("sweep.yaml", TOY_GRID.replace("kind: slurm", "kind: slurm, partition: nowhere"))
        _, err = self.finish(self.start("sweep", file, "--run-dir", self.folder / "array", env=self.env), status=2)
        self.assertIn("sbatch: ", err)
        self.assertIn("nowhere", err)

    def experiment(self, run, config, **env):
        log = self.folder / f"{run.name}.log"
        job = subprocess.run(["sbatch", "--parsable", "--ntasks=3", f"--output={log}", ROOT / "scripts/slurm/experiment.sbatch", config, run],
                             env={**self.env, **env}, capture_output=True, text=True, check=True).stdout.strip()
        self.queued = lambda: self.cluster.command("squeue", "--noheader", f"--jobs={job}", check=False).strip()
        return job, log

    def test_experiment_goes_on_after_preemption(self):
        config = self.write("toy.yaml", SLOW)
        alone, run = self.folder / "alone", self.folder / "run"
        self.finish(self.start("simulate", "--config", config, "--run-dir", alone))
        job, log = self.experiment(run, config)
        wait_until(lambda: (run / "checkpoint/round-00000003").exists() or not self.queued(), "a round")
        self.requeue(job)
        wait_until(lambda: not self.queued(), "the end of the job", 120)
        self.assertEqual(digests(run), digests(alone), log.read_text())
        self.assertEqual(len(events(run, "resume")), 1)

    def test_experiment_with_certificates(self):
        config = self.write("toy.yaml", TOY)
        alone, run = self.folder / "alone", self.folder / "run"
        self.finish(self.start("simulate", "--config", config, "--run-dir", alone))
        _, log = self.experiment(run, config, FEDCTL_TLS="1")
        wait_until(lambda: not self.queued(), "the end of the job", 120)
        self.assertEqual(digests(run), digests(alone), log.read_text())
        self.assertGreater(rounds(run)[1]["bytes"]["up"]["tls"], 0)


if __name__ == "__main__":
    if MISSING:
        print("slurm_test: skipped, no " + ", ".join(MISSING), file=sys.stderr)
    unittest.main()
