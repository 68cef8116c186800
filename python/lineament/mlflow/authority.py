"""Which MLflow server: the tracking URI without what may differ between two users of one server."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

_DEFAULT_PORTS = {
    "http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433,
}  # fmt: skip
_NAMED = re.compile(r"\A(databricks|databricks-uc|uc)(:.*)?\Z")
_WINDOWS_DRIVE = re.compile(r"\A[A-Za-z]:[\\/]")


def authority(tracking_uri: str) -> str:
    """The tracking URI normalised: scheme and host in lower case, without credentials, default port, query
    and trailing `/`. A local folder or SQLite file becomes an absolute URI.

    What would break a header, or the text of a run, is percent-encoded: all but printable ASCII, blanks and
    `;`.

    >>> from lineament.mlflow.authority import authority
    >>> authority("HTTP://me:secret@Tracking.Example:80/")
    'http://tracking.example'
    >>> authority("https://tracking.example:8443/mlflow/")
    'https://tracking.example:8443/mlflow'
    >>> authority("sqlite:////data/mlflow.db")
    'sqlite:////data/mlflow.db'
    """
    uri = tracking_uri.strip()
    if "://" not in uri and not uri.lower().startswith("file:"):
        if _NAMED.match(uri):
            # A server that MLflow knows by a name, which no folder stands for.
            return _safe(uri)
        return _folder(uri)
    scheme, _, rest = uri.partition(":")
    scheme = scheme.lower()
    if scheme == "file":
        return _folder(unquote(urlsplit(uri).path))
    if scheme.partition("+")[0] == "sqlite":
        # Three slashes and a relative path, four and an absolute one.
        path = rest.removeprefix("//").removeprefix("/").partition("?")[0]
        path = path if _WINDOWS_DRIVE.match(path) else str(Path(path).absolute())
        return _safe(f"{scheme}:///{path}")
    parts = urlsplit(uri)
    host = (parts.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    try:
        port = parts.port
    except ValueError:
        # Not a number; the server that was meant cannot be told apart any better.
        return _safe(f"{scheme}://{parts.netloc.rpartition('@')[2].lower()}{parts.path.rstrip('/')}")
    shown = "" if port is None or port == _DEFAULT_PORTS.get(scheme.partition("+")[0]) else f":{port}"
    return _safe(f"{scheme}://{host}{shown}{parts.path.rstrip('/')}")


def _folder(path: str) -> str:
    if _WINDOWS_DRIVE.match(path):
        return _safe("file:///" + path.replace("\\", "/").rstrip("/"))
    return _safe("file://" + (str(Path(path).absolute()).rstrip("/") or "/"))


def _safe(uri: str) -> str:
    return quote(uri, safe="!#$%&'()*+,/:=?@[]~-._")
