"""Errors as one line of text without secrets, for what is printed, logged and kept."""

import re

_SECRETS = (
    (r"-----BEGIN [\s\S]*?(-----END [^-]*-----|$)", "***"),
    (r"(?i)(authorization['\"]?\s*[:=]\s*['\"]?)[^\n'\"]+", r"\1***"),
    (r"(?i)\bbearer\s+[^\s'\"]+", "Bearer ***"),
    (r"(?i)((token|secret|password|key|assertion|signature)['\"]?\s*[:=]\s*['\"]?)[^\s'\"&,;})]+", r"\1***"),
    (r"://[^/\s@]+@", "://***@"),
    (r"\?[^\s'\"<>)]+", "?***"),  # the query string of an address
    (r"(ya29\.|1//|AIza|eyJ|GOCSPX-)[\w./-]+", "***"),  # how Google's tokens, keys and JWTs begin
)


def clean(error: object) -> str:
    """One line of text of an error, at most 500 characters, without tokens, passwords, headers and query strings."""
    try:
        text = str(error)[:20_000]
    except Exception:
        text = "(error without text)"
    for pattern, replacement in _SECRETS:
        text = re.sub(pattern, replacement, text)
    name = f"{type(error).__name__}: " if isinstance(error, BaseException) else ""
    return f"{name}{' '.join(text.split())}"[:500]
