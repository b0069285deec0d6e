"""Slurm's commands as real executables over a state file, to be put on PATH. They print what Slurm 22 to 24 prints.

``sacct``, ``squeue``, ``scancel`` and ``sbatch`` understand just the options that this package and TorchX use, and fail
on any other, so that a test notices when a command line changes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

#: Of jobs that get no other name.
KEY = "other-9876543210-t0-a1"
COMMANDS = ("sacct", "squeue", "scancel", "sbatch")
PROGRAM = """#!{python} -IS
import json, os, re, sys
root = {root!r}
command, args = os.path.basename(sys.argv[0]), sys.argv[1:]
with open(root + "/state.json") as f:
    state = json.load(f)
with open(root + "/calls.jsonl", "a") as f:
    f.write(json.dumps([command, *args]) + "\\n")

def fail(text):
    sys.stderr.write(command + ": error: " + text + "\\n")
    sys.exit(1)

def options(flags, valued):
    found, rest = {{}}, list(args)
    while rest:
        word = rest.pop(0)
        if word in flags:
            found[word] = True
        elif word in valued:
            found[word] = rest.pop(0)
        else:
            fail("unknown option " + word)
    return found

def shown(moment):
    if moment is None:
        return "Unknown"
    if os.environ.get("SLURM_TIME_FORMAT") != "%s":
        fail("times are asked for in another format")
    return str(moment)

if state["errors"].get(command):
    fail(state["errors"][command])

if command == "sacct":
    given = options({{"-X", "-P", "-n", "-a"}}, {{"-j", "-o", "-S", "--name"}})
    wanted = given["-j"].split(",") if "-j" in given else list(state["jobs"])
    if "-a" not in given:
        wanted = [n for n in wanted if state["jobs"].get(n, {{}}).get("user", state["user"]) == state["user"]]
    for number in wanted:
        job = state["jobs"].get(number)
        if job is None or job["unaccounted"]:
            continue
        for i, part in enumerate(job["parts"]):
            if given.get("--name", part["name"]) != part["name"]:
                continue
            row = {{
                "JobID": number + ("+%d" % i if len(job["parts"]) > 1 else ""),
                "JobName": part["name"], "State": part["accounted"] or part["state"], "ExitCode": part["exit_code"],
                "WorkDir": job["work_dir"], "Comment": job["comment"] if state["keeps_comments"] else "",
                "Start": shown(None if job.get("start_unaccounted") else job.get("start")),
                "End": shown(job.get("end")),
            }}
            print("|".join(row[column] for column in given["-o"].split(",")))
elif command == "squeue":
    given = options({{"-h"}}, {{"-t", "-j", "-o", "--name", "-u"}})
    wanted = given["-j"].split(",") if "-j" in given else list(state["jobs"])
    there = [n for n in wanted if n in state["jobs"] and state["jobs"][n]["queued"]]
    if "-j" in given and len(wanted) == 1 and not there:
        fail("slurm_load_jobs error: Invalid job id specified")
    for number in there:
        job = state["jobs"][number]
        for i, part in enumerate(job["parts"]):
            if given.get("--name", part["name"]) != part["name"]:
                continue
            fields = {{
                "i": number + ("+%d" % i if len(job["parts"]) > 1 else ""), "j": part["name"], "T": part["state"],
                "Z": job["work_dir"], "k": job["comment"] or "(null)",
                "S": shown(job.get("start")), "e": shown(job.get("end")),
            }}
            print(re.sub("%(.)", lambda m: fields[m[1]], given["-o"]))
elif command == "scancel":
    job = state["jobs"].get(args[0])
    if job is None:
        fail("Kill job error on job id %s: Invalid job id specified" % args[0])
    if job.get("user", state["user"]) != state["user"]:
        fail("Kill job error on job id %s: Access/permission denied" % args[0])
    for part in job["parts"]:
        if part["state"] in ("PENDING", "RUNNING"):
            part["state"] = "CANCELLED by 1000"
elif command == "sbatch":
    number = str(100 + len(state["jobs"]))
    comment = work_dir = ""
    for word in args:
        if word.startswith("--comment="):
            comment = word.partition("=")[2]
        elif word.startswith("--chdir="):
            work_dir = word.partition("=")[2]
    with open(args[-1]) as f:
        script = f.read()
    names = re.findall("^#SBATCH --job-name=(\\\\S+)", script, re.M)
    parts = [dict(name=n, state="PENDING", accounted="", exit_code="0:0") for n in names]
    state["jobs"][number] = dict(
        parts=parts, user=state["user"], environment=dict(os.environ), comment=comment,
        work_dir=work_dir or os.getcwd(), queued=True, unaccounted=True, script=script,
    )
    print(number)
with open(root + "/state.tmp", "w") as f:
    json.dump(state, f)
os.replace(root + "/state.tmp", root + "/state.json")
"""


class FakeSlurm:
    """A cluster of one test.

    :param root: folder for its state; ``root / "bin"`` is to be put in front of PATH.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bin = root / "bin"
        self.bin.mkdir(parents=True)
        program = self.bin / ".slurm"
        program.write_text(PROGRAM.format(python=sys.executable, root=str(root)))
        program.chmod(0o755)
        for command in COMMANDS:
            (self.bin / command).symlink_to(program)
        self._write({"jobs": {}, "errors": {}, "keeps_comments": True, "user": "airflow"})

    def add(
        self,
        number: int,
        *states: str,
        exit_code: str = "0:0",
        queued: bool = False,
        unaccounted: bool = False,
        accounted: str = "",
        comment: str = "",
        work_dir: str = "/nowhere",
        name: str = "",
        user: str = "airflow",
        start: int | None = None,
        end: int | None = None,
    ) -> str:
        """Add a job and return its id.

        :param states: one for each part (more than one is a heterogeneous job).
        :param queued: whether squeue (still) knows it.
        :param unaccounted: whether sacct does not know it (yet).
        :param name: the name of its first part.
        :param start: when it started, or is expected to, in seconds since the epoch; None is unknown.
        :param end: when it ended, or will have to.
        :param user: its user; the commands are called by ``airflow``.
        :param accounted: the state that sacct shows when it is another than squeue's.
        """
        parts = [
            {
                "name": name if name and i == 0 else f"{KEY}.trainer-{i}",
                "state": state,
                "accounted": accounted,
                "exit_code": exit_code,
            }
            for i, state in enumerate(states)
        ]
        self.update(
            str(number),
            {
                "parts": parts,
                "comment": comment,
                "user": user,
                "work_dir": work_dir,
                "queued": queued,
                "unaccounted": unaccounted,
                "start": start,
                "end": end,
            },
        )
        return str(number)

    def update(self, number: str, job: dict[str, Any]) -> None:
        """Change or add a job."""
        state = self.state()
        state["jobs"].setdefault(number, {}).update(job)
        self._write(state)

    def break_command(self, command: str, error: str = "Connection refused") -> None:
        """Let a command fail with this text."""
        state = self.state()
        state["errors"][command] = error
        self._write(state)

    def forget_comments(self) -> None:
        """Let accounting keep no comments, which is Slurm's default."""
        self._write({**self.state(), "keeps_comments": False})

    def state(self) -> dict[str, Any]:
        """Return the state: ``jobs`` by number."""
        state: dict[str, Any] = json.loads((self.root / "state.json").read_text())
        return state

    def calls(self, command: str) -> list[list[str]]:
        """Return the arguments of every call of a command."""
        log = self.root / "calls.jsonl"
        calls = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [call[1:] for call in calls if call[0] == command]

    def _write(self, state: dict[str, Any]) -> None:
        (self.root / "state.json").write_text(json.dumps(state))
