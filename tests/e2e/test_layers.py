"""Layers on a real platform: merged at /opt, in order, read-only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pilotlight.testing.client import invoke, zipped

pytestmark = [pytest.mark.timeout(120)]
Deploy = Callable[..., str]

SOURCE = """
import os
import shared
import only_first

def handler(event, context):
    try:
        open(shared.__file__, "a").close()
        wrote = True
    except OSError:
        wrote = False
    note = os.path.join(os.path.dirname(os.path.dirname(shared.__file__)), "note.txt")
    return [shared.TEXT, only_first.TEXT, open(note).read(), wrote, bool(shared.__cached__)]
"""


def publish(api: Any, name: str, **files: str) -> str:
    content = {path.replace("__", "/").replace("_py", ".py"): text for path, text in files.items()}
    content = {path.replace("note", "note.txt"): text for path, text in content.items()}
    answer = api.publish_layer_version(LayerName=name, Content={"ZipFile": zipped(content)})
    return str(answer["LayerVersionArn"])


def test_later_layers_stand_over_earlier_ones(api: Any, deploy: Deploy) -> None:
    first = publish(
        api,
        "e2e-first",
        python__shared_py="TEXT = 'first'",
        python__only_first_py="TEXT = 'kept'",
        note="one",
    )
    second = publish(api, "e2e-second", python__shared_py="TEXT = 'second'", note="two")
    name = deploy(SOURCE, Layers=[first, second])
    assert invoke(api, name, {})[0] == ["second", "kept", "two", False, True]
    api.publish_version(FunctionName=name)
    api.update_function_configuration(FunctionName=name, Layers=[second, first])
    api.get_waiter("function_updated_v2").wait(
        FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
    )
    assert invoke(api, name, {})[0] == ["first", "kept", "one", False, True]
    for arn in (first, second):
        layer, _, number = arn.rpartition(":")
        api.delete_layer_version(LayerName=layer, VersionNumber=int(number))
    # A published version keeps the layers that it was published with, also deleted ones.
    assert invoke(api, name, {}, Qualifier="1")[0] == ["second", "kept", "two", False, True]


def test_tools_of_a_layer_are_on_the_search_path(api: Any, deploy: Deploy) -> None:
    arn = publish(api, "e2e-tool", bin__tool="#!/bin/sh\necho from the layer\n")
    source = (
        "import os, shutil\n"
        "def handler(event, context):\n"
        "    return [os.path.basename(p) for p in os.environ['PATH'].split(':') if os.path.exists(p + '/tool')]\n"
    )
    name = deploy(source, Layers=[arn])
    assert invoke(api, name, {})[0] == ["bin"]


def test_a_function_without_layers_has_an_empty_opt(api: Any, deploy: Deploy) -> None:
    source = "import os\ndef handler(event, context):\n    return os.path.exists('/opt/python')\n"
    assert invoke(api, deploy(source), {})[0] is False
