"""Addresses of functions."""

from __future__ import annotations

from urllib.parse import quote, urlsplit


def url_path(name: str) -> str:
    """Path of a function's URL configuration in the API."""
    return f"/2021-10-31/functions/{quote(name, safe='')}/url"


def reachable(url: str) -> str:
    """An address that needs no DNS: by path for names below ``localhost``, else as it is.

    ``http://abc.lambda-url.us-east-1.localhost:9701/`` is ``http://127.0.0.1:9701/url/abc/``.
    """
    where = urlsplit(url)
    label, _, rest = (where.hostname or "").partition(".")
    if not rest.startswith("lambda-url.") or not rest.endswith(".localhost"):
        return url
    port = f":{where.port}" if where.port else ""
    return f"{where.scheme}://127.0.0.1{port}/url/{label}{where.path or '/'}"
