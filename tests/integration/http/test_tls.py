"""TLS of the listeners, with real certificates and clients."""

from __future__ import annotations

import asyncio
import datetime as dt
import http.client
import shutil
import socket
import ssl
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pilotlight.dataplane.frontend.http import TlsFiles
from pilotlight.model.errors import ConfigurationError

pytestmark = pytest.mark.anyio


class Files:
    """A certificate for localhost that vouches for itself, and its key."""

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / "chain.pem"
        self.private_key = folder / "key.pem"

    def make(self, name: str, *, password: bytes | None = None) -> None:
        """Write a new pair; ``name`` is its subject."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = dt.datetime.now(dt.UTC)
        alternatives = [x509.DNSName("localhost"), x509.DNSName("127.0.0.1")]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .sign(key, hashes.SHA256())
        )
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        locked = (
            serialization.BestAvailableEncryption(password)
            if password
            else serialization.NoEncryption()
        )
        form = serialization.PrivateFormat.PKCS8
        self.private_key.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, locked))


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = Files(tmp_path)
    made.make("first")
    return made


def trusting(files: Files) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(files.certificate))


def subject(port: int, context: ssl.SSLContext, *, name: str | None = "localhost") -> str:
    """Common name of the certificate that a new connection gets."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as secure,
    ):
        shown = secure.getpeercert(binary_form=True)
    assert shown is not None
    found = x509.load_der_x509_certificate(shown).subject
    return str(found.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def anybody() -> ssl.SSLContext:
    """A client that takes any certificate, to look at it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def ask(port: int, context: ssl.SSLContext) -> tuple[int, bytes]:
    connection = http.client.HTTPSConnection("localhost", port, timeout=10, context=context)
    try:
        connection.request("GET", "/hello")
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


async def test_a_client_that_trusts_the_certificate_is_answered(kit: Any, files: Files) -> None:
    tls = TlsFiles(files.certificate, files.private_key)
    async with kit.running("api", tls=tls.context) as api:
        assert api.server.url.startswith("https://")
        port = api.server.address[1]
        status, body = await asyncio.to_thread(ask, port, trusting(files))
        assert (status, body) == (200, b"GET /hello?\n")
        stranger = ssl.create_default_context()
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.to_thread(ask, port, stranger)


async def test_boto3_invokes_over_tls(kit: Any, files: Files) -> None:
    tls = TlsFiles(files.certificate, files.private_key)
    async with kit.running("api", tls=tls.context) as api:
        client = boto3.client(
            "lambda",
            endpoint_url=f"https://localhost:{api.server.address[1]}",
            region_name="us-east-1",
            aws_access_key_id=kit.key,
            aws_secret_access_key=kit.secret,
            verify=str(files.certificate),
            config=Config(retries={"total_max_attempts": 1}),
        )
        payload = b'"' + b"x" * 3_000_000 + b'"'
        answer = await asyncio.to_thread(client.invoke, FunctionName="echo", Payload=payload)
        assert await asyncio.to_thread(answer["Payload"].read) == payload
        client.close()


async def test_new_files_are_used_for_new_connections_and_open_ones_stay(
    kit: Any, files: Files
) -> None:
    tls = TlsFiles(files.certificate, files.private_key)
    async with kit.running("api", tls=tls.context) as api:
        port = api.server.address[1]
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=trusting(files), server_hostname="localhost"
        )
        request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
        writer.write(request)
        assert (await reader.readuntil(b"/?\n")).startswith(b"HTTP/1.1 200")
        files.make("second")
        assert tls.renew()
        assert not tls.renew()
        for name in ("localhost", None):
            shown = await asyncio.to_thread(subject, port, anybody(), name=name)
            assert shown == "second"
        writer.write(request)
        assert (await reader.readuntil(b"/?\n")).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_the_watching_part_finds_new_files_by_itself_and_when_asked(
    kit: Any, files: Files
) -> None:
    for period_s, asks in ((0.02, False), (3600.0, True)):
        tls = TlsFiles(files.certificate, files.private_key, period_s=period_s)
        async with kit.running("api", tls=tls.context) as api, asyncio.TaskGroup() as group:
            port = api.server.address[1]
            watching = group.create_task(tls.run(lambda: None))
            name = f"watched-{asks}"
            files.make(name)
            if asks:
                tls.ask()
            async with asyncio.timeout(10):
                while await asyncio.to_thread(subject, port, anybody()) != name:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            watching.cancel()


@pytest.mark.parametrize("fault", ["half", "pair", "password", "gone", "empty", "folder"])
async def test_bad_new_files_keep_the_old_ones_and_say_so(
    kit: Any, files: Files, fault: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    tls = TlsFiles(files.certificate, files.private_key)
    spoil(files, fault, tmp_path)
    assert not tls.renew()
    assert "tls_not_renewed" in caplog.text
    async with kit.running("api", tls=tls.context) as api:
        port = api.server.address[1]
        assert await asyncio.to_thread(subject, port, anybody()) == "first"
        if files.private_key.is_dir():
            files.private_key.rmdir()
        files.make("good again")
        assert tls.renew()
        assert await asyncio.to_thread(subject, port, anybody()) == "good again"
    spoil(files, fault, tmp_path)
    with pytest.raises(ConfigurationError, match=r"\[tls\]|cannot be read"):
        TlsFiles(files.certificate, files.private_key)


def spoil(files: Files, fault: str, folder: Path) -> None:
    if fault == "half":
        whole = files.certificate.read_bytes()
        files.certificate.write_bytes(whole[: len(whole) // 2])
    elif fault == "pair":
        other = Files(folder / "other")
        (folder / "other").mkdir(exist_ok=True)
        other.make("other")
        shutil.copy(other.certificate, files.certificate)
    elif fault == "password":
        files.make("locked", password=b"secret")
    elif fault == "gone":
        files.private_key.unlink()
    elif fault == "empty":
        files.private_key.write_bytes(b"")
    else:
        files.private_key.unlink()
        files.private_key.mkdir()


async def test_old_protocols_and_plain_http_are_refused(kit: Any, files: Files) -> None:
    tls = TlsFiles(files.certificate, files.private_key)
    async with kit.running("api", tls=tls.context) as api:
        port = api.server.address[1]
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = anybody()
            context.minimum_version = context.maximum_version = version
            assert await asyncio.to_thread(subject, port, context) == "first"
        assert tls.context.minimum_version is ssl.TLSVersion.TLSv1_2
        client = await api.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert not (await client.rest()).startswith(b"HTTP/")


async def test_http_rules_hold_over_tls_too(kit: Any, files: Files) -> None:
    tls = TlsFiles(files.certificate, files.private_key)
    async with kit.running("api", tls=tls.context) as api:
        lines = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
        for request, status in (
            (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"421"),
            (lines + b"Transfer-Encoding: chunked\r\n\r\n", b"400"),
        ):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", api.server.address[1], ssl=trusting(files), server_hostname="localhost"
            )
            writer.write(request)
            line = await reader.readline()
            assert line.split(b" ")[1] == status
            writer.close()
