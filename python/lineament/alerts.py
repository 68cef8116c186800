"""For receivers of alerts: whether a message came from whoever has the key, lately and unaltered. See docs/alerts.md.

>>> import hashlib, hmac, json
>>> key, body = b"0123456789abcdef", b'{"rule": "weather_fails", "summary": "..."}'
>>> header = "t=1372636800,v1=" + hmac.new(key, b"1372636800." + body, hashlib.sha256).hexdigest()
>>> verify(body, header, key, now=1372636801.0)["rule"]
'weather_fails'
>>> verify(body + b" ", header, key, now=1372636801.0)
Traceback (most recent call last):
lineament.alerts.NotSigned: the message was not signed with this key
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import Any

#: Headers of a message.
SIGNATURE = "lineament-signature"
#: The same at each attempt: a message whose alert was taken before may be answered with 200 and forgotten.
ALERT = "lineament-alert"
ATTEMPT = "lineament-attempt"


class NotSigned(Exception):
    """A message that is not to be believed."""


def verify(
    body: bytes, signature: str, key: str | bytes, *, tolerance: float = 300.0, now: float | None = None
) -> dict[str, Any]:
    """The alert in a message.

    `body`: the bytes as they came. `signature`: the header `lineament-signature`. `tolerance`: how many seconds the message may be
    old, or the sender's clock ahead. Raises `NotSigned` for a message that is altered, old or signed with another key.
    """
    parts = dict(part.strip().partition("=")[::2] for part in signature.split(","))
    try:
        sent = int(parts["t"])
    except (KeyError, ValueError):
        raise NotSigned(f"the signature is {signature!r}; it must be t=<seconds>,v1=<hexadecimal digits>") from None
    key = key.encode() if isinstance(key, str) else key
    expected = hmac.new(key, f"{sent}.".encode() + body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), parts.get("v1", "").encode()):
        raise NotSigned("the message was not signed with this key")
    now = time.time() if now is None else now
    if abs(now - sent) > tolerance:
        raise NotSigned(f"the message was signed {now - sent:.0f} s ago; at most {tolerance:.0f} s are borne")
    return json.loads(body)
