"""HTTP answers as bytes: status lines, and the heads that our own answers share."""

from __future__ import annotations

import http
import json

from pilotlight.dataplane.frontend.http.head import Refused

NO_BODY_STATUSES = frozenset({204, 304})


def _status_line(status: int) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii")


STATUS_LINES = {status: _status_line(status) for status in range(100, 600)}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Answer:
    """An answer on our own path.

    Attributes:
        status: 200 to 599.
        headers: complete header lines, each ended by CR LF; neither Date nor Content-Length nor
            Connection, which the connection adds. Whoever makes them vouches for their syntax.
        body: sent with its length; left out for HEAD, 204 and 304.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: bytes, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


def render(answer: Answer, *, date_line: bytes, is_head: bool, close: bool) -> tuple[bytes, bytes]:
    """Head and body as they go on the wire; the body is empty where HTTP forbids one."""
    ending = b"Connection: close\r\n\r\n" if close else b"\r\n"
    if answer.status in NO_BODY_STATUSES:
        return b"%b%b%b%b" % (STATUS_LINES[answer.status], date_line, answer.headers, ending), b""
    head = b"%b%b%bContent-Length: %d\r\n%b" % (
        STATUS_LINES[answer.status],
        date_line,
        answer.headers,
        len(answer.body),
        ending,
    )
    return head, b"" if is_head else answer.body


def refusal(refused: Refused, request_id: str) -> Answer:
    """The answer to a request that was refused before anyone looked at what it asks."""
    body = json.dumps({"message": refused.message, "requestId": request_id}).encode()
    headers = (
        "Content-Type: application/json\r\n"
        f"x-amzn-RequestId: {request_id}\r\nx-amzn-ErrorType: {refused.code}\r\n"
    )
    return Answer(refused.status, headers.encode("ascii"), body)
