"""Methods and paths find their operation."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilotlight.wire.lambda_api import allowed_methods, route
from pilotlight.wire.lambda_model.operations import OPERATIONS

UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_template_of_the_model_leads_to_its_operation(name: str) -> None:
    method, uri, *_ = OPERATIONS[name]
    path, _, query = uri.partition("?")
    found = route(method, path.replace("{", "some-").replace("}", ""), query)
    assert found is not None
    assert found.operation == name
    assert all(value == f"some-{label}" for label, value in found.labels.items())


def test_labels_are_decoded_after_the_path_was_split() -> None:
    found = route("GET", "/2015-03-31/functions/arn%3Aaws%3A%C3%BC%2Fx/aliases/a%20b")
    assert found is not None
    assert found.operation == "GetAlias"
    assert dict(found.labels) == {"FunctionName": "arn:aws:ü/x", "Name": "a b"}


def test_a_fixed_query_tells_neighbours_apart() -> None:
    def operation(path: str, query: str) -> str | None:
        found = route("GET", path, query)
        return found.operation if found else None

    layers = "/2018-10-31/layers"
    assert operation(layers, "find=LayerVersion&Arn=x") == "GetLayerVersionByArn"
    assert operation(layers, "MaxItems=3") == "ListLayers"
    provisioned = "/2019-09-30/functions/f/provisioned-concurrency"
    assert operation(provisioned, "List=ALL") == "ListProvisionedConcurrencyConfigs"
    assert operation(provisioned, "Qualifier=1") == "GetProvisionedConcurrencyConfig"


def test_a_last_slash_of_older_models_is_accepted() -> None:
    found = route("GET", "/2015-03-31/functions/")
    assert found is not None
    assert found.operation == "ListFunctions"


def test_a_wrong_method_is_told_from_a_wrong_path() -> None:
    assert route("PATCH", "/2015-03-31/functions/f") is None
    assert allowed_methods("/2015-03-31/functions/f") == ("DELETE", "GET")
    assert route("GET", "/2015-03-31/nothing") is None
    assert allowed_methods("/2015-03-31/nothing") == ()


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "//",
        "2015-03-31/functions",
        "/2015-03-31/functions//configuration",
        "/2015-03-31/functions/f/configuration/x",
        "/2015-03-31/functions/f/g/configuration",
        "/2015-03-31%2Ffunctions",
    ],
)
def test_near_misses_are_no_operation(path: str) -> None:
    assert route("GET", path) is None


@UNTIMED
@given(st.sampled_from(["GET", "POST", "PUT", "DELETE", "é"]), st.text(), st.text())
def test_no_path_or_query_crashes(method: str, path: str, query: str) -> None:
    route(method, path, query)
    route(method, "/2015-03-31/functions/" + path, query)
    route(method, "/2018-10-31/layers", query)
    allowed_methods(path)
