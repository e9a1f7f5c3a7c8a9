"""AWS Signature Version 4: verification of requests, signing of our own, presigned URLs."""

from pilotlight.wire.sigv4.canonical import EMPTY_SHA256, UNSIGNED_CHUNKS, UNSIGNED_PAYLOAD
from pilotlight.wire.sigv4.claims import claimed_service
from pilotlight.wire.sigv4.signing import SigningCredentials, presign, sign
from pilotlight.wire.sigv4.verification import Pending, SigningKeys, Verified, begin, verify

__all__ = [
    "EMPTY_SHA256",
    "UNSIGNED_CHUNKS",
    "UNSIGNED_PAYLOAD",
    "Pending",
    "SigningCredentials",
    "SigningKeys",
    "Verified",
    "begin",
    "claimed_service",
    "presign",
    "sign",
    "verify",
]
