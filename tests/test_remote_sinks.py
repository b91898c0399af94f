"""The sinks: a mounted folder, and the genuine gspread and google-api-python-client against a local server."""

import http.server
import json
import random
import re
import socket
import sys
import threading
import types
import urllib.parse
from pathlib import Path

import pytest
from remote_doubles import FAST, SECRET, WAIT, train, until

from helpers.training import sinks as sinks
from helpers.training.remote_log import RemoteLog, from_config


@pytest.mark.parametrize(
    "path, name",
    [
        ("3_train-1/contrastive/final.weights.h5", "contrastive-final.weights.h5"),
        ("3_train-1/nt_xent/checkpoints/state-000000001.h5", "nt_xent-state-000000001.h5"),
    ],
)
def test_networks_of_one_step_keep_their_files_apart(path, name):
    assert sinks.remote_name(Path(path)) == name


def test_folder_files_copies_and_never_invents_a_mount(tmp_path):
    (tmp_path / "model.h5").write_bytes(b"one")
    drive = tmp_path / "MyDrive"
    sink = sinks.FolderFiles(drive / "course")
    with pytest.raises(OSError, match="mount Drive"):
        sink.upload(tmp_path / "model.h5")
    assert not drive.exists()
    drive.mkdir()
    for content in (b"one", b"two"):
        (tmp_path / "model.h5").write_bytes(content)
        assert Path(sink.upload(tmp_path / "model.h5")).read_bytes() == content
    assert [path.name for path in (drive / "course").iterdir()] == [f"{tmp_path.name}-model.h5"]


def test_credentials_ask_only_in_colab_and_only_when_told(monkeypatch):
    asked, scopes = [], []
    colab_auth = types.SimpleNamespace(authenticate_user=lambda: asked.append(1))
    colab = types.SimpleNamespace(auth=colab_auth)
    google_auth = types.SimpleNamespace(default=lambda **given: (scopes.append(given), ("me", "project"))[1])
    google = types.SimpleNamespace(auth=google_auth, colab=colab)
    for name, module in (("google", google), ("google.auth", google_auth), ("google.colab", colab)):
        monkeypatch.setitem(sys.modules, name, module)
    for where, ask, count in (("elsewhere", True, 0), ("colab", False, 0), ("colab", True, 1)):
        monkeypatch.setattr(sinks.runtime, "where", lambda where=where: where)
        assert sinks.credentials(ask=ask) == "me"
        assert len(asked) == count
    assert scopes == [{"scopes": sinks.SCOPES}] * 3


# The genuine libraries against a local server


class Google(http.server.BaseHTTPRequestHandler):
    """As much of Sheets v4 and Drive v3 as the sinks use, with a list of answers that go wrong."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status=200, body=None, **headers):
        content = json.dumps({} if body is None else body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(content)

    def handle_any(self):
        state = self.server.state
        address = urllib.parse.urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        state["log"].append((self.command, address.path, self.headers.get("Content-Range")))
        for index, (method, part, fault) in enumerate(state["faults"]):
            if method == self.command and part in address.path:
                del state["faults"][index]
                if fault == "reset":
                    self.close_connection = True
                    return self.connection.shutdown(socket.SHUT_RDWR)
                if fault == "silence":
                    state["quiet"].wait(WAIT)
                    self.close_connection = True
                    return None
                fault, text = fault if isinstance(fault, tuple) else (fault, "planned fault")
                return self.answer(fault, {"error": {"code": fault, "message": text}}, Retry_After=1)
        query = dict(urllib.parse.parse_qsl(address.query))
        if address.path.startswith("/v4/"):
            return self.sheets(state, address.path, query, content)
        return self.drive(state, address.path, query, content)

    do_GET = do_POST = do_PUT = do_PATCH = handle_any

    def sheets(self, state, path, query, content):
        def tab(title):
            return {"properties": {"sheetId": 1, "title": title, "index": 0, "gridProperties": {"rowCount": 1}}}

        if path.endswith(":append"):
            assert query["valueInputOption"] == "RAW" and urllib.parse.unquote(path).count("'log'!A1") == 1
            state["cells"] += json.loads(content)["values"]
            return self.answer(body={"updates": {}})
        if b"updateSheetProperties" in content:
            state["renamed"] += 1
            return self.answer(body={"replies": [{}]})
        if path.endswith(":batchUpdate"):
            title = json.loads(content)["requests"][0]["addSheet"]["properties"]["title"]
            state["tabs"].append(title)
            return self.answer(body={"replies": [{"addSheet": tab(title)}]})
        return self.answer(body={"properties": {"title": "book"}, "sheets": [tab(title) for title in state["tabs"]]})

    def drive(self, state, path, query, content):
        if self.command == "GET" and path.endswith("/FOLDER"):
            return self.answer(body=state["folder"])
        if self.command == "GET":
            wish = re.fullmatch(r"name = '((?:\\.|[^\\'])*)' and 'FOLDER' in parents and trashed = false", query["q"])
            name = re.sub(r"\\(.)", r"\1", wish[1])
            found = [key for key, file in state["files"].items() if file["name"] == name]
            return self.answer(body={"files": [{"id": key} for key in found]})
        if self.command in ("POST", "PATCH"):
            key = path.rsplit("/", 1)[1] if self.command == "PATCH" else f"id{len(state['files'])}"
            if self.command == "PATCH" and key not in state["files"]:
                return self.answer(404, {"error": {"code": 404, "message": "File not found"}})
            body = json.loads(content or b"{}")
            state["session"] = {"key": key, "data": b"", "name": body.get("name"), "parents": body.get("parents")}
            return self.answer(Location=f"{self.server.address}/upload/session?upload_id={SECRET}")
        return self.chunk(state, self.headers["Content-Range"], content)

    def chunk(self, state, content_range, content):
        session = state["session"]
        span, total = content_range.removeprefix("bytes ").split("/")
        if span != "*":
            assert int(span.split("-")[0]) == len(session["data"]), "a chunk out of order"
            session["data"] += content
        if len(session["data"]) < int(total):
            seen = {"Range": f"bytes=0-{len(session['data']) - 1}"} if session["data"] else {}
            return self.answer(308, **seen)
        file = state["files"].setdefault(session["key"], {"name": session["name"], "parents": session["parents"]})
        file["data"] = session["data"]
        return self.answer(body={"id": session["key"]})


@pytest.fixture
def google(monkeypatch):
    """A local stand-in of Google's servers; the genuine libraries reach it because each request's host is rewritten."""
    pytest.importorskip("gspread")
    pytest.importorskip("googleapiclient")
    import google.oauth2.credentials as tokens
    import httplib2
    import requests

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Google)
    server.daemon_threads = True
    server.address = f"http://127.0.0.1:{server.server_port}"
    server.state = {"log": [], "faults": [], "cells": [], "tabs": ["other"], "files": {}, "signed in": 0}
    server.state |= {"renamed": 0, "folder": {"capabilities": {"canAddChildren": True}}, "account": None}
    server.state["quiet"] = threading.Event()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def local(address):
        parts = urllib.parse.urlsplit(address)
        return address if parts.hostname == "127.0.0.1" else address.replace(f"https://{parts.netloc}", server.address)

    def sign_in(*, ask=True):
        assert not ask or threading.current_thread() is threading.main_thread()
        server.state["signed in"] += 1
        found = tokens.Credentials(SECRET)
        if server.state["account"]:
            found.service_account_email = server.state["account"]
        return found

    send, fetch = requests.Session.request, httplib2.Http.request
    monkeypatch.setattr(requests.Session, "request", lambda s, way, url, *a, **k: send(s, way, local(url), *a, **k))
    monkeypatch.setattr(httplib2.Http, "request", lambda s, url, *a, **k: fetch(s, local(url), *a, **k))
    monkeypatch.setattr(sinks, "credentials", sign_in)
    yield server.state
    server.state["quiet"].set()
    server.shutdown()
    server.server_close()


SHEET_FAULTS = {
    "none": [],
    "500 at open": [("GET", "/v4/", 500)] * 3,
    "429 at append": [("POST", ":append", 429)] * 2,
    "401 at append": [("POST", ":append", 401)],
    "401 at open": [("GET", "/v4/", 401)],
    "reset at append": [("POST", ":append", "reset")] * 2,
    "silence at append": [("POST", ":append", "silence")],
}


@pytest.mark.parametrize("book", ["KEY", "https://docs.google.com/spreadsheets/d/KEY/edit"])
@pytest.mark.parametrize("kind", SHEET_FAULTS)
def test_sheets_rows_with_gspread(google, tmp_path, monkeypatch, kind, book):
    google["faults"] = list(SHEET_FAULTS[kind])
    monkeypatch.setattr(sinks, "TIMEOUT", 0.5 if "silence" in kind else WAIT)
    sink = sinks.SheetsRows(book)
    with RemoteLog(tmp_path, rows=sink, **FAST) as log:
        train(log, 3)
        until(lambda: log.status()["sent"] == 3)
    assert google["faults"] == [] and google["tabs"] == ["other", "log"]
    header, *cells = google["cells"]
    assert header == ["id", "time", "epoch", "hours", "saved", "loss"]
    assert [row[2:5] for row in cells] == [[0, 0.0, True], [1, 0.1, False], [2, 0.2, False]]
    assert log.status()["failures"] == len(SHEET_FAULTS[kind])
    assert google["signed in"] == 1 + sum(fault == 401 or part == "/v4/" for _, part, fault in SHEET_FAULTS[kind])
    assert {path.split("/")[3].split(":")[0] for _, path, _ in google["log"]} == {"KEY"}


@pytest.mark.parametrize("status", [403, 404])
def test_a_sheet_that_is_not_shared_is_not_asked_again_and_again(google, tmp_path, status):
    google["faults"] = [("GET", "/v4/", status)]
    with RemoteLog(tmp_path, rows=sinks.SheetsRows("KEY"), max_delay=3600.0) as log:
        train(log, 1)
        until(lambda: log.status()["failures"] == 1)
        until(lambda: log._paces["rows"].failures == 1)  # the round is over, the next one an hour away
        assert len(google["log"]) == 1
    assert log.status()["sent"] == 1


DRIVE_FAULTS = {
    "none": [],
    "500 at search": [("GET", "/drive/v3/files", 500)],
    "503 at start": [("POST", "/upload/drive", 503)] * 2,
    "401 at start": [("POST", "/upload/drive", 401)],
    "500 at a chunk": [("PUT", "/upload/session", 500)] * 3,
    "reset at a chunk": [("PUT", "/upload/session", "reset")],
    "silence at a chunk": [("PUT", "/upload/session", "silence")],
    "the session expires": [("PUT", "/upload/session", 500), ("PUT", "/upload/session", 404)],
}


@pytest.mark.parametrize("kind", DRIVE_FAULTS)
def test_drive_files_with_googleapiclient(google, tmp_path, monkeypatch, kind):
    google["faults"] = list(DRIVE_FAULTS[kind])
    monkeypatch.setattr(sinks, "CHUNK", 2**18)
    monkeypatch.setattr(sinks, "TIMEOUT", 0.5 if "silence" in kind else WAIT)
    path = tmp_path / "it's a model.h5"
    path.write_bytes(random.Random(1).randbytes(700_000))  # three chunks
    sink = sinks.DriveFiles("FOLDER")
    with RemoteLog(tmp_path / "log", files=sink, **FAST) as log:
        log.upload(path)
        until(lambda: log.status()["uploaded"] == 1)
    (file,) = google["files"].values()
    assert (
        file == {"name": f"{tmp_path.name}-{path.name}", "parents": ["FOLDER"], "data": path.read_bytes()}
        and google["faults"] == []
    )
    assert google["signed in"] == 1 + (kind == "401 at start")
    written = "".join(each.read_text() for each in (tmp_path / "log").iterdir()) + str(log.status())
    assert SECRET not in written


def test_drive_files_goes_on_where_it_broke_off(google, tmp_path, monkeypatch):
    answers, genuine = iter([None, 500, None]), Google.chunk

    def chunk(self, state, content_range, content):
        fault = next(answers, None) if "*" not in content_range else None
        return self.answer(fault) if fault else genuine(self, state, content_range, content)

    monkeypatch.setattr(Google, "chunk", chunk)
    monkeypatch.setattr(sinks, "CHUNK", 2**18)
    (tmp_path / "model.h5").write_bytes(bytes(700_000))
    sink = sinks.DriveFiles("FOLDER")
    with RemoteLog(tmp_path / "log", files=sink, **FAST) as log:
        log.upload(tmp_path / "model.h5")
        until(lambda: log.status()["uploaded"] == 1)
    ranges = [span for method, _, span in google["log"] if method == "PUT"]
    second = "bytes 262144-524287/700000"
    assert ranges == ["bytes 0-262143/700000", second, "bytes */700000", second, "bytes 524288-699999/700000"]
    assert sum(method == "POST" for method, *_ in google["log"]) == 1


def test_drive_files_updates_the_same_file(google, tmp_path):
    path = tmp_path / "model.h5"
    sink = sinks.DriveFiles("FOLDER")
    for content in (b"one", b"two"):
        path.write_bytes(content)
        assert sink.upload(path) == "id0"
    path.write_bytes(b"three")
    assert sinks.DriveFiles("FOLDER").upload(path) == "id0"  # a later run finds it
    assert google["files"]["id0"]["data"] == b"three" and len(google["files"]) == 1
    google["files"]["other"] = google["files"].pop("id0") | {"name": "other.h5"}  # the user deletes it in Drive
    path.write_bytes(b"four")
    assert google["files"][sink.upload(path)] == {
        "name": f"{tmp_path.name}-model.h5",
        "parents": ["FOLDER"],
        "data": b"four",
    }


# Tried before training

MAIL = "course@project.iam.gserviceaccount.com"
OFF = "Google Sheets API has not been used in project 1 before or it is disabled."
SCOPES = "Request had insufficient authentication scopes."
TRIED = {  # what fails, the account, what is said
    "all is well": ([], None, ""),
    "a service account and a shared drive": ([], MAIL, ""),
    "the sheet is not shared": (
        [("GET", "/v4/", (403, "The caller does not have permission"))],
        MAIL,
        f"open to {MAIL}: share it",
    ),
    "no such sheet": (
        [("GET", "/v4/", (404, "Requested entity was not found."))],
        None,
        "open to the account that is signed in",
    ),
    "the sheet may only be read": (
        [("POST", ":batchUpdate", (403, "no permission"))],
        MAIL,
        "the sheet is not open to",
    ),
    "the API is off": (
        [("GET", "/v4/", (403, OFF))],
        MAIL,
        "gcloud services enable sheets.googleapis.com drive.googleapis.com",
    ),
    "gcloud's own login": (
        [("GET", "/v4/", (403, SCOPES))],
        None,
        "gcloud's own cannot be: name the key file of a",
    ),
    "the login is over": ([("GET", "/v4/", 401)] * 3, None, "the login is not valid any more"),
    "no network": ([("GET", "/v4/", "reset")], None, "the sheet cannot be reached ("),
    "the folder is not shared": (
        [("GET", "/FOLDER", (404, "File not found"))],
        MAIL,
        "the Drive folder is not open to",
    ),
}


@pytest.mark.parametrize("kind", TRIED)
def test_what_is_wrong_is_one_sentence_before_training(google, tmp_path, kind, capsys):
    google["faults"], google["account"], said = list(TRIED[kind][0]), TRIED[kind][1], TRIED[kind][2]
    google["folder"]["driveId"], google["tabs"] = "SHARED", ["log"]
    with from_config(tmp_path, sheet="KEY", drive_folder="FOLDER"):
        pass
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == bool(said) and google["cells"] == []
    assert google["renamed"] == (
        kind in ("all is well", "a service account and a shared drive", "the folder is not shared")
    )
    for line in lines:
        assert line.startswith("remote log: ") and said in line and "training goes on" in line and SECRET not in line


def test_a_service_account_owns_no_storage(google, tmp_path, capsys):
    google["account"] = MAIL
    with from_config(tmp_path, drive_folder="FOLDER"):
        assert "a service account owns no storage" in capsys.readouterr().out
    google["account"], google["folder"]["capabilities"]["canAddChildren"] = None, False
    with from_config(tmp_path, drive_folder="FOLDER"):
        assert "the Drive folder may only be read: share it with this account as Editor" in capsys.readouterr().out


def test_nobody_signed_in(tmp_path, capsys, monkeypatch):
    pytest.importorskip("gspread")
    errors = pytest.importorskip("google.auth.exceptions")

    def refuse(**_):
        raise errors.DefaultCredentialsError("Your default credentials were not found.")

    monkeypatch.setattr("google.auth.default", refuse)
    with from_config(tmp_path, sheet="KEY"):
        pass
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        "remote log: there are no Google credentials here: name the key file of a service account in"
    )
    assert len(lines) == 1
