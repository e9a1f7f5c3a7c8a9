"""API Gateway: authentication, limits and routes of the listener's ASGI application."""

from pilotlight.control.gateway.app import GatewayParts, create_app
from pilotlight.control.gateway.auth import PendingCaller, RootCredentials, StaticAuthenticator
from pilotlight.control.gateway.links import CodeLinks

__all__ = [
    "CodeLinks",
    "GatewayParts",
    "PendingCaller",
    "RootCredentials",
    "StaticAuthenticator",
    "create_app",
]
