"""The permission table: for each method the role that it needs, and how its namespace is found.

A method that is not in the table is refused. The gateway has no table of its own: its paths are these methods, or
webhooks, which are calls of CompleteAction and HeartbeatAction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from dalsegno.access.grants import Role


class Scope(Enum):
    """Where a call needs its role, and how that is found in the request."""

    NAMESPACE = auto()
    """The field `namespace`; where the request names a definition by its id, also the namespace of that."""
    EXECUTION = auto()
    """The namespace of the execution whose id the request has, alone or as the beginning of another id."""
    CALLBACK = auto()
    """As EXECUTION; a call with a task token needs no role, for that token is its permission; a call with an alias has
    the field `namespace`."""
    VALUE = auto()
    """The namespace of the resource of ReadValue."""
    FILTER = auto()
    """The filter of the request: the call gets what is in the namespaces for which its caller has the role."""
    EXECUTION_OR_FILTER = auto()
    """As EXECUTION if the request has an id, else as FILTER."""
    EVERYWHERE = auto()
    """All namespaces: the role must have the pattern `*`."""
    ANYWHERE = auto()
    """Nothing in particular: the role may have any pattern."""
    OPEN = auto()
    """The call needs no role and no token."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a method needs."""

    role: Role
    scope: Scope


def _rules(service: str, rules: Mapping[str, Rule]) -> dict[str, Rule]:
    return {f"/{service}/{method}": rule for method, rule in rules.items()}


_READ = Rule(Role.VIEWER, Scope.EXECUTION)
_OPERATE = Rule(Role.OPERATOR, Scope.EXECUTION)
_OPERATE_MANY = Rule(Role.OPERATOR, Scope.FILTER)
_LIST = Rule(Role.VIEWER, Scope.FILTER)
_WRITE_TEXT = Rule(Role.AUTHOR, Scope.NAMESPACE)
_COMPLETE = Rule(Role.OPERATOR, Scope.CALLBACK)
_ADMINISTER = Rule(Role.ADMIN, Scope.EVERYWHERE)
_INTERNAL = Rule(Role.SERVICE, Scope.EVERYWHERE)
_OPEN = Rule(Role.VIEWER, Scope.OPEN)

RULES: Mapping[str, Rule] = {
    **_rules(
        "dalsegno.v1.ExecutionService",
        {
            "StartExecution": Rule(Role.OPERATOR, Scope.NAMESPACE),
            "GetExecution": _READ,
            "ListExecutions": _LIST,
            "CountExecutions": _LIST,
            "WaitExecution": _READ,
            "WatchExecution": _READ,
            "ListTasks": _READ,
            "GetTask": _READ,
            "ListChanges": _READ,
            "ListCheckpoints": _READ,
            "ReadValue": Rule(Role.VIEWER, Scope.VALUE),
            "DeleteExecution": _OPERATE,
            "PauseExecution": _OPERATE,
            "ResumeExecution": _OPERATE,
            "CancelExecution": _OPERATE,
            "RerunExecution": _OPERATE,
            "UpdateContext": _OPERATE,
            "GoToCheckpoint": _OPERATE,
            "DiscardHistory": _OPERATE,
            "PauseExecutions": _OPERATE_MANY,
            "ResumeExecutions": _OPERATE_MANY,
            "CancelExecutions": _OPERATE_MANY,
            "RerunExecutions": _OPERATE_MANY,
            "DeleteExecutions": _OPERATE_MANY,
        },
    ),
    **_rules(
        "dalsegno.v1.ActionService",
        {
            "RunAction": Rule(Role.OPERATOR, Scope.NAMESPACE),
            "CompleteAction": _COMPLETE,
            "UpdateAction": _COMPLETE,
            "HeartbeatAction": _COMPLETE,
            "CancelAction": _OPERATE,
            "WaitAction": _READ,
            "GetActionExecution": _READ,
            "ListActionExecutions": Rule(Role.VIEWER, Scope.EXECUTION_OR_FILTER),
            "ListActions": _LIST,
            "GetAdhocAction": Rule(Role.VIEWER, Scope.NAMESPACE),
            "DeleteAdhocAction": _WRITE_TEXT,
        },
    ),
    **_rules(
        "dalsegno.v1.WorkflowService",
        {
            "CreateDefinitions": _WRITE_TEXT,
            "ValidateDefinitions": _WRITE_TEXT,
            "GetWorkflow": Rule(Role.VIEWER, Scope.NAMESPACE),
            "ListWorkflows": _LIST,
            "DeleteWorkflow": _WRITE_TEXT,
        },
    ),
    **_rules(
        "dalsegno.v1.EnvironmentService",
        {
            "PutEnvironment": _WRITE_TEXT,
            "GetEnvironment": Rule(Role.VIEWER, Scope.NAMESPACE),
            "ListEnvironments": _LIST,
            "DeleteEnvironment": _WRITE_TEXT,
        },
    ),
    **_rules(
        "dalsegno.v1.SystemService",
        {
            "GetServerInfo": Rule(Role.VIEWER, Scope.ANYWHERE),
            "ListExecutors": Rule(Role.VIEWER, Scope.EVERYWHERE),
            "ListEngines": Rule(Role.VIEWER, Scope.EVERYWHERE),
        },
    ),
    **_rules(
        "dalsegno.v1.AccessService",
        {"CreateToken": _ADMINISTER, "ListTokens": _ADMINISTER, "RevokeToken": _ADMINISTER},
    ),
    **_rules(
        "dalsegno.v1.EngineService",
        {"Submit": _INTERNAL, "SubmitMany": _INTERNAL, "Await": _INTERNAL, "Follow": _INTERNAL},
    ),
    # The engine compares the actions of the Hello with the patterns.
    "/dalsegno.v1.ExecutorService/Connect": Rule(Role.EXECUTOR, Scope.ANYWHERE),
    # Whether a server is ready, and what its methods are, is no secret.
    **_rules("grpc.health.v1.Health", {"Check": _OPEN, "List": _OPEN, "Watch": _OPEN}),
    **_rules("grpc.reflection.v1.ServerReflection", {"ServerReflectionInfo": _OPEN}),
    **_rules("grpc.reflection.v1alpha.ServerReflection", {"ServerReflectionInfo": _OPEN}),
}
"""By method, `/package.Service/Method`."""


def is_audited(method: str) -> bool:
    """Return whether each call of a method has a line in the audit log: what changes something, and what serves."""
    rule = RULES.get(method)
    return rule is not None and rule.role not in (Role.VIEWER, Role.SERVICE)
