"""Whether a sheet and a Drive folder can be written, tried before training and told in one sentence; errors without secrets."""

from helpers.training import remote_errors
from helpers.workspace.redact import clean

KEY_FILE = "name the key file of a service account in GOOGLE_APPLICATION_CREDENTIALS (README, Logging to a sheet)"
NO_STORAGE = (
    "a service account owns no storage, so it can put no file into a folder of a personal Drive: keep checkpoints in a bucket "
    "(--keep gs://bucket/folder), name a folder of a shared drive, or train in Colab with USE_DRIVE"
)


class Refused(Exception):
    """Says itself what is wrong, and what to do."""


def why(error: BaseException, what: str, account: str = "") -> str:
    """What an error of Google's libraries means for whoever wants to log, and what to do; one sentence.

    Args:
        error: of gspread, googleapiclient or google.auth.
        what: "the sheet" or "the Drive folder".
        account: address of the service account that is signed in, if it is one.
    """
    kinds = {kind.__name__ for kind in type(error).__mro__}
    status, _ = remote_errors.answer(error)
    text = f"{error} {error.__cause__ or ''}".lower()
    if "Refused" in kinds:
        return str(error)
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
