"""``pilotlight deploy TEMPLATE``: a stack as its user sees it, made, changed and removed."""

from __future__ import annotations

import http.client
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pilotlight.testing.client import invoke
from pilotlight.testing.platform import eventually

pytestmark = [pytest.mark.timeout(240)]
Cli = Callable[..., Any]

TEMPLATE = """
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Parameters:
  Stage: {Type: String, Default: dev, AllowedValues: [dev, prod]}
  QueueArn: {Type: String, Default: "arn:aws:sqs:us-east-1:000000000000:orders"}
Conditions:
  IsProd: !Equals [!Ref Stage, prod]
Globals:
  Function:
    Runtime: python3.11
    Timeout: 10
    Layers: [!Ref Shared]
    Environment:
      Variables: {STAGE: !Sub "${Stage}-${AWS::Region}"}
Resources:
  Shared:
    Type: AWS::Serverless::LayerVersion
    Properties: {ContentUri: layer, CompatibleRuntimes: [python3.11]}
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: templated-worker
      CodeUri: src
      Handler: app.handler
      AutoPublishAlias: live
      MemorySize: !If [IsProd, 512, 256]
      Events:
        Queue: {Type: SQS, Properties: {Queue: !Ref QueueArn, BatchSize: 5}}
      EventInvokeConfig: {MaximumRetryAttempts: 1}
  Web:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: src
      Handler: app.web
      FunctionUrlConfig: {AuthType: NONE}
  OnlyProd:
    Type: AWS::Serverless::Function
    Condition: IsProd
    Properties: {FunctionName: templated-prod, CodeUri: src, Handler: app.handler}
Outputs:
  Worker: {Value: !Ref WorkerAliaslive}
  Url: {Value: !GetAtt WebUrl.FunctionUrl}
"""
SOURCE = """
import os, shared
def handler(event, context):
    return [shared.WHO, os.environ["STAGE"], context.function_version, GENERATION]
def web(event, context):
    return {"statusCode": 200, "body": "web " + shared.WHO}
GENERATION = 1
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    (folder / "src").mkdir(parents=True)
    (folder / "layer/python").mkdir(parents=True)
    (folder / "src/app.py").write_text(SOURCE)
    (folder / "layer/python/shared.py").write_text("WHO = 'layer'\n")
    (folder / "template.yaml").write_text(TEMPLATE)
    return folder


def deploy(cli: Cli, project: Path, *arguments: str) -> dict[str, str]:
    done = cli("deploy", str(project / "template.yaml"), "--json", *arguments)
    assert done.returncode == 0, done.stderr
    outputs: dict[str, str] = json.loads(done.stdout)
    return outputs


def body_of(url: str) -> bytes:
    where = urlsplit(url)
    connection = http.client.HTTPConnection("127.0.0.1", where.port, timeout=20)
    try:
        connection.request("GET", "/", headers={"Host": where.netloc})
        return connection.getresponse().read()
    finally:
        connection.close()


def functions(api: Any) -> set[str]:
    pages = api.get_paginator("list_functions").paginate()
    return {known["FunctionName"] for page in pages for known in page["Functions"]}


def test_a_sam_template_is_deployed_changed_and_removed(cli: Cli, api: Any, project: Path) -> None:
    before = functions(api)
    outputs = deploy(cli, project)
    assert invoke(api, outputs["Worker"], {})[0] == ["layer", "dev-us-east-1", "1", 1]
    assert body_of(outputs["Url"]) == b"web layer"
    shown = api.get_function_configuration(FunctionName="templated-worker")
    assert shown["MemorySize"] == 256
    (mapping,) = api.list_event_source_mappings(FunctionName=outputs["Worker"])[
        "EventSourceMappings"
    ]
    assert (mapping["BatchSize"], mapping["FunctionArn"]) == (5, outputs["Worker"])
    config = api.get_function_event_invoke_config(FunctionName="templated-worker", Qualifier="live")
    assert config["MaximumRetryAttempts"] == 1
    assert "templated-prod" not in functions(api)

    assert deploy(cli, project) == outputs  # nothing changed: nothing is done
    assert len(api.list_versions_by_function(FunctionName="templated-worker")["Versions"]) == 2

    (project / "src/app.py").write_text(SOURCE.replace("GENERATION = 1", "GENERATION = 2"))
    (project / "layer/python/shared.py").write_text("WHO = 'newer'\n")
    assert deploy(cli, project, "--parameter", "Stage=prod") == outputs
    assert invoke(api, outputs["Worker"], {})[0] == ["newer", "prod-us-east-1", "2", 2]
    assert invoke(api, "templated-worker:1", {})[0][0] == "layer"
    assert body_of(outputs["Url"]) == b"web newer"
    assert api.get_function_configuration(FunctionName="templated-worker")["MemorySize"] == 512
    assert "templated-prod" in functions(api)

    deploy(cli, project)
    assert "templated-prod" not in functions(api)
    deploy(cli, project, "--delete")
    assert functions(api) == before
    for _ in eventually(20):
        if not api.list_event_source_mappings(FunctionName=outputs["Worker"])[
            "EventSourceMappings"
        ]:
            break
    shutil.rmtree(project)


def test_an_interrupted_deployment_goes_on_where_it_stopped(
    cli: Cli, api: Any, project: Path
) -> None:
    before = functions(api)
    good = (project / "template.yaml").read_text()
    (project / "template.yaml").write_text(good.replace("app.web", "app.web\n      MemorySize: 1"))
    refused = cli("deploy", str(project / "template.yaml"))
    assert refused.returncode != 0
    assert "ValidationException" in refused.stderr
    (project / "template.yaml").write_text(good)
    outputs = deploy(cli, project)
    assert invoke(api, outputs["Worker"], {})[0][0] == "layer"
    deploy(cli, project, "--delete")
    assert functions(api) == before


def test_what_cannot_be_made_is_told_before_anything_is(cli: Cli, api: Any, project: Path) -> None:
    before = functions(api)
    text = TEMPLATE.replace("Outputs:", "  Bucket: {Type: AWS::S3::Bucket}\nOutputs:")
    (project / "template.yaml").write_text(text)
    refused = cli("deploy", str(project / "template.yaml"))
    assert refused.returncode != 0
    assert "Bucket: AWS::S3::Bucket" in refused.stderr
    assert "give their ARNs as parameters" in refused.stderr
    assert functions(api) == before


def test_secrets_are_not_written_beside_the_template(cli: Cli, project: Path) -> None:
    text = TEMPLATE.replace('"${Stage}-${AWS::Region}"', '"precious-${Stage}"')
    (project / "template.yaml").write_text(text)
    deploy(cli, project)
    written = [path.read_text() for path in (project / ".pilotlight-stacks").iterdir()]
    deploy(cli, project, "--delete")
    assert written
    assert not any("precious" in text for text in written)
