"""GoToCheckpoint, and where an execution is to stop (decision 20): from the requests to the events of the core."""

from __future__ import annotations

from dalsegno.engine.desk.controls import Control, context_edit
from dalsegno.rpc.convert import Fields
from dalsegno.v1 import execution_service_pb2 as executions
from dalsegno.v1 import operation_pb2
from dalsegno.workflow.events import Event, GoToRequested

_DELEGATES = (operation_pb2.DELEGATES_UNSPECIFIED, operation_pb2.DELEGATES_WAIT)


def _go_to(fields: Fields, request: executions.GoToCheckpointRequest) -> Event:
    is_named = request.WhichOneof("target") == "name"
    if request.WhichOneof("target") is None:
        fields.refuse("name", "is missing: name a checkpoint, or give the sequence number of an entry")
    elif is_named:
        fields.name("name", request.name)
    elif request.sequence <= 0:
        fields.refuse("sequence", "must be the sequence number of an entry, which is at least 1")
    if request.next and not is_named:
        fields.refuse("next", "goes with a name only")
    if request.delegates not in _DELEGATES:
        fields.refuse("delegates", "a go-to waits for delegates or does not: WAIT, or not set")
    edit = context_edit(fields, request.edit, "edit.") if request.HasField("edit") else None
    return GoToRequested(
        name=request.name,
        sequence=request.sequence,
        next=request.next,
        resumes=request.then == executions.ON_ARRIVAL_RESUME,
        waits_for_delegates=request.delegates == operation_pb2.DELEGATES_WAIT,
        edit=edit,
    )


GO_TO = Control(_go_to, executions.GoToCheckpointResponse)
