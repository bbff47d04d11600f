"""Read one version of a workflow or of an ad-hoc action, for GetWorkflow and GetAdhocAction."""

from __future__ import annotations

from typing import Any

from dalsegno.api.reads import Reads
from dalsegno.rpc import convert
from dalsegno.store.records import DefinitionKind, DefinitionRow
from dalsegno.store.store import Queries
from dalsegno.workflow.refusals import NotFound


async def read_definition(reads: Reads, kind: DefinitionKind, request: Any) -> DefinitionRow:
    """Return the row of this kind that a request names, by its definition id, or by namespace, name and version (0: the
    newest). Raises InvalidRequest and NotFound."""
    fields = convert.Fields()
    fields.number("version", request.version)
    if request.definition_id:
        fields.uuid("definition_id", request.definition_id)
        for name in ("namespace", "name", "version"):
            if getattr(request, name):
                fields.refuse(name, "cannot be given together with a definition id: leave one of them out")
    else:
        fields.name("name", request.name)
    fields.done()

    def read(queries: Queries) -> DefinitionRow:
        if request.definition_id:
            row = queries.definition(request.definition_id)
        else:
            row = queries.find_definition(kind, request.name, request.namespace, request.version)
        if row is None or row.kind != kind:
            if request.definition_id:
                raise NotFound(convert.called_kind(kind), request.definition_id)
            raise convert.missing_definition(kind, request.name, request.version, request.namespace)
        return row

    return await reads.run(read)
