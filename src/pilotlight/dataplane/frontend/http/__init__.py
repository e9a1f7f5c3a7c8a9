"""HTTP listeners: one parser for the API, the invoke path and function URLs (decision D2).

The connection (`protocol`) enforces framing, Host, sizes, order and deadlines; a route answers on
the connection itself; what the route leaves goes to the ASGI application.
"""

from pilotlight.dataplane.frontend.http.gate import Gate, PendingCaller
from pilotlight.dataplane.frontend.http.invoke import InvokeRoute
from pilotlight.dataplane.frontend.http.invoke_stream import StreamingInvokeRoute
from pilotlight.dataplane.frontend.http.listener import Listener
from pilotlight.dataplane.frontend.http.server import HttpServer
from pilotlight.dataplane.frontend.http.settings import HttpSettings
from pilotlight.dataplane.frontend.http.tls import TlsFiles

__all__ = [
    "Gate",
    "HttpServer",
    "HttpSettings",
    "InvokeRoute",
    "Listener",
    "PendingCaller",
    "StreamingInvokeRoute",
    "TlsFiles",
]
