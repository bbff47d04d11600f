"""Results of actions as plain data: Structs, dataclasses and what else msgspec knows to write as JSON."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import uuid

import msgspec

_KNOWN = (msgspec.Struct, enum.Enum, uuid.UUID, datetime.datetime, datetime.date, datetime.time)


def plain(data: object) -> object:
    """Return the data with objects in place of Structs and dataclasses, and text or numbers for times, UUIDs and enums.

    Everything else stays as it is, also what is not JSON: who encodes the data refuses it, with its place.
    """
    if isinstance(data, dict):
        return {plain(key) if isinstance(key, enum.Enum) else key: plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [plain(each) for each in data]
    if isinstance(data, type):
        return data
    if isinstance(data, _KNOWN) or dataclasses.is_dataclass(data):
        return msgspec.to_builtins(data)
    return data
