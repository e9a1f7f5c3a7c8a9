"""API Gateway: authentication, limits and routes of the listener's ASGI application."""

from pilotlight.control.gateway.app import GatewayParts, create_app
from pilotlight.control.gateway.auth import PendingCaller, RootCredentials, StaticAuthenticator
from pilotlight.control.gateway.links import CodeLinks
from pilotlight.control.gateway.metered import MeteredAuthenticator
from pilotlight.control.gateway.rates import CallerRates

__all__ = [
    "CallerRates",
    "CodeLinks",
    "GatewayParts",
    "MeteredAuthenticator",
    "PendingCaller",
    "RootCredentials",
    "StaticAuthenticator",
    "create_app",
]
