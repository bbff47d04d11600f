"""The fields of RerunExecution that say from which entry of a checkpoint an execution is forked (decision 21)."""

from __future__ import annotations

from dalsegno.engine.desk.controls import context_edit
from dalsegno.rpc.convert import Fields
from dalsegno.v1 import operation_pb2
from dalsegno.v1.execution_service_pb2 import RerunExecutionRequest
from dalsegno.workflow.events import ContextUpdated


def check_fork(fields: Fields, request: RerunExecutionRequest) -> ContextUpdated | None:
    """Check the fields that only a rerun from a checkpoint has. Return its edit. What is wrong is in the fields."""
    is_fork = request.start_from == operation_pb2.RERUN_FROM_CHECKPOINT
    target = request.WhichOneof("entry")
    only_from_checkpoint = {
        "checkpoint": target == "checkpoint",
        "checkpoint_sequence": target == "checkpoint_sequence",
        "edit": request.HasField("edit"),
        "stay": request.stay,
    }
    if not is_fork:
        for name, is_given in only_from_checkpoint.items():
            if is_given:
                fields.refuse(name, "goes with CHECKPOINT only")
        return None
    if target is None:
        fields.refuse("checkpoint", "is missing: name a checkpoint, or give the sequence number of an entry")
    elif target == "checkpoint":
        fields.name("checkpoint", request.checkpoint)
    elif request.checkpoint_sequence <= 0:
        fields.refuse("checkpoint_sequence", "must be the sequence number of an entry, which is at least 1")
    return context_edit(fields, request.edit, "edit.") if request.HasField("edit") else None
