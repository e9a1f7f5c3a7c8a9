"""Bearer tokens of a real issuer: an HTTP server with real keys."""

from __future__ import annotations

import base64
import http.client
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from cryptography.hazmat.primitives import serialization
from joserfc import jwk, jwt

from pilotlight.control.gateway import Issuer, TokenGate, TokenRules, fetch_over_http, read_rule
from pilotlight.control.gateway.issuers import IssuerSettings, is_safe_url
from pilotlight.kernel.system import SystemClock
from pilotlight.model.ids import AccountId
from pilotlight.testing.control_plane import ACCOUNT, ControlPlane, serving

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning"),
]
AUDIENCE = "pilotlight"
FUNCTIONS = "/2015-03-31/functions"


class LocalIssuer:
    """Discovery and keys on a loopback port, and tokens signed with them."""

    def __init__(self) -> None:
        self.keys: list[Any] = [jwk.RSAKey.generate_key(2048, {"kid": "one"})]
        self.asked: list[str] = []
        self.is_away = False
        self.discovery: dict[str, Any] = {}
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/realm"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(request.path)
        if self.is_away:
            request.send_error(503)
            return
        if request.path == "/realm/.well-known/openid-configuration":
            document: Any = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"} | self.discovery
        else:
            public = [key.as_dict(private=False) for key in self.keys]
            document = {"keys": public}
        body = json.dumps(document).encode()
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(SystemClock().wall())
        claims = {
            "iss": self.url, "aud": AUDIENCE, "sub": "repo:acme/app:main", "exp": now + 300,
            "iat": now, "nbf": now, "groups": ["dev", "ops"],
        } | changes  # fmt: skip
        return {name: value for name, value in claims.items() if value is not None}

    def token(
        self,
        key: Any = None,
        alg: str = "RS256",
        header: dict[str, Any] | None = None,
        **changes: Any,
    ) -> str:
        key = key or self.keys[0]
        head = {"alg": alg, "kid": key.kid} | (header or {})
        return jwt.encode(head, self.claims(**changes), key, algorithms=[alg])


@pytest.fixture
def issuer() -> Iterator[LocalIssuer]:
    running = LocalIssuer()
    yield running
    running.close()


class Time:
    """The system's clock, moved by the test."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self._clock = SystemClock()

    def monotonic(self) -> float:
        return self._clock.monotonic() + self.ahead_s

    def wall(self) -> float:
        return self._clock.wall()


class Guarded:
    def __init__(
        self, issuer: LocalIssuer, *allow: str, settings: IssuerSettings | None = None
    ) -> None:
        self.time = Time()
        rules = TokenRules(
            AUDIENCE, tuple(read_rule(rule) for rule in allow or ("sub=repo:acme/*",))
        )
        trusted = Issuer(
            issuer.url, fetch=fetch_over_http(2.0), clock=self.time,
            settings=settings or IssuerSettings(retry_s=0.0, timeout_s=2.0),
        )  # fmt: skip
        self.gate = TokenGate(
            [trusted], rules, account=AccountId(ACCOUNT), region="us-east-1", clock=self.time
        )

    def make(self) -> ControlPlane:
        plane = ControlPlane()
        plane.with_gateway(tokens=self.gate)
        return plane


def ask(
    plane: ControlPlane, token: str, target: str = "/api/v1/status", method: str = "GET"
) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", plane.port, timeout=20)
    try:
        connection.request(method, target, headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers.get("x-amzn-errortype", "")
    finally:
        connection.close()


REFUSED = (403, "UnrecognizedClientException")


def test_a_good_token_opens_the_native_api_and_the_control_plane(issuer: LocalIssuer) -> None:
    with serving(Guarded(issuer).make) as plane:
        token = issuer.token()
        assert ask(plane, token) == (200, "")
        assert ask(plane, token, FUNCTIONS) == (200, "")
        assert ask(plane, token, f"{FUNCTIONS}/absent") == (404, "ResourceNotFoundException")
    assert issuer.asked == ["/realm/.well-known/openid-configuration", "/realm/keys"]


@pytest.mark.parametrize("alg", ["ES256", "EdDSA"])
def test_the_other_algorithms_are_believed_too(issuer: LocalIssuer, alg: str) -> None:
    kinds: dict[str, Any] = {
        "ES256": lambda: jwk.ECKey.generate_key("P-256", {"kid": "e"}),
        "EdDSA": lambda: jwk.OKPKey.generate_key("Ed25519", {"kid": "o"}),
    }
    issuer.keys.append(kinds[alg]())
    with serving(Guarded(issuer).make) as plane:
        assert ask(plane, issuer.token(issuer.keys[-1], alg)) == (200, "")


NOW = int(SystemClock().wall())
BAD: dict[str, tuple[dict[str, Any], tuple[int, str]]] = {
    "expired": ({"exp": NOW - 120}, (403, "ExpiredTokenException")),
    "no expiry": ({"exp": None}, REFUSED),
    "expiry that is no number": ({"exp": "tomorrow"}, REFUSED),
    "not yet good": ({"nbf": NOW + 3600}, REFUSED),
    "issued in the future": ({"iat": NOW + 3600}, REFUSED),
    "no time of issue": ({"iat": None}, REFUSED),
    "another audience": ({"aud": "somebody-else"}, REFUSED),
    "no audience": ({"aud": None}, REFUSED),
    "audiences without ours": ({"aud": ["a", "b"]}, REFUSED),
    "another issuer": ({"iss": "https://issuer.example"}, REFUSED),
    "issuer with a slash": ({"iss": "http://127.0.0.1/realm/"}, REFUSED),
    "no subject": ({"sub": None}, REFUSED),
    "subject that is no text": ({"sub": 7}, REFUSED),
    "endless subject": ({"sub": "repo:acme/" + "x" * 400}, REFUSED),
    "a subject nobody admitted": ({"sub": "repo:evil/app"}, (403, "AccessDeniedException")),
    "a subject that begins like ours": ({"sub": "x:repo:acme/a"}, (403, "AccessDeniedException")),
}


@pytest.fixture(scope="module")
def steady() -> Iterator[tuple[LocalIssuer, ControlPlane]]:
    running = LocalIssuer()
    with serving(Guarded(running).make) as plane:
        yield running, plane
    running.close()


@pytest.mark.parametrize("name", BAD)
def test_a_token_that_says_something_else_is_refused(
    steady: tuple[LocalIssuer, ControlPlane], name: str
) -> None:
    issuer, plane = steady
    changes, expected = BAD[name]
    assert ask(plane, issuer.token(**changes)) == expected


def test_one_of_several_audiences_is_enough(steady: tuple[LocalIssuer, ControlPlane]) -> None:
    issuer, plane = steady
    assert ask(plane, issuer.token(aud=["other", AUDIENCE])) == (200, "")


def unsigned(part: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def test_forged_signatures_are_refused(steady: tuple[LocalIssuer, ControlPlane]) -> None:
    issuer, plane = steady
    good = issuer.token()
    head, claims, signature = good.split(".")
    public = issuer.keys[0].public_key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    confused = jwk.OctKey.import_key(base64.urlsafe_b64encode(public).decode())
    other = jwk.RSAKey.generate_key(2048, {"kid": "one"})
    bits = jwk.RSAKey.generate_key(2048, {"kid": "mine"})
    forged = {
        "nothing signed": f"{unsigned({'alg': 'none'})}.{claims}.",
        "none with our kid": f"{unsigned({'alg': 'none', 'kid': 'one'})}.{claims}.{signature}",
        "none in capitals": f"{unsigned({'alg': 'NONE', 'kid': 'one'})}.{claims}.",
        "the public key as a secret": jwt.encode(
            {"alg": "HS256", "kid": "one"}, issuer.claims(), confused, algorithms=["HS256"]
        ),
        "another key under our name": issuer.token(other),
        "a key that is not published": issuer.token(bits),
        "a key of its own in the header": issuer.token(
            bits, header={"kid": "one", "jwk": bits.as_dict(private=False)}
        ),
        "an algorithm that is not ours": jwt.encode(
            {"alg": "RS512", "kid": "one"}, issuer.claims(), issuer.keys[0], algorithms=["RS512"]
        ),
        "another algorithm in the header": f"{unsigned({'alg': 'ES256', 'kid': 'one'})}.{claims}.{signature}",
        "another claim": f"{head}.{unsigned(issuer.claims(sub='repo:acme/root'))}.{signature}",
        "no signature": f"{head}.{claims}.",
        "a bent signature": good[:-4] + ("AAAA" if good[-4:] != "AAAA" else "BBBB"),
        "a kid that is no text": issuer.token(header={"kid": "../../etc/passwd"}),
        "critical extension": f"{unsigned({'alg': 'RS256', 'kid': 'one', 'crit': ['x'], 'x': 1})}.{claims}.{signature}",
        "five parts": f"{good}.a.b",
        "no parts": "abc",
        "empty parts": "..",
        "claims that are no object": f"{head}.{unsigned([])}.{signature}",  # type: ignore[arg-type]  # hostile
        "deep": f"{head}.{base64.urlsafe_b64encode(b'[' * 9000).decode()}.{signature}",
        "endless": "a" * 20_000,
    }  # fmt: skip
    for name, token in forged.items():
        assert ask(plane, token) == REFUSED, name
    assert ask(plane, good) == (200, "")


def test_keys_rotate_without_a_restart(issuer: LocalIssuer) -> None:
    with serving(Guarded(issuer).make) as plane:
        old = issuer.token()
        assert ask(plane, old) == (200, "")
        issuer.keys[:] = [jwk.RSAKey.generate_key(2048, {"kid": "two"})]
        assert ask(plane, issuer.token()) == (200, "")
        assert ask(plane, old) == REFUSED


def test_unknown_keys_do_not_make_us_ask_the_issuer_again_and_again(issuer: LocalIssuer) -> None:
    guarded = Guarded(issuer, settings=IssuerSettings(retry_s=1000.0, timeout_s=2.0))
    with serving(guarded.make) as plane:
        assert ask(plane, issuer.token()) == (200, "")
        stranger = jwk.RSAKey.generate_key(2048, {"kid": "stranger"})
        for _ in range(5):
            assert ask(plane, issuer.token(stranger)) == REFUSED
        assert len(issuer.asked) == 2
        guarded.time.ahead_s = 1001.0
        assert ask(plane, issuer.token(stranger)) == REFUSED
        assert len(issuer.asked) == 4


def test_while_the_issuer_is_away_its_last_keys_are_good_for_an_hour(issuer: LocalIssuer) -> None:
    guarded = Guarded(issuer)
    with serving(guarded.make) as plane:
        assert ask(plane, issuer.token()) == (200, "")
        issuer.is_away = True
        guarded.time.ahead_s = 3500.0
        assert ask(plane, issuer.token()) == (200, "")
        guarded.time.ahead_s = 3700.0
        assert ask(plane, issuer.token()) == (503, "ServiceUnavailableException")
        issuer.is_away = False
        assert ask(plane, issuer.token()) == (200, "")


def test_an_issuer_that_was_never_there_is_503_and_signatures_go_on(issuer: LocalIssuer) -> None:
    issuer.is_away = True
    with serving(Guarded(issuer).make) as plane:
        assert ask(plane, issuer.token()) == (503, "ServiceUnavailableException")
        boto3.client("lambda", **plane.client_settings()).list_functions()


@pytest.mark.parametrize(
    "discovery",
    [
        {"issuer": "http://127.0.0.1/other"},
        {"jwks_uri": "http://issuer.example/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": 7},
    ],
)
def test_a_discovery_that_is_not_the_issuers_gives_no_keys(
    issuer: LocalIssuer, discovery: dict[str, Any]
) -> None:
    issuer.discovery = discovery
    with serving(Guarded(issuer).make) as plane:
        assert ask(plane, issuer.token()) == (503, "ServiceUnavailableException")


def test_secrets_and_weak_keys_among_the_published_ones_are_not_used(issuer: LocalIssuer) -> None:
    weak = jwk.RSAKey.generate_key(1024, {"kid": "weak"})
    encrypting = jwk.RSAKey.generate_key(2048, {"kid": "enc", "use": "enc"})
    issuer.keys += [weak, encrypting]
    with serving(Guarded(issuer).make) as plane:
        assert ask(plane, issuer.token(weak)) == REFUSED
        assert ask(plane, issuer.token()) == (200, "")


def test_rules_join_claims_and_look_into_lists(issuer: LocalIssuer) -> None:
    guarded = Guarded(issuer, "groups=ops&sub=repo:acme/*", "email=*@acme.example")
    with serving(guarded.make) as plane:
        assert ask(plane, issuer.token()) == (200, "")
        assert ask(plane, issuer.token(groups=["dev"]))[1] == "AccessDeniedException"
        assert ask(plane, issuer.token(groups=[], email="me@acme.example")) == (200, "")
        assert ask(plane, issuer.token(sub="x"))[1] == "AccessDeniedException"


def test_two_authorizations_are_not_chosen_between(issuer: LocalIssuer) -> None:
    with serving(Guarded(issuer).make) as plane:
        connection = http.client.HTTPConnection("127.0.0.1", plane.port, timeout=20)
        connection.putrequest("GET", "/api/v1/status")
        for token in (issuer.token(), "x.y.z"):
            connection.putheader("Authorization", f"Bearer {token}")
        connection.endheaders()
        assert connection.getresponse().status == 403
        connection.close()


def test_without_issuers_a_token_is_no_authorization(issuer: LocalIssuer) -> None:
    with serving() as plane:
        assert ask(plane, issuer.token()) == (403, "IncompleteSignatureException")
    assert issuer.asked == []


@pytest.mark.parametrize(
    ("url", "is_safe"),
    [
        ("https://issuer.example/x", True), ("http://localhost:1/x", True), ("http://[::1]/", True),
        ("http://issuer.example", False), ("http://localhost.evil.example", False),
        ("ftp://localhost", False), ("file:///etc/passwd", False), ("https://", False), ("", False),
        ("http://localhost@evil.example/", False), ("http://[", False),
    ],
)  # fmt: skip
def test_keys_come_over_https_or_from_this_machine(url: str, is_safe: bool) -> None:  # noqa: FBT001
    assert is_safe_url(url) is is_safe
