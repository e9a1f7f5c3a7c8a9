"""Staged objects with boto3's S3 client, and functions made from them."""

from __future__ import annotations

import io
import itertools
import zipfile
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum
from botocore.httpsession import URLLib3Session

from pilotlight.testing.control_plane import ControlPlane, serving

pytestmark = pytest.mark.timeout(60)

NAMES = (f"bucket-{number}" for number in itertools.count())
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def s3(plane: ControlPlane) -> Any:
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 0})
    return boto3.client("s3", config=config, **plane.client_settings())


@pytest.fixture(scope="module")
def client(plane: ControlPlane) -> Any:
    return boto3.client(
        "lambda", config=Config(retries={"max_attempts": 0}), **plane.client_settings()
    )


@pytest.fixture
def bucket(s3: Any) -> str:
    name = next(NAMES)
    s3.create_bucket(Bucket=name)
    return name


def package(text: str = "") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("app.py"), text)
    return buffer.getvalue()


def refused(code: str, call: Any, **arguments: Any) -> None:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    assert caught.value.response["Error"]["Code"] == code


def test_an_object_comes_back_as_it_went(s3: Any, bucket: str) -> None:
    named = {"Bucket": bucket, "Key": "a folder/ünïcode+key.zip"}
    body = bytes(range(256)) * 40
    put = s3.put_object(**named, Body=body, ContentType="application/zip")
    got = s3.get_object(**named)
    assert got["Body"].read() == body
    assert (got["ContentType"], got["ETag"]) == ("application/zip", put["ETag"])
    head = s3.head_object(**named)
    assert (head["ContentLength"], head["VersionId"]) == (len(body), put["VersionId"])
    part = s3.get_object(**named, Range="bytes=10-19")
    assert part["Body"].read() == body[10:20]
    assert part["ContentRange"] == f"bytes 10-19/{len(body)}"
    assert s3.get_object(**named, Range="bytes=-5")["Body"].read() == body[-5:]
    refused("InvalidRange", s3.get_object, **named, Range="bytes=99999-")
    s3.delete_object(**named)
    s3.delete_object(**named)
    refused("NoSuchKey", s3.get_object, **named)
    refused("404", s3.head_object, **named)


def test_versions_are_kept(s3: Any, bucket: str) -> None:
    named = {"Bucket": bucket, "Key": "k"}
    first = s3.put_object(**named, Body=b"1")["VersionId"]
    s3.put_object(**named, Body=b"2")
    assert s3.get_object(**named)["Body"].read() == b"2"
    assert s3.get_object(**named, VersionId=first)["Body"].read() == b"1"
    refused("NoSuchVersion", s3.get_object, **named, VersionId="none")
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"


def test_large_objects_come_in_parts(s3: Any, bucket: str, plane: ControlPlane) -> None:
    body = bytes(12 * MIB)
    transfer = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
    s3.upload_fileobj(io.BytesIO(body), bucket, "large", Config=transfer)
    head = s3.head_object(Bucket=bucket, Key="large")
    assert head["ContentLength"] == len(body)
    assert head["ETag"].endswith('-3"')
    target = io.BytesIO()
    s3.download_fileobj(bucket, "large", target, Config=transfer)
    assert target.getvalue() == body
    upload = s3.create_multipart_upload(Bucket=bucket, Key="gone")["UploadId"]
    named = {"Bucket": bucket, "Key": "gone", "UploadId": upload}
    s3.upload_part(**named, PartNumber=1, Body=b"x")
    wrong = {"Parts": [{"PartNumber": 1, "ETag": '"0"'}]}
    refused("InvalidPart", s3.complete_multipart_upload, **named, MultipartUpload=wrong)
    s3.abort_multipart_upload(**named)
    refused("NoSuchUpload", s3.abort_multipart_upload, **named)
    s3.delete_object(Bucket=bucket, Key="large")
    del plane


def test_objects_are_listed_in_pages(s3: Any, bucket: str) -> None:
    for number in range(5):
        s3.put_object(Bucket=bucket, Key=f"a/{number}", Body=b"x" * number)
    s3.put_object(Bucket=bucket, Key="b", Body=b"")
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix="a/", PaginationConfig={"PageSize": 2}
    )
    listed = [(known["Key"], known["Size"]) for page in pages for known in page["Contents"]]
    assert listed == [(f"a/{number}", number) for number in range(5)]
    assert bucket in {known["Name"] for known in s3.list_buckets()["Buckets"]}
    refused("BucketNotEmpty", s3.delete_bucket, Bucket=bucket)
    refused("BucketAlreadyOwnedByYou", s3.create_bucket, Bucket=bucket)
    refused("404", s3.head_bucket, Bucket="none-such")
    refused("NotImplemented", s3.get_bucket_acl, Bucket=bucket)


def test_functions_and_layers_are_made_from_staged_packages(
    s3: Any, client: Any, bucket: str
) -> None:
    first = s3.put_object(Bucket=bucket, Key="code.zip", Body=package("1"))["VersionId"]
    s3.put_object(Bucket=bucket, Key="code.zip", Body=package("2"))
    named = {"S3Bucket": bucket, "S3Key": "code.zip"}
    made = client.create_function(
        FunctionName="staged", Runtime="python3.12", Handler="app.handler",
        Role="arn:aws:iam::000000000000:role/any", Code=named,
    )  # fmt: skip
    client.get_waiter("function_active_v2").wait(
        FunctionName="staged", WaiterConfig={"Delay": 0.02, "MaxAttempts": 500}
    )
    old = client.update_function_code(FunctionName="staged", S3ObjectVersion=first, **named)
    assert old["CodeSha256"] != made["CodeSha256"]
    layer = client.publish_layer_version(LayerName="staged", Content=named)
    assert layer["Content"]["CodeSha256"] == made["CodeSha256"]
    with pytest.raises(ClientError, match="S3 Error Code: NoSuchKey"):
        client.publish_layer_version(
            LayerName="staged", Content={"S3Bucket": bucket, "S3Key": "none"}
        )
    client.delete_function(FunctionName="staged")


def test_a_wrong_sum_is_refused(s3: Any, bucket: str) -> None:
    refused(
        "BadDigest", s3.put_object, Bucket=bucket, Key="k", Body=b"x",
        ContentMD5="AAAAAAAAAAAAAAAAAAAAAA==",
    )  # fmt: skip
    refused("NoSuchKey", s3.get_object, Bucket=bucket, Key="k")


def chunked(plane: ControlPlane, path: str, wire: bytes) -> int:
    """PUT a body as SDKs send it over TLS; return the status."""
    settings = plane.client_settings()
    request = AWSRequest("PUT", plane.origin + path, data=wire)
    request.headers["Content-Encoding"] = "aws-chunked"
    request.context["checksum"] = {"request_algorithm": {"in": "trailer"}}
    keys = Credentials(settings["aws_access_key_id"], settings["aws_secret_access_key"])
    S3SigV4Auth(keys, "s3", settings["region_name"]).add_auth(request)
    assert request.headers["X-Amz-Content-SHA256"] == "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    return int(URLLib3Session().send(request.prepare()).status_code)


def test_chunks_with_a_trailer_are_taken_apart(plane: ControlPlane, s3: Any, bucket: str) -> None:
    body = bytes(range(256)) * 9000
    wire = AwsChunkedWrapper(
        io.BytesIO(body), checksum_cls=Crc32Checksum, checksum_name="x-amz-checksum-crc32"
    ).read()
    assert chunked(plane, f"/{bucket}/k", wire) == 200
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body
    end = wire.rindex(b"x-amz-checksum")
    for broken in (wire[:end], wire[:end] + b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n"):
        assert chunked(plane, f"/{bucket}/broken", broken) == 400
    refused("NoSuchKey", s3.get_object, Bucket=bucket, Key="broken")
