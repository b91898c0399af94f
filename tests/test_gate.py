"""`.ci/run` runs what README says, and fails where README's commands do; the Python that it calls here only writes things down."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from helpers import runtime

ROOT = runtime.repo_root()
PYTHON = """\
#!/bin/sh
# `python3 -m venv .venv` makes an environment whose pip and python write down what they are asked; pytest misses what pip was not.
[ "$1" = --version ] && { echo Python 3.13; exit; }
[ "$1 $2" = "-m venv" ] || exit 3
mkdir -p "$3/bin"
printf '#!/bin/sh\\necho pip "$@" "constraint=$(basename $PIP_CONSTRAINT)" >>"%s/log"\\n' "$PLACE" >"$3/bin/pip"
cat >"$3/bin/python" <<'END'
#!/bin/sh
echo python "$@" "until=$COURSE_UNTIL" "options=$PYTEST_ADDOPTS" ${KERAS_BACKEND:+backend=$KERAS_BACKEND} >>"$PLACE/log"
[ "$2" = pytest ] || exit 0
[ -n "$RECORD" ] && echo "<testsuites/>" >"$(echo "$PYTEST_ADDOPTS" | sed "s/.*--junitxml='\\(.*\\)'/\\1/")" && eval "$RECORD"
tail -n 2 "$PLACE/log" | grep -q "pip.*-r tests/requirements.txt" && exit 0
echo "No module named 'pycocotools'"
exit 2
END
printf '#!/bin/sh\\necho ruff "$@" >>"%s/log"\\n' "$PLACE" >"$3/bin/ruff"
chmod +x "$3"/bin/*
"""


@pytest.fixture
def gate(tmp_path):
    """A small repository with README, gate and settings of this one; call it with README's new text to run the gate."""
    for command in ("git", "bash"):
        if shutil.which(command) is None:
            pytest.skip(f"no {command} here")
    place, repository = tmp_path / "place", tmp_path / "repository"
    (place / "bin").mkdir(parents=True)
    for name in ("python3", "python3.13"):
        (place / "bin" / name).write_text(PYTHON)
        (place / "bin" / name).chmod(0o755)
    for name in (".ci", "notebooks/circulant_video"):
        (repository / name).mkdir(parents=True)
    for name in ("README.md", "pyproject.toml", ".ci/run", "notebooks/circulant_video/mini.yaml"):
        shutil.copy(ROOT / name, repository / name)
    identity = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    environment = os.environ | identity | {"PLACE": str(place), "PATH": f"{place / 'bin'}:{os.environ['PATH']}"}
    environment.pop("PYTEST_ADDOPTS", None)

    def run(readme: str, *arguments: str, record: str = "") -> tuple[subprocess.CompletedProcess, list[str]]:
        """The gate's end and what was asked in all; with a `record` pytest leaves its XML and ends by these words."""
        (repository / "README.md").write_text(readme)
        for command in (["git", "init", "-q"], ["git", "add", "-A"], ["git", "commit", "-qm", "x", "--allow-empty"]):
            subprocess.run(command, cwd=repository, env=environment, check=True)
        options = {"env": environment | {"RECORD": record}, "capture_output": True, "text": True, "timeout": 60}
        done = subprocess.run(["bash", ".ci/run", *arguments], cwd=repository, **options)
        log = place / "log"
        return done, log.read_text().splitlines() if log.is_file() else []

    run.repository = repository
    return run


README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_gate_runs_both_commands_as_they_stand(gate):
    done, log = gate(README)
    assert done.returncode == 0, done.stderr
    (on_jax,) = [line for line in log if "backend=jax" in line]
    assert on_jax.startswith("python -m helpers run circulant_video --config") and log.index(on_jax) == 6
    short = (ROOT / "notebooks" / "circulant_video" / "mini.yaml").read_text()
    assert all(f"\n{key}: " in short for key in ("seeds", "experiments", "epochs"))  # the lines that the gate shortens
    (rehearsal,) = [line for line in log if "tests.rehearsal" in line]
    assert log.index(rehearsal) == 7 and "--config t4" in rehearsal
    log.remove(on_jax)
    log.remove(rehearsal)
    asked = [line.split(" constraint=")[0].split(" until=")[0] for line in log]
    learner, tester = "pip install -r requirements.txt", "pip install -r requirements.txt -r tests/requirements.txt"
    ruff = ["ruff check .", "ruff format --check ."]
    assert asked == [learner, "python -m helpers run", tester, "python -m pytest", *ruff, tester, "python -m pytest"]
    assert [line.rsplit("constraint=")[1] for line in log if line.startswith("pip")] == [
        f"constraints-{stack}.txt" for stack in ("main", "main", "colab")
    ]
    assert "until=00" in log[1] and "--nbval " in log[3] and "--nbval-lax" not in log[3]
    options = [
        line.split("options=")[1] for line in log if " -m pytest" in line
    ]  # the second stack has pyproject.toml's, which are lax
    records = [f"--junitxml='{gate.repository}/workspace/gate/{stack}.xml'" for stack in ("main", "colab")]
    assert options[0].endswith(f" {records[0]}") and options[1].strip() == records[1]


def test_what_pytest_leaves_is_kept_and_becomes_the_table_also_where_a_test_fails(gate):
    done, log = gate(README, "colab", record="exit 0")
    record = gate.repository / "workspace" / "gate" / "colab.xml"
    assert done.returncode == 0 and record.read_text() == "<testsuites/>\n"
    assert [line.split(" until=")[0] for line in log][2:] == [f"python -m helpers status {record}"]
    done, log = gate(README, "colab", record="exit 7")
    assert done.returncode == 7 and "helpers status" in log[-1]
    done, log = gate(README, "colab")  # ended before it left one
    assert done.returncode == 0 and not record.exists() and "helpers status" not in log[-1]


BROKEN = {  # what is done to README -> what the gate says
    "the tests' requirements forgotten": (" -r tests/requirements.txt", "", "No module named 'pycocotools'"),
    "a wrong module": ("-m venv .venv &&", "-m venw .venv &&", ""),
    "no command for the tests": (" -m pytest\n", " -m pytset\n", "README.md must hold two lines"),
    "a command twice": (
        "```sh\npython3",
        "```sh\npython3 -m venv .venv && true\npython3",
        "README.md must hold two lines",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_command_that_is_broken_in_readme_fails_the_gate(gate, name):
    old, new, words = BROKEN[name]
    assert old in README
    done, _ = gate(README.replace(old, new))
    assert done.returncode != 0
    assert words in done.stdout + done.stderr


@pytest.mark.parametrize(("stack", "count"), [("main", 3), ("colab", 1)])
def test_one_stack_alone(gate, stack, count):
    done, log = gate(README, stack)
    assert done.returncode == 0
    assert len([line for line in log if line.startswith("pip")]) == (2 if stack == "main" else count)


def test_learners_install_no_oracles():
    names = Path(ROOT / "requirements.txt").read_text().split()
    assert not [name for name in names if name.startswith(("jax", "pycocotools", "distributed", "gspread", "ruff"))]
