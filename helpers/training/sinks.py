"""Where `remote_log.RemoteLog` sends rows and files: a Google Sheet, Google Drive, a mounted folder, TensorBoard.

A sink may raise anything: the log tries again. None of them touches the network when it is made, and the packages that
it needs are imported where they are used.
"""

import dataclasses
import logging
import mimetypes
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helpers import runtime
from helpers.training.remote_errors import NO_STORAGE, Refused
from helpers.workspace import disk

SCOPES = ("https://www.googleapis.com/auth/spreadsheets", "https://www.googleapis.com/auth/drive")
CHUNK = 8 * 2**20  # bytes per request of an upload; Drive wants a multiple of 256 KiB
TIMEOUT = 30.0  # seconds for each request
TAB = "log"  # of the sheet, made when missing


def credentials(*, ask: bool = True) -> Any:
    """Google's default credentials for sheets and Drive; they are neither printed nor stored.

    Colab asks the user once; with `ask=False`, for threads, it does not. Elsewhere GOOGLE_APPLICATION_CREDENTIALS names the key
    file of a service account: Google refuses sheets and Drive to the login of `gcloud auth application-default login`.
    """
    import google.auth

    if ask:
        runtime.sign_in()
    return google.auth.default(scopes=SCOPES)[0]


class SheetsRows:
    """Rows of a Google Sheet, of an address or key, that the account may edit, appended below the last one; needs gspread.

    Not with gspread's BackOffHTTPClient: it repeats a lasting 5xx almost for ever and lets dropped connections through.
    """

    def __init__(self, spreadsheet: str) -> None:
        self.spreadsheet = spreadsheet
        self._sheet: Any = None

    def append_rows(self, rows: list[list]) -> None:
        """Append all rows by one request; RAW, so that no text becomes a formula."""
        self._sheet = self._sheet or self._open()
        self._sheet.append_rows(rows, value_input_option="RAW", insert_data_option="INSERT_ROWS", table_range="A1")

    def try_out(self) -> None:
        """Open the sheet and give its tab the name that it has, which only an editor may."""
        self._sheet = self._open()
        self._sheet.update_title(TAB)

    def reauthorise(self) -> None:
        """Forget the session; the next append signs in and opens the sheet again."""
        self._sheet = None

    def _open(self) -> Any:
        import gspread

        client = gspread.authorize(credentials(ask=False))
        client.set_timeout(TIMEOUT)
        by_address = self.spreadsheet.startswith("http")
        book = client.open_by_url(self.spreadsheet) if by_address else client.open_by_key(self.spreadsheet)
        try:
            return book.worksheet(TAB)
        except gspread.exceptions.WorksheetNotFound:
            return book.add_worksheet(TAB, rows=1, cols=26)


def remote_name(path: Path) -> str:
    """`<run>-<file>`: the networks of one step must not overwrite each other's files in the one folder of the mirror."""
    run = next(part for part in reversed(path.parts[:-1]) if part != "checkpoints")
    return f"{run}-{path.name}"


class DriveFiles:
    """Files in a Google Drive folder, each name one file whose older contents Drive keeps as versions.

    Needs google-api-python-client. An upload that broke off goes on where it stopped, unless the file has changed. The folder's id
    is the last part of its address; for a service account, which owns no storage, one of a shared drive.
    """

    def __init__(self, folder_id: str) -> None:
        self.folder_id = folder_id
        self._service: Any = None
        self._ids: dict[str, str] = {}  # name of a file -> its id in Drive
        self._broken: dict[tuple, Any] = {}  # (path, time, size) -> the request that broke off; at most one

    def upload(self, path: Path) -> str:
        """Create the file or give it new contents; the id of the file in Drive."""
        from googleapiclient.errors import HttpError

        version = (path, path.stat().st_mtime_ns, path.stat().st_size)
        known = version in self._broken or remote_name(path) in self._ids
        try:
            return self._send(path, version)
        except HttpError as error:
            if not known or error.resp.status not in (400, 404, 410):
                raise
        # The file in Drive was deleted, or the upload session has expired: once more from the start.
        self._broken = {}
        self._ids.pop(remote_name(path), None)
        return self._send(path, version)

    def try_out(self) -> None:
        """Ask whether files may be put into the folder; Refused if not."""
        self._service = self._service or self._build()
        fields = "driveId,capabilities(canAddChildren)"
        found = self._service.files().get(fileId=self.folder_id, fields=fields, supportsAllDrives=True).execute()
        account = getattr(credentials(ask=False), "service_account_email", None)
        if account and "driveId" not in found:
            raise Refused(NO_STORAGE)
        if not found["capabilities"]["canAddChildren"]:
            who = account or "this account"
            raise Refused(f"the Drive folder may only be read: share it with {who} as Editor")

    def reauthorise(self) -> None:
        """Forget the session; the next upload signs in again and begins at its first byte."""
        self._service, self._broken = None, {}

    def _send(self, path: Path, version: tuple) -> str:
        request = self._broken.get(version) or self._request(path)
        self._broken = {version: request}
        answer = None
        while answer is None:
            # Without retries of its own: called again after an error it asks the service how far it got, and goes on.
            _, answer = request.next_chunk(num_retries=0)
        self._broken, self._ids[remote_name(path)] = {}, answer["id"]
        return answer["id"]

    def _request(self, path: Path) -> Any:
        from googleapiclient.http import MediaFileUpload

        self._service = self._service or self._build()
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        media = MediaFileUpload(str(path), mimetype=kind, chunksize=CHUNK, resumable=True)
        # A chunk as bytes: of a stream, a request that httplib2 repeats by itself would find the end only, and hang.
        media.has_stream = lambda: False
        options = {"media_body": media, "fields": "id", "supportsAllDrives": True}
        known = self._ids.get(remote_name(path)) or self._find(remote_name(path))
        if known:
            return self._service.files().update(fileId=known, **options)
        return self._service.files().create(body={"name": remote_name(path), "parents": [self.folder_id]}, **options)

    def _find(self, name: str) -> str | None:
        """Id of the newest file of that name that an earlier run left in the folder."""
        quoted = name.replace("\\", "\\\\").replace("'", "\\'")
        query = f"name = '{quoted}' and '{self.folder_id}' in parents and trashed = false"
        options = {"supportsAllDrives": True, "includeItemsFromAllDrives": True, "orderBy": "modifiedTime desc"}
        found = self._service.files().list(q=query, fields="files(id)", pageSize=1, **options).execute()
        return found["files"][0]["id"] if found.get("files") else None

    def _build(self) -> Any:
        import google_auth_httplib2
        from googleapiclient import discovery
        from googleapiclient.http import build_http

        logging.getLogger("googleapiclient.http").setLevel(logging.ERROR)  # its warnings would land in the notebook
        http = build_http()  # unlike httplib2.Http() it does not take Drive's 308 for a redirect
        http.timeout = TIMEOUT
        authorised = google_auth_httplib2.AuthorizedHttp(credentials(ask=False), http=http)
        return discovery.build("drive", "v3", http=authorised, cache_discovery=False)


@dataclasses.dataclass(frozen=True)
class FolderFiles:
    """Files copied into a folder, atomically: the simple way in Colab, where Drive can be mounted."""

    folder: Path

    def upload(self, path: Path) -> str:
        """Copy the file; the path of the copy. OSError without a parent folder: made, it would hide that Drive is not mounted."""
        if not self.folder.parent.is_dir():
            raise OSError(f"{self.folder.parent} is no folder: mount Drive, or name a folder that exists")
        target = self.folder / remote_name(path)
        with path.open("rb") as source, disk.atomic_write(target) as copy:
            shutil.copyfileobj(source, copy, CHUNK)
        return str(target)


class EventFiles:
    """Rows as scalars for TensorBoard, a folder for each run; needs the package tensorboard.

    Written by its record writer into a plain file: tensorboard's EventFileWriter imports TensorFlow wherever it finds it, also
    under JAX.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        self._writers: dict[str, Any] = {}

    def row(self, values: Mapping[str, Any]) -> None:
        """Write the numbers of a row at its `step`; texts, among them NaN, are left out."""
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        run = str(values.get("run", ""))
        if run not in self._writers:
            folder = self.folder / run
            folder.mkdir(parents=True, exist_ok=True)
            name = f"events.out.tfevents.{time.time():.6f}.{os.getpid()}"
            self._writers[run] = RecordWriter((folder / name).open("wb"))
            self._write(run, event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"))
        event = event_pb2.Event(wall_time=time.time(), step=int(values.get("step", values.get("epoch", 0))))
        for name, value in values.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and name not in ("epoch", "step"):
                event.summary.value.add(tag=name, simple_value=value)
        self._write(run, event)

    def _write(self, run: str, event: Any) -> None:
        self._writers[run].write(event.SerializeToString())
        self._writers[run].flush()
