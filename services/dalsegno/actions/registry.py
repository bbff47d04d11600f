"""The registry of actions: the built-in families and those of installed packages.

A package adds actions by an entry point of the group `dalsegno.actions` that names a module, all of whose actions are
taken, or one action. In its pyproject.toml:

    [project.entry-points."dalsegno.actions"]
    example = "example_pack.actions"
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from dalsegno.actions import core, grpc, http, javascript, local, mail, ssh, std
from dalsegno.actions.action import Action, AnyAction
from dalsegno.actions.permission import is_allowed, targets_in
from dalsegno.outgoing.reach import NOWHERE, Reach
from dalsegno.workflow.model import ActionDescription

GROUP = "dalsegno.actions"
"""The group of entry points."""

_log = logging.getLogger(__name__)


class Registry:
    """Actions by name."""

    def __init__(self, actions: Iterable[AnyAction] = (), reserved: Collection[str] = ()) -> None:
        self._reserved = frozenset(reserved)
        self._actions: dict[str, AnyAction] = {}
        for each in actions:
            self.add(each)

    def add(self, action: AnyAction) -> None:
        """Add an action. Raises ValueError if its name is used, or reserved for an action that is off."""
        if action.name in self._reserved:
            raise ValueError(f"{action.name} is the name of a built-in action that is turned off")
        if self._actions.setdefault(action.name, action) is not action:
            raise ValueError(f"there are two actions named {action.name}")

    def find(self, name: str) -> AnyAction | None:
        return self._actions.get(name)

    def __iter__(self) -> Iterator[AnyAction]:
        return iter(self._actions.values())

    def __len__(self) -> int:
        return len(self._actions)


def builtin_descriptions() -> tuple[ActionDescription, ...]:
    """Return the descriptions of all built-in actions, allowed or not, for checks of a workflow's calls.

    Cheap: the libraries that actions use are imported when they first run.
    """
    return tuple(each.description for each in _builtin_actions())


def load_registry(
    plugins: Iterable[EntryPoint] | None = None,
    allowed: Collection[str] = (),
    files: grpc.Files = grpc.NO_FILES,
    reach: Reach = NOWHERE,
) -> Registry:
    """Return the built-in actions and those of the plug-ins (None: of all packages installed).

    Of the built-in ones that are off until the operator turns them on (permission.py) only the allowed are taken.
    `files` are for grpc.call; `reach` is what actions that send something may reach beside public addresses.
    A plug-in that cannot be loaded, or whose action has a name that is taken, is logged and left out.
    """
    builtin = list(_builtin_actions(targets_in(allowed), files, reach))
    off = [each.name for each in builtin if not is_allowed(each.name, allowed)]
    registry = Registry((each for each in builtin if each.name not in off), reserved=off)
    for plugin in entry_points(group=GROUP) if plugins is None else plugins:
        try:
            actions = _read_plugin(plugin)
        except (Exception, SystemExit) as error:
            _log.warning("actions of %s (%s) left out: %s: %s", plugin.name, plugin.value, type(error).__name__, error)
            continue
        for each in actions:
            try:
                registry.add(each)
            except ValueError as error:
                _log.warning("an action of %s (%s) left out: %s", plugin.name, plugin.value, error)
    return registry


def _builtin_actions(
    targets: Collection[str] = (), files: grpc.Files = grpc.NO_FILES, reach: Reach = NOWHERE
) -> Iterator[AnyAction]:
    for module in (std, ssh, javascript, core, local):
        yield from actions_of(module)
    yield from http.http_actions(reach)
    yield from mail.mail_actions(reach)
    yield from core.sending_actions(reach)
    yield grpc.call_action(targets, files, reach)


def _read_plugin(plugin: EntryPoint) -> list[AnyAction]:
    found = plugin.load()
    if isinstance(found, Action):
        return [found]
    if not isinstance(found, ModuleType):
        raise TypeError("neither an action nor a module")
    actions = list(actions_of(found))
    if not actions:
        raise TypeError("a module without actions")
    return actions


def actions_of(module: ModuleType) -> Iterator[AnyAction]:
    """Yield the actions of a module, each once."""
    # Several names may lead to one action.
    yield from {id(each): each for each in vars(module).values() if isinstance(each, Action)}.values()
