"""Policies of identities and resources: the subset of IAM's language that acts here. Pure."""

from pilotlight.wire.iam.decisions import decide, decide_service, owner_of
from pilotlight.wire.iam.documents import Kind, MalformedPolicy, check, read, read_document
from pilotlight.wire.iam.policy import Policy, joined

__all__ = [
    "Kind",
    "MalformedPolicy",
    "Policy",
    "check",
    "decide",
    "decide_service",
    "joined",
    "owner_of",
    "read",
    "read_document",
]
