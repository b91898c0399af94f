"""What an error of the mirror's services (a sheet, Drive) means, in a sentence, and when they are asked again; see `remote_log`.

How a download waits and insists is `helpers.fetch.downloads.Patience`.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from helpers.fetch import downloads
from helpers.workspace.redact import clean

KEY_FILE = "name the key file of a service account in GOOGLE_APPLICATION_CREDENTIALS (README, Logging to a sheet)"
NO_STORAGE = (
    "a service account owns no storage, so it can put no file into a folder of a personal Drive: keep checkpoints in a bucket "
    "(--keep gs://bucket/folder), name a folder of a shared drive, or train in Colab with USE_DRIVE"
)


class Refused(Exception):
    """Says itself what is wrong, and what to do."""


def answer(error: BaseException) -> tuple[int | None, Mapping]:
    """HTTP status and headers of an error of requests, gspread or googleapiclient."""
    for each in (error, error.__cause__):  # gspread wraps the 403 and 404 of a sheet that it cannot open
        for name in ("response", "resp"):
            answer = getattr(each, name, None)
            status = getattr(answer, "status_code", getattr(answer, "status", None))
            if status is not None:  # an httplib2 response is its own dictionary of headers
                return status, answer if isinstance(answer, Mapping) else answer.headers
    return None, {}


def _kinds(error: BaseException) -> set[str]:
    """Names of its classes: those of packages that need not be here."""
    return {kind.__name__ for kind in type(error).__mro__}


def judge(error: BaseException) -> tuple[str, float]:
    """("retry", "auth" or "permanent", seconds that the service asks to wait). What is not known is tried again."""
    try:
        status, headers = answer(error)
        if status == 401 or ("RefreshError" in _kinds(error) and not getattr(error, "retryable", False)):
            return "auth", 0.0
        # Drive says 403 for some of its rate limits.
        limited = status in (408, 429) or (status == 403 and "ratelimitexceeded" in str(error).lower())
        if status is not None and 400 <= status < 500 and not limited:
            return "permanent", 0.0
        return "retry", downloads.retry_after(headers.get("retry-after"))
    except Exception:
        return "retry", 0.0


def why(error: BaseException, what: str, account: str = "") -> str:
    """What an error of Google's libraries means for whoever wants to log, and what to do; one sentence.

    Args:
        error: of gspread, googleapiclient or google.auth.
        what: "the sheet" or "the Drive folder".
        account: address of the service account that is signed in, if it is one.
    """
    if isinstance(error, Refused):
        return str(error)
    kinds, (status, _) = _kinds(error), answer(error)
    text = f"{error} {error.__cause__ or ''}".lower()
    if "DefaultCredentialsError" in kinds:
        return f"there are no Google credentials here: {KEY_FILE}"
    if "scope" in text:  # of gcloud's own login, and of a VM's account
        return f"this login is not allowed to touch sheets and Drive, and gcloud's own cannot be: {KEY_FILE}"
    if "has not been used" in text or "service_disabled" in text or "it is disabled" in text:
        return (
            "the API is off in the account's project: gcloud services enable sheets.googleapis.com drive.googleapis.com"
        )
    if status == 401 or "RefreshError" in kinds:
        return f"the login is not valid any more: sign in again, or {KEY_FILE}"
    if status in (403, 404):
        who = account or "the account that is signed in"
        return f"{what} is not open to {who}: share it with that address as Editor"
    return f"{what} cannot be reached ({clean(error)})"


@dataclass
class Pace:
    """When a sink is tried next: back-off with full jitter inside a round of tries, a circuit breaker over the rounds."""

    max_tries: int = 5
    base_delay: float = 1.0
    max_delay: float = 60.0
    breaker_failures: int = 3
    breaker_pause: float = 300.0
    # Its own generator: drawing from `random` would change the numbers of the training that it watches.
    jitter: random.Random = field(default_factory=random.Random)
    tries: int = 0
    failures: int = 0
    due: float = 0.0
    reauthorised: bool = False

    @property
    def open(self) -> bool:
        return self.failures >= self.breaker_failures

    def answered(self) -> None:
        """The service works: forget the failures."""
        self.tries, self.failures, self.due, self.reauthorised = 0, 0, 0.0, False

    def failed(self, now: float, *, wait: float = 0.0, again: bool = True) -> None:
        """Plan the next try; `wait` is what the service asked for, `again=False` ends the round at once."""
        self.tries += 1
        if again and not self.open and self.tries < self.max_tries:
            ceiling = min(self.max_delay, self.base_delay * 2 ** (self.tries - 1))
            self.due = now + min(self.max_delay, max(wait, self.jitter.uniform(0, ceiling)))
            return
        self.tries, self.reauthorised = 0, False
        self.failures += 1
        self.due = now + (self.breaker_pause if self.open else self.max_delay)
