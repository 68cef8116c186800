"""What a client shows a server, and what it asks of it: a token, and the certificates that vouch for the server."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.flight as flight

from .errors import InvalidRequest, translated

_TOKEN = "LINEAMENT_TOKEN"
_ROOTS = "LINEAMENT_TLS_ROOT_CERTS"


class Access:
    """A token and root certificates. Neither is shown by `repr`."""

    __slots__ = ("_roots", "_token")

    def __init__(self, token: str | None = None, tls_root_certs: str | os.PathLike[str] | bytes | None = None) -> None:
        """What is not given is taken from `LINEAMENT_TOKEN` and `LINEAMENT_TLS_ROOT_CERTS`."""
        given = os.environ.get(_TOKEN) if token is None else token
        self._token = (given or "").strip() or None
        # What cannot travel is said here, and not with the token in it.
        if self._token is not None and not (self._token.isascii() and self._token.isprintable() and " " not in self._token):
            raise InvalidRequest("the token holds characters that no token has; give it as it was printed")
        named = (os.environ.get(_ROOTS) or None) if tls_root_certs is None else tls_root_certs
        if isinstance(named, (str, os.PathLike)):
            try:
                named = Path(named).expanduser().read_bytes()
            except OSError as error:
                raise InvalidRequest(f"the root certificates cannot be read: {error}") from None
        if named is not None and b"-----BEGIN CERTIFICATE-----" not in named:
            raise InvalidRequest("the root certificates are not PEM; give the file that vouches for the server's certificate")
        self._roots: bytes | None = named

    def open(self, url: str) -> flight.FlightClient:
        """A connection to a server."""
        encrypted = url.startswith("grpc+tls://")
        if self._token is not None and not encrypted and not _stays_here(url):
            raise InvalidRequest(
                f"{url} is not encrypted, so that others could read the token on its way; connect to grpc+tls://…"
            )
        with translated(url):
            if encrypted and self._roots is not None:
                return flight.connect(url, tls_root_certs=self._roots)
            return flight.connect(url)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """What each call carries."""
        return [] if self._token is None else [(b"authorization", f"Bearer {self._token}".encode())]

    def __repr__(self) -> str:
        return "<lineament.access.Access>"


def _stays_here(url: str) -> bool:
    """Whether calls to it do not leave this machine."""
    parts = urlsplit(url)
    if parts.scheme == "grpc+unix" or parts.hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False
