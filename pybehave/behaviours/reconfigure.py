"""Put a new specification in the place of a running supervisor's: nothing starts, nothing stops.

The new flags hold from now on. A child whose id is in both keeps running; its new specification
holds from its next start. One that is only in the new list is there, stopped (restart_child starts
it); one that is only in the old list keeps its specification, behind the new ones. The children of
a simple_one_for_one keep their arguments and get the new template.

What was charged stays charged, as far as the new intensity counts it.

Does not know: who asks, and when; what happens at the next start.
Source: OTP stdlib, supervisor, `code_change/3`, `update_childspec/2`; otp.md 1.10.
"""

from __future__ import annotations

from collections.abc import Callable

from pybehave.behaviours.plan import Child, SupervisorState
from pybehave.behaviours.rules import refused
from pybehave.behaviours.supervisor import ChildSpec, Supervisor, check_significant

MakeChild = Callable[[str, ChildSpec], Child]


def reconfigure(
    state: SupervisorState, path: str, spec: Supervisor, make_child: MakeChild
) -> list[str]:
    """Change a supervisor's specification.

    Args:
        state: The supervisor.
        path: Its path, for errors.
        spec: The new flags and children.
        make_child: Makes an entry for a child that is new in the list.

    Returns:
        The ids that are new, and stopped.

    Raises:
        SpecError: The new flags do not go with a child that stays; nothing has changed.
    """
    if spec.is_simple != state.is_simple:
        raise refused(
            f"Supervisor {path!r}", "strategy", spec.strategy, f"what suits {state.spec.strategy!r}"
        )
    if not spec.is_simple:
        return _reconfigure_static(state, path, spec, make_child)
    state.spec = spec
    state.budget.adopt(spec)
    for child in state.children.values():
        child.adopt(spec.children[0])
    return []


def _reconfigure_static(
    state: SupervisorState, path: str, spec: Supervisor, make_child: MakeChild
) -> list[str]:
    listed = dict(zip(spec.child_ids, spec.children, strict=True))
    left = {key: child for key, child in state.children.items() if key not in listed}
    for key, child in left.items():
        check_significant(f"Supervisor {path!r}", spec.auto_shutdown, key, child.spec)
    for key, child_spec in listed.items():
        if key in state.children and type(child_spec) is not type(state.children[key].spec):
            allowed = f"a {type(state.children[key].spec).__name__}, which it is now"
            raise refused(f"Supervisor {path!r} child {key!r}", "spec", child_spec, allowed)
    added = [key for key in listed if key not in state.children]
    children: dict[str, Child] = {}
    for key, child_spec in listed.items():
        known = state.children.get(key)
        if known is None:
            children[key] = make_child(key, child_spec)
        else:
            children[key] = known
            known.adopt(child_spec)
    state.children = {**children, **left}
    state.spec = spec
    state.budget.adopt(spec)
    return added
