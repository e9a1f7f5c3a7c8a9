"""Answers of function URLs in pieces (``InvokeMode`` RESPONSE_STREAM).

Source: https://docs.aws.amazon.com/lambda/latest/dg/configuration-response-streaming.html
"""

from __future__ import annotations

from collections.abc import Callable

from pilotlight.dataplane.frontend.http.streams import Relay
from pilotlight.dataplane.frontend.urls.response import (
    NotAResponse,
    UrlResponse,
    map_prelude,
    map_stream,
)
from pilotlight.model.errors import PlatformError
from pilotlight.model.invocation import InvocationResult
from pilotlight_guest.frames import HTTP_TYPE, PRELUDE_END

_PRELUDE_MAX = 128 * 1024
"""More than any head that may be sent, however its characters are escaped."""

Finished = Callable[[InvocationResult | PlatformError], None]


class UrlStream(Relay):
    """One function's answer on its way to the client of a URL.

    A stream of HTTP type begins the response when its prelude is complete; any other one at once.

    Args:
        respond: sends the head of a response; its body follows.
        refuse: answers with 502, for the reason given.
        finish: answers an invocation whose function did not stream.
    """

    def __init__(
        self,
        respond: Callable[[UrlResponse, UrlStream], None],
        refuse: Callable[[NotAResponse], None],
        finish: Finished,
    ) -> None:
        super().__init__()
        self._respond = respond
        self._refuse = refuse
        self._finish = finish
        self._prelude: bytearray | None = None

    def begin(self, content_type: str) -> None:
        """The function answers with a stream of this type."""
        if content_type == HTTP_TYPE:
            self._prelude = bytearray()
        else:
            self._respond(map_stream(content_type, b""), self)

    def take(self, data: bytes) -> None:
        """A piece of the prelude or of the body."""
        if self._prelude is None:
            self.write(data)
            return
        self._prelude += data
        head, found, body = self._prelude.partition(PRELUDE_END)
        if not found and len(self._prelude) <= _PRELUDE_MAX:
            return
        self._prelude = None
        if not found:
            self._fail(NotAResponse("the prelude is too long"))
            return
        try:
            response = map_prelude(bytes(head))
        except NotAResponse as reason:
            self._fail(reason)
            return
        self._respond(response, self)
        self.write(bytes(body))

    def __call__(self, result: InvocationResult | PlatformError) -> None:
        """The invocation ended."""
        if not self.has_begun:
            self._finish(result)
        elif self._writer is not None:
            is_whole = isinstance(result, InvocationResult) and result.function_error is None
            (self._writer.finish if is_whole else self._writer.abort)()
        elif not self._is_gone:
            self._fail(NotAResponse("it ended before its prelude"))

    def _fail(self, reason: NotAResponse) -> None:
        """There is no response; what the function still sends is thrown away."""
        self.gone()
        self._refuse(reason)
