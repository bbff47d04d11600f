"""The messages of the services as types of the second protobuf library."""

from __future__ import annotations

import json
from random import Random

import pytest
from google.protobuf.json_format import MessageToDict, SerializeToJsonError
from google.protobuf.message_factory import GetMessageClass
from tests.fuzz.material import Material
from tests.fuzz.messages import draw_message

from dalsegno.gateway.contract import SERVICES, type_of, types
from dalsegno.gateway.messages import written
from dalsegno.v1.engine_service_pb2 import SubmitRequest

METHODS = {f"{method.containing_service.name}/{method.name}": method for each in SERVICES for method in each.methods}


@pytest.mark.parametrize("name", METHODS)
async def test_answers_are_the_same_json_in_both_libraries(name: str) -> None:
    """Answers with odd characters, numbers, times, enums, maps and nested messages."""
    descriptor = METHODS[name].output_type
    kind = GetMessageClass(descriptor)
    compared = 0
    for number in range(40):
        message = draw_message(Material(Random(f"{name} {number}"), number), descriptor)
        try:
            expected = MessageToDict(message)
        except (ValueError, SerializeToJsonError):  # a time that JSON does not have
            with pytest.raises(ValueError, match=r"timestamp|duration"):
                await written(message.SerializeToString(), kind, as_json=True, may_gzip=False)
            continue
        told = json.loads(await written(message.SerializeToString(), kind, as_json=True, may_gzip=False))
        assert json.dumps(told, sort_keys=True) == json.dumps(expected, sort_keys=True)
        compared += 1
    assert compared >= 10


def test_a_type_has_the_name_of_its_message() -> None:
    """Each message of a service has a type of the same name; one of another service is refused."""
    for method in METHODS.values():
        assert type_of(method.output_type.full_name).desc().type_name == method.output_type.full_name
    with pytest.raises(ValueError, match="no service has a message"):
        type_of(SubmitRequest.DESCRIPTOR.full_name)


def test_fields_have_the_same_names_in_json() -> None:
    """Also in messages within messages: a name that is missing is written as an empty one."""
    for method in METHODS.values():
        for descriptor in (method.input_type, method.output_type):
            known = types().message(descriptor.full_name)
            assert known is not None
            assert [each.json_name for each in known.fields] == [each.json_name for each in descriptor.fields]
