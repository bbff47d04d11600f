"""Read the definitions of requests without blocking the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from dalsegno.definitions.document import Document
from dalsegno.definitions.document_set import Text, compare, name_by_metadata
from dalsegno.definitions.reading import Reading, begin, is_short, read_here, unpickle
from dalsegno.expressions.pool.pool import CallFailed, Pool
from dalsegno.rpc import convert
from dalsegno.v1 import workflow_service_pb2 as wire
from dalsegno.workflow.refusals import InvalidRequest, TooLarge
from dalsegno.workflow.value import VALUE_BYTES_MAX, byte_length

DOCUMENTS_BYTES_MAX = 15_000_000
"""The maximum size of all documents of a request together."""
DOCUMENTS_MAX = 1_000
FILE_LENGTH = 4_096


def texts_of(request: wire.CreateDefinitionsRequest | wire.ValidateDefinitionsRequest) -> list[Text]:
    """Return the documents of a request: `text`, or each of `documents`. Raises InvalidRequest, TooLarge."""
    fields = convert.Fields()
    if not request.documents:
        texts = [Text(request.text, request.name, language=convert.language_name(request.language))]
        if not request.text.strip():
            fields.refuse("text", "is empty")
        fields.text("name", request.name)
    else:
        for field in ("text", "language", "name"):
            if getattr(request, field):
                fields.refuse(field, "cannot be given together with `documents`")
        if len(request.documents) > DOCUMENTS_MAX:
            fields.refuse("documents", f"are more than {DOCUMENTS_MAX:,}")
        texts = [
            Text(each.text, each.name, each.file, convert.language_name(each.language)) for each in request.documents
        ]
        _check_documents(texts, fields)
    fields.done()
    sizes = [byte_length(each.text) for each in texts]
    for text, size in zip(texts, sizes, strict=True):
        if size > VALUE_BYTES_MAX:
            raise TooLarge(text.file or "the definition", size, VALUE_BYTES_MAX)
    if sum(sizes) > DOCUMENTS_BYTES_MAX:
        raise TooLarge(f"the sum of the {len(texts)} documents", sum(sizes), DOCUMENTS_BYTES_MAX)
    return texts


def _check_documents(texts: Sequence[Text], fields: convert.Fields) -> None:
    files: set[str] = set()
    for index, each in enumerate(texts):
        place = f"documents[{index}]"
        if not each.text.strip():
            fields.refuse(f"{place}.text", "is empty")
        if not each.file or each.file in files:
            fields.refuse(f"{place}.file", "is the file of another document" if each.file else "is missing")
        files.add(each.file)
        fields.text(f"{place}.file", each.file, FILE_LENGTH)
        fields.text(f"{place}.name", each.name)


async def read_together(pool: Pool | None, texts: Sequence[Text], *, is_outline: bool = False) -> list[Document]:
    """Read texts, each in a process of the pool, or in a thread if it is short; then compare them with each other.

    Without a pool all are read in this process.
    Raises InvalidRequest if one exceeds a limit. The processes end when the caller is cancelled.
    """
    named = name_by_metadata(texts)
    reads = [asyncio.create_task(_read(pool, Reading(each.text, each.name, is_outline))) for each in named]
    try:
        documents = await asyncio.gather(*reads)
    finally:
        for each in reads:
            each.cancel()
    return compare(texts, documents, is_stored=not is_outline)


async def _read(pool: Pool | None, reading: Reading) -> Document:
    if pool is None or is_short(reading.text):
        return await asyncio.to_thread(read_here, reading)
    try:
        pickled = await asyncio.wrap_future(begin(pool, reading))
    except CallFailed as failure:
        raise InvalidRequest.of("text", str(failure)) from None
    found: Document = await asyncio.to_thread(unpickle, pickled)
    return found


def check_said(texts: Sequence[Text], documents: Sequence[Document]) -> None:
    """Raise InvalidRequest if a document has not the language or the name in the request."""
    fields = convert.Fields()
    for index, (text, document) in enumerate(zip(texts, documents, strict=True)):
        place = f"documents[{index}]." if text.file else ""
        if text.language and text.language != document.language:
            fields.refuse(f"{place}language", f"the text is written in {document.language}")
        if text.name and [each.name for each in document.members] != [text.name]:
            fields.refuse(f"{place}name", "must be empty or the name that the text gives itself")
    fields.done()
