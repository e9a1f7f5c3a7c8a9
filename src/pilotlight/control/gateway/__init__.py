"""API Gateway: authentication, limits and routes of the listener's ASGI application."""

from pilotlight.control.gateway.app import GatewayParts, create_app
from pilotlight.control.gateway.auth import PendingCaller, RootCredentials, StaticAuthenticator
from pilotlight.control.gateway.issuers import Issuer, fetch_over_http
from pilotlight.control.gateway.links import CodeLinks
from pilotlight.control.gateway.metered import MeteredAuthenticator
from pilotlight.control.gateway.rates import CallerRates
from pilotlight.control.gateway.tokens import TokenGate, TokenRules, read_rule

__all__ = [
    "CallerRates",
    "CodeLinks",
    "GatewayParts",
    "Issuer",
    "MeteredAuthenticator",
    "PendingCaller",
    "RootCredentials",
    "StaticAuthenticator",
    "TokenGate",
    "TokenRules",
    "create_app",
    "fetch_over_http",
    "read_rule",
]
