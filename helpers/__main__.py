"""Command line: `python -m helpers run` executes the notebooks, `try` answers a file of your own, `site` builds pages, and more."""

import argparse
import difflib
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.course import door

try:
    door.check(colab=False)
except door.NotReadyError as not_ready:  # before an import fails that says less
    sys.exit(f"error: {not_ready}")

import helpers
from helpers import cluster, runtime
from helpers.course import addresses, cards, notebooks, site, status, team, weights
from helpers.course.runner import find_notebooks, run
from helpers.fetch.manifests import DownloadError
from helpers.workspace import NOTEBOOKS, buckets, disk

CONFIGS = ("mini", "t4", "full")


def _step(text: str) -> str:
    """A notebook's name from its name, number or step; for argparse."""
    names = (*NOTEBOOKS, notebooks.SOLUTIONS)
    for name in names:
        number, _, step = name.partition("_")
        if text in (name, f"{name}.ipynb", number, number.lstrip("0") or "0", step):
            return name
    near = _nearest(text, [*names, *(name[3:] for name in NOTEBOOKS)])
    raise argparse.ArgumentTypeError(f"{text!r} is no step{near}; allowed: {', '.join(names)}")


def _project(text: str) -> str:
    """A project's name; for argparse."""
    if text not in notebooks.PROJECTS:
        near, known = _nearest(text, notebooks.PROJECTS), ", ".join(notebooks.PROJECTS)
        raise argparse.ArgumentTypeError(f"{text!r} is no project{near}; allowed: {known}")
    return text


def _count(text: str) -> int:
    """A number of at least 1; for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: a whole number of at least 1")
    return int(text)


def _nearest(text: str, names: list[str]) -> str:
    near = difflib.get_close_matches(text, names, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _parser() -> argparse.ArgumentParser:
    """Every command stands here with the function that does it."""
    parser = argparse.ArgumentParser(prog="python -m helpers", description=__doc__)
    parser.add_argument("--version", action="version", version=f"learning-from-video {helpers.__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    _add_run(commands, functools.partial(_run_command, parser))
    command = commands.add_parser("try", help="one file of your own, answered by a project's published network")
    command.set_defaults(call=_try_command)
    command.add_argument("project", type=_project, metavar="PROJECT", help=f"one of {', '.join(notebooks.PROJECTS)}")
    kinds = "a photo, a clip, or (circulant_video) a TFRecord file of features"
    command.add_argument("file", metavar="FILE", help=kinds)
    command.add_argument("--out", default=".", metavar="FOLDER", help="for the picture, clip or table; default: here")
    trained = "of boat_detection: trained on drawn harbours, or Darknet's photos"
    command.add_argument("--weights", metavar="mini|coco", help=trained)
    moved = "of face_animation: what is to move as FILE does; default: a drawn puppet"
    command.add_argument("--source", metavar="PICTURE", help=moved)
    command = commands.add_parser("badges", help="derive badges, links and setup cells from pyproject.toml")
    command.set_defaults(call=_badges_command)
    command.add_argument("--check", action="store_true", help="change nothing; exit code 1 if something differs")
    first = "first write the address of git's remote `origin` into pyproject.toml"
    command.add_argument("--from-git", action="store_true", help=first)
    command = commands.add_parser("addresses", help="ask whether data and badges are still where the course says")
    command.set_defaults(call=_addresses_command)
    command.add_argument("manifests", nargs="*", metavar="MANIFEST", help="such as ucf101; default: all, and badges")
    command = commands.add_parser("site", help="build the site from the READMEs and the committed notebooks")
    command.set_defaults(call=lambda given: site.build(None if given.links else Path(given.out).resolve()))
    command.add_argument("--out", metavar="FOLDER", default="build/site", help="default: build/site")
    command.add_argument("--links", action="store_true", help="ask every address that the pages name instead")
    command = commands.add_parser("export", help="write a published network as a LiteRT file, which needs no Keras")
    command.set_defaults(call=_export_command)
    command.add_argument("project", metavar="PROJECT", help="boat_detection, lip_reading or temporal_coherence")
    command.add_argument("--out", metavar="FILE", help="default: PROJECT.tflite")
    precisions = ("float32", "float16", "int8")
    command.add_argument("--precision", default="float32", choices=precisions, help="of its weights")
    command = commands.add_parser("status", help="make README's table of notebooks, with what new records say")
    command.set_defaults(call=lambda given: print(status.update(given.records)))
    names = ", ".join(f"{name}.xml" for name in status.RECORDS)
    command.add_argument("records", nargs="*", metavar="FILE", help=f"JUnit XML of the gate or a weekly job: {names}")
    command = commands.add_parser("weights", help="make the published weights anew, or hold them to their cards")
    command.set_defaults(call=lambda given: cards.command(given.action, given.projects, _workspace(given)))
    command.add_argument("action", choices=("train", "check"), help="train: by long.yaml; goes on where it was killed")
    command.add_argument("projects", nargs="*", metavar="PROJECT", help="check: default all")
    command.add_argument("--workspace", metavar="DIR", help="default: workspace/ in the repository")
    return parser


def _add_run(commands: Any, call: Callable[[argparse.Namespace], int]) -> None:
    command = commands.add_parser("run", help="execute the notebooks and write an HTML report")
    names = ", ".join(notebooks.PROJECTS)
    command.add_argument("projects", nargs="*", metavar="PROJECT", help=f"default: all of {names}")
    default = os.environ.get("COURSE_CONFIG") or "mini"
    command.add_argument("--config", default=default, metavar="mini|t4|full|FILE", help="FILE goes with one PROJECT")
    last = "last notebook to run, such as 02 or split; solutions: all five and the answers to their exercises"
    command.add_argument("--until", type=_step, default=os.environ.get("COURSE_UNTIL"), metavar="STEP", help=last)
    command.add_argument("--workspace", metavar="DIR", help="default: workspace/ in the repository")
    outlives = "folder that outlives the machine, such as a mounted Drive or gs://bucket/folder: finished steps are packed there"
    command.add_argument("--keep", metavar="DIR", help=outlives)
    dask = "a Dask scheduler, such as tcp://10.0.0.5:8786, whose workers read and prepare the clips; all share the workspace"
    command.add_argument("--dask", metavar="ADDRESS", default=os.environ.get("COURSE_DASK"), help=dask)
    beside = "projects side by side; default: 2 on config mini with 2 cores or more, else 1"
    command.add_argument("--jobs", type=_count, metavar="N", help=beside)
    command.add_argument("--processes", type=_count, metavar="N", help="this is one of N that train together, on JAX")
    command.add_argument("--process-id", type=int, metavar="K", help="which of them, from 0")
    command.add_argument("--coordinator", metavar="HOST:PORT", help="address of process 0; the next port is used, too")
    command.add_argument("--save", action="store_true", help="write the executed notebooks in place, for committing")
    command.add_argument("--html", metavar="DIR", help="place of the report; default: WORKSPACE/report")
    command.set_defaults(call=call)


def _run_command(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    there = [project for project in notebooks.PROJECTS if find_notebooks(project)]
    for project in arguments.projects:
        if project not in there:
            known = ", ".join(there) or "none"
            parser.error(f"unknown project {project!r}{_nearest(project, there)}; there are: {known}")
    projects = [project for project in there if project in (arguments.projects or there)]
    if not projects:
        parser.error(f"there are no notebooks below {runtime.repo_root() / 'notebooks'}")
    config = arguments.config
    if config not in CONFIGS:
        if len(arguments.projects) != 1:
            parser.error(f"--config {config} is a file, which goes with exactly one PROJECT. Received: {len(projects)}")
        if not Path(config).is_file():
            parser.error(f"there is no config file {config}; allowed: {', '.join(CONFIGS)} or the path of a YAML file")
        config = str(Path(config).resolve())
        room = weights.room(projects[0], "config")
        if hasattr(room, "greeting"):  # it checks the file, before any kernel starts
            print(room.greeting(config), flush=True)
    place = team.find(arguments.processes, arguments.process_id, arguments.coordinator, os.environ)
    workspace = _workspace(arguments)
    if arguments.keep:
        os.environ["COURSE_KEEP"] = str(buckets.reach(arguments.keep, "--keep"))
    if arguments.dask:
        print(cluster.check(arguments.dask, workspace), flush=True)
        os.environ["COURSE_DASK"] = arguments.dask
    reports = disk.local_path(arguments.html or workspace / "report", "--html").resolve()
    jobs = arguments.jobs or (2 if config == "mini" and runtime.cpu_count() > 1 else 1)
    options = {"until": arguments.until, "save": arguments.save, "jobs": min(jobs, len(projects))}
    if place:  # the notebooks one by one on all; process 0 writes what there is once
        options |= {"jobs": 1, "place": place, "save": arguments.save and place.index == 0}
        reports = reports / f"process-{place.index}" if place.index else reports
    return run(projects, config, workspace, reports, **options)


def _workspace(arguments: argparse.Namespace) -> Path:
    chosen = arguments.workspace or os.environ.get("COURSE_WORKSPACE") or runtime.repo_root() / "workspace"
    return disk.local_path(chosen, "workspace").resolve()


def _try_command(arguments: argparse.Namespace) -> None:
    from helpers.course import tryout  # pictures and clips: not for the other commands

    options = {name: getattr(arguments, name) for name in ("weights", "source") if getattr(arguments, name)}
    tryout.run(arguments.project, arguments.file, arguments.out, **options)


def _badges_command(arguments: argparse.Namespace) -> int:
    if arguments.from_git:
        print(f"address: {notebooks.take_address()}")
    changed = notebooks.rewrite_addresses(check=arguments.check)
    for name in changed:
        print(f"{'differs' if arguments.check else 'rewritten'}: {name}")
    if changed and arguments.check:
        print("run: python -m helpers badges")
    return int(bool(changed) and arguments.check)


def _addresses_command(arguments: argparse.Namespace) -> int:
    lines, asked = addresses.problems(arguments.manifests, retries=2)
    print("\n".join([*lines, f"{asked} addresses asked, {len(lines)} do not answer as they should"]))
    return int(bool(lines))


def _export_command(arguments: argparse.Namespace) -> int:
    runtime.quiet_start()
    from helpers.course import export  # Keras, which the other commands do without

    return export.command(arguments.project, arguments.out, arguments.precision)


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code (bad arguments: SystemExit with code 2)."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.call(arguments) or 0
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError, DownloadError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
