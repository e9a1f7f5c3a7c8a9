"""The main job on real input: functions built from packages that people really deploy."""

from __future__ import annotations

import base64
import importlib.metadata
import io
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pilotlight.testing.client import invoke, zipped_folder

Deploy = Callable[..., str]

pytestmark = pytest.mark.timeout(180)

POWERTOOLS = """
from aws_lambda_powertools import Logger, Tracer
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError

logger = Logger(service="orders")
tracer = Tracer(service="orders", disabled=True)
app = APIGatewayHttpResolver()
ORDERS = {"7": {"id": "7", "item": "candle"}}

@app.get("/orders/<order_id>")
@tracer.capture_method
def one(order_id: str):
    logger.info("looking up", order_id=order_id)
    if order_id not in ORDERS:
        raise NotFoundError(f"no order {order_id}")
    return ORDERS[order_id]

@app.post("/orders")
def create():
    return {"received": app.current_event.json_body}, 201

@logger.inject_lambda_context
@tracer.capture_lambda_handler
def handler(event, context):
    return app.resolve(event, context)
"""

THUMBNAIL = """
import base64, io
from PIL import Image, ImageOps

def handler(event, context):
    image = Image.open(io.BytesIO(base64.b64decode(event["image"])))
    image = ImageOps.exif_transpose(image)
    image.thumbnail((event["edge"], event["edge"]))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return {"size": image.size, "image": base64.b64encode(out.getvalue()).decode()}
"""

FASTAPI = """
from fastapi import FastAPI, HTTPException
from mangum import Mangum
from pydantic import BaseModel

app = FastAPI()

class Item(BaseModel):
    name: str
    price: float

@app.get("/items/{item_id}")
def read(item_id: int, q: str | None = None):
    if item_id > 100:
        raise HTTPException(404, "no such item")
    return {"item_id": item_id, "q": q}

@app.post("/items", status_code=201)
def create(item: Item):
    return {"total": item.price * 2, "name": item.name}

handler = Mangum(app, lifespan="off")
"""


def closure(names: list[str]) -> list[importlib.metadata.Distribution]:
    """Installed distributions with all they require."""
    found: dict[str, importlib.metadata.Distribution] = {}
    todo = list(names)
    while todo:
        name = todo.pop().lower().replace("_", "-")
        if name in found:
            continue
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # a requirement of another platform or of an extra
        todo += [
            re.split(r"[\s;<>=!~\[(]", requirement, maxsplit=1)[0]
            for requirement in found[name].requires or ()
            if "extra ==" not in requirement
        ]
    return list(found.values())


def build(folder: Path, source: str, *packages: str) -> bytes:
    """A deployment package: the module and the packages as pip would put them beside it."""
    folder.mkdir()
    (folder / "app.py").write_text(source)
    for distribution in closure(list(packages)):
        for file in distribution.files or ():
            place = Path(str(file))
            if ".." in place.parts or "__pycache__" in place.parts:
                continue
            target = folder / place
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(str(distribution.locate_file(file)), target)
    return zipped_folder(folder)


def http_event(method: str, path: str, body: Any = None, query: str = "") -> dict[str, Any]:
    """An API Gateway v2 (payload format 2.0) event, as the gateway documents it."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {"host": "example.test", "content-type": "application/json"},
        "queryStringParameters": dict(p.split("=") for p in query.split("&")) if query else {},
        "requestContext": {
            "accountId": "000000000000", "apiId": "api", "domainName": "example.test",
            "domainPrefix": "example", "requestId": "r", "routeKey": "$default", "stage": "$default",
            "time": "01/Jan/2026:00:00:00 +0000", "timeEpoch": 1767225600000,
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1",
                     "sourceIp": "127.0.0.1", "userAgent": "test"},
        },
        "body": None if body is None else json.dumps(body),
        "isBase64Encoded": False,
    }  # fmt: skip


def test_powertools_logger_tracer_and_event_handler(
    api: Any, deploy: Deploy, tmp_path: Path
) -> None:
    package = build(tmp_path / "powertools", POWERTOOLS, "aws-lambda-powertools", "aws-xray-sdk")
    name = deploy(package, MemorySize=512, Timeout=30)
    answer, raw = invoke(api, name, http_event("GET", "/orders/7"), LogType="Tail")
    assert answer["statusCode"] == 200, answer
    assert json.loads(answer["body"]) == {"id": "7", "item": "candle"}
    lines = base64.b64decode(raw["LogResult"]).decode().splitlines()
    logged = next(json.loads(line) for line in lines if "looking up" in line)
    assert logged["order_id"] == "7"
    assert logged["function_name"] == name
    assert logged["function_request_id"] == raw["ResponseMetadata"]["RequestId"]
    assert logged["cold_start"] is True
    assert invoke(api, name, http_event("GET", "/orders/8"))[0]["statusCode"] == 404
    created = invoke(api, name, http_event("POST", "/orders", {"item": "wick"}))[0]
    assert created["statusCode"] == 201
    assert json.loads(created["body"]) == {"received": {"item": "wick"}}


def photograph(width: int, height: int) -> bytes:
    """A large picture with the statistics of a photograph: gradients, edges and noise."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:height, 0:width]
    red = 128 + 80 * np.sin(x / 97) + 40 * np.cos(y / 61)
    green = 100 + 90 * np.cos((x + y) / 143)
    blue = 90 + 100 * ((x // 200 + y // 150) % 2)
    picture = np.stack([red, green, blue], axis=-1) + rng.normal(0, 12, (height, width, 3))
    out = io.BytesIO()
    Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=80)
    return out.getvalue()


def test_pillow_makes_a_thumbnail_of_a_large_photograph(
    api: Any, deploy: Deploy, tmp_path: Path
) -> None:
    original = photograph(3200, 2400)
    assert 1_000_000 < len(original) < 4_400_000
    name = deploy(build(tmp_path / "pillow", THUMBNAIL, "pillow"), MemorySize=1024, Timeout=60)
    event = {"image": base64.b64encode(original).decode(), "edge": 320}
    answer, _ = invoke(api, name, event)
    assert answer["size"] == [320, 240]
    small = Image.open(io.BytesIO(base64.b64decode(answer["image"])))
    expected = Image.open(io.BytesIO(original))
    expected.thumbnail((320, 320))
    difference = np.asarray(small, float) - np.asarray(expected, float)
    assert math.sqrt(float((difference**2).mean())) < 12


def test_a_fastapi_app_behind_mangum(api: Any, deploy: Deploy, tmp_path: Path) -> None:
    package = build(tmp_path / "fastapi", FASTAPI, "fastapi", "mangum")
    name = deploy(package, MemorySize=512, Timeout=30)
    answer, _ = invoke(api, name, http_event("GET", "/items/5", query="q=wax"))
    assert answer["statusCode"] == 200, answer
    assert json.loads(answer["body"]) == {"item_id": 5, "q": "wax"}
    assert invoke(api, name, http_event("GET", "/items/500"))[0]["statusCode"] == 404
    created, _ = invoke(api, name, http_event("POST", "/items", {"name": "lamp", "price": 2.5}))
    assert created["statusCode"] == 201
    assert json.loads(created["body"]) == {"total": 5.0, "name": "lamp"}
    refused, _ = invoke(api, name, http_event("POST", "/items", {"name": "lamp"}))
    assert refused["statusCode"] == 422
