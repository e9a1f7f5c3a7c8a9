"""Who is calling, and may they."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Protocol

from pilotlight.model.ids import AccountId

NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """The parts of an HTTP request that a signature covers, as received.

    Attributes:
        method: upper case.
        path: raw path, still percent-encoded, without the query.
        query: raw query string, without ``?``.
        headers: (lower-case name, value) in order, all of them.
    """

    method: bytes
    path: bytes
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Identity:
    """A user or the session of a role: somebody in an account whose policies limit what they do.

    Attributes:
        arn: as answers and policies name it, ``arn:aws:iam::…:user/…`` or
            ``arn:aws:sts::…:assumed-role/…``.
        id: unique for ever, also when a name is given anew: ``AIDA…``, or ``AROA…:SESSION``.
        policies: ARN of the user or role whose policies apply.
    """

    arn: str
    id: str
    policies: str


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller.

    Attributes:
        region: from the signature's scope; ARNs of this call take it.
        body_sha256: hex digest the body must have, or None where the client did not sign it;
            whoever reads the body compares before acting (decision D21).
        identity: None is the account itself (its root), which may do everything in it.
    """

    account: AccountId
    access_key: str
    region: str
    service: str
    body_sha256: str | None
    identity: Identity | None = None

    @property
    def arn(self) -> str:
        """As answers and policies name the caller."""
        if self.identity is not None:
            return self.identity.arn
        return f"arn:aws:iam::{self.account}:root"


class Authenticator(Protocol):
    """Checks signatures from memory; no I/O, some tens of microseconds."""

    def authenticate(self, request: SignedRequest) -> Caller:
        """Return who signed the request.

        Raises:
            ApiError: MissingAuthenticationTokenException, InvalidSignatureException,
                UnrecognizedClientException, IncompleteSignatureException with AWS's text.
        """
        ...


@dataclass(frozen=True, slots=True)
class Principal:
    """Who wants something, as policies name it.

    Attributes:
        account: of the principal; "" for a service.
        names: ARNs that mean it: of a user; of a role's session and of the role.
        service: for example ``events.amazonaws.com``; "" for anybody else.
    """

    account: str
    names: tuple[str, ...] = ()
    service: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """What is asked of policies.

    Attributes:
        action: for example ``lambda:InvokeFunction``.
        resource: its ARN, ``*`` for actions that have none.
        context: values of condition keys, the keys in lower case; an absent key is left out.
    """

    principal: Principal
    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=lambda: NOTHING)


class Verdict(StrEnum):
    """What policies say to an access.

    ``DELEGATED``: a resource's policy names the account of the principal, which leaves the answer
    to the policies of that account.
    """

    ALLOWED = "allowed"
    DELEGATED = "delegated"
    DENIED = "denied"
    SILENT = "silent"


class ResourcePolicy(Protocol):
    """The policy of one resource, ready to be asked."""

    def verdict(self, access: Access) -> Verdict:
        """What it says."""
        ...


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether an access is allowed, and if not, why: the service's sentence for its answer."""

    is_allowed: bool
    reason: str = ""


ALLOWED: Final = Decision(is_allowed=True)


class Authorizer(Protocol):
    """Decides from memory; no I/O, a few microseconds, and none for an account in itself."""

    def decide(
        self,
        caller: Caller,
        action: str,
        resource: str,
        *,
        context: Mapping[str, str] = NOTHING,
        policy: ResourcePolicy | None = None,
    ) -> Decision:
        """Whether a caller may do something.

        The resource belongs to the account in its ARN, where that names none to the caller's.

        Args:
            caller: authenticated.
            action: for example ``lambda:GetFunction``.
            resource: its ARN, or ``*``.
            context: values of condition keys that only the asker knows, keys in lower case.
            policy: of the resource, where it has one.
        """
        ...

    def decide_service(
        self,
        service: str,
        action: str,
        resource: str,
        *,
        context: Mapping[str, str] = NOTHING,
        policy: ResourcePolicy | None = None,
    ) -> Decision:
        """Whether a service (``events.amazonaws.com``) may do something: only a policy says so."""
        ...
