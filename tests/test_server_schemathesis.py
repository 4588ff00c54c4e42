"""Requests that schemathesis makes up from /openapi.json: none of them is a fault of ours."""

import os

import pytest

pytest.importorskip("fastapi")
schemathesis = pytest.importorskip("schemathesis")
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from samlet.server.app import create_app
from samlet.server.settings import Settings
from tests.server_running import Client, fake_model, picture_bytes, running

EXAMPLES = int(os.environ.get("SAMLET_SCHEMA_EXAMPLES", "10"))
"""A route; `make hostile` takes a thousand."""

described = create_app({"nano": fake_model()}, Settings(workers=1)).openapi()
schema = schemathesis.openapi.from_dict(described)


@pytest.fixture(scope="module")
def place():
    with running({"nano": fake_model()}, Settings(workers=2)) as port:
        client = Client(port)
        yield port, client.embed(picture_bytes())
        client.close()


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_no_request_is_a_fault(case, place):
    port, name = place
    if "id" in case.path_parameters and case.method != "DELETE" and len(str(case.path_parameters["id"])) % 2:
        case.path_parameters["id"] = name  # half of them reach a picture that is there
    response = case.call(base_url=f"http://127.0.0.1:{port}", timeout=60)
    if response.status_code == 501:  # the server was started without a model that reads, and says so
        return
    case.validate_response(
        response,
        checks=[
            not_a_server_error,
            status_code_conformance,
            content_type_conformance,
            response_schema_conformance,
        ],
    )
