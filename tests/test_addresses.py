"""`python -m helpers addresses`, against a server on this machine."""

import json

import pytest
import yaml
from download_server import BODY, FAST, Handler, serve, sha

from helpers import runtime
from helpers.__main__ import main
from helpers.course import addresses, notebooks

ROOT = runtime.repo_root()
QUICK = FAST | {"retries": 1}


@pytest.fixture
def server(monkeypatch):
    with serve(monkeypatch) as state:
        yield state


@pytest.fixture
def repository(tmp_path, monkeypatch, server):
    """A pretended repository; call it with sizes of the server's file to give it a manifest."""
    (tmp_path / "data_manifests").mkdir()
    monkeypatch.setattr(addresses.runtime, "repo_root", lambda: tmp_path)
    monkeypatch.setattr(runtime, "user_agent", lambda: "learning-from-video/0.1.0 (+address)")
    texts = dict.fromkeys(("title", "homepage", "licence", "citation", "terms"), "x")

    def write(name, **files):
        rows = [
            {"name": file, "size": size, "sha256": sha(BODY), "sources": [{"url": server.url}, {"python": "a.b:c"}]}
            for file, size in files.items()
        ]
        (tmp_path / "data_manifests" / f"{name}.yaml").write_text(yaml.safe_dump(texts | {"name": name, "files": rows}))
        return tmp_path

    return write


def test_what_answers_with_the_right_size_is_no_problem(server, repository):
    repository("toy", right=len(BODY), unknown=None)
    assert addresses.problems(["toy"], **QUICK) == ([], 2)  # what python makes is not asked
    assert server.requests == []  # HEAD alone


def test_a_wrong_size_is_listed_with_file_and_address(server, repository, capsys, monkeypatch):
    repository("toy", right=len(BODY), wrong=len(BODY) - 1)
    monkeypatch.setattr(addresses, "of_badges", lambda: [])
    assert main(["addresses"]) == 1
    line, summary = capsys.readouterr().out.splitlines()
    assert line == f"toy/wrong: {server.url}: announces {len(BODY)} bytes, expected {len(BODY) - 1}"
    assert summary == "2 addresses asked, 1 do not answer as they should"
    repository("toy", right=len(BODY))
    assert main(["addresses", "toy"]) == 0
    assert main(["addresses", "toi"]) == 1
    assert "no manifest called 'toi'; there are: toy" in capsys.readouterr().err


def head(status, **headers):
    return lambda self: self.head(status, None, headers)


ANSWERS = [  # HEAD, the plan of GET, the problem
    (head(404), ["status 404"], "HTTP 404 Not Found"),
    (head(403), ["status 403"], "HTTP 403 Forbidden: the host is there and refuses"),
    (head(503), ["status 503"] * 2, "HTTP 503 Service Unavailable (tried 2 times)"),
    (head(200), ["too long"], f"tells no size, expected {len(BODY)} bytes"),
    (head(302, Location="http://example.com/x"), ["redirect"], "redirects to http://example.com"),
    (head(405), [], ""),  # a host that knows no HEAD
    (head(200), [], ""),  # one that tells the size only with the file
]


@pytest.mark.parametrize(("answer", "plan", "words"), ANSWERS)
def test_each_wrong_answer(server, monkeypatch, answer, plan, words):
    monkeypatch.setattr(Handler, "do_HEAD", answer)
    server.plan = plan
    problem = addresses.ask(server.url, len(BODY), **QUICK)
    assert problem.startswith(words) if words else problem == ""


def test_nobody_there_is_said(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert "Connection" in addresses.ask("http://127.0.0.1:9/x", 5, **QUICK)


def test_badges_are_asked_where_colab_takes_them_from(tmp_path, monkeypatch, server, repository):
    root = repository("toy", right=len(BODY))
    link = f"{notebooks.COLAB}/github/some-one/a.course/blob/main/notebooks/boats/00_x.ipynb"
    (root / "notebooks" / "boats").mkdir(parents=True)
    (root / "README.md").write_text(f"[![Open in Colab](picture)]({link}) and again {link}")
    (root / "notebooks" / "boats" / "00_x.ipynb").write_text(json.dumps({"cells": [{"source": [f"# T ({link})"]}]}))
    raw = "https://raw.githubusercontent.com/some-one/a.course/main/notebooks/boats/00_x.ipynb"
    picture = f"{notebooks.COLAB}/assets/colab-badge.svg"
    found = [("README.md", raw), ("notebooks/boats/00_x.ipynb", raw), ("the badges' picture", picture)]
    assert addresses.of_badges() == found
    asked = []
    monkeypatch.setattr(addresses, "ask", lambda url, *rest, **options: asked.append(url) or "HTTP 404 Not Found")
    lines, count = addresses.problems()
    assert count == 4 and asked == [server.url, raw, raw, picture]
    assert lines[1] == f"README.md: {raw}: HTTP 404 Not Found"


def test_every_notebook_of_the_course_has_its_badge_among_them():
    labels = [label for label, _ in addresses.of_badges()]
    notebooks_there = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("notebooks/*/*.ipynb")]
    assert len(notebooks_there) == 30 and set(notebooks_there) <= set(labels)
    assert len(list(addresses.of_manifests())) > 40
