"""The page "Coming from Erlang/OTP" names all that OTP documents, and nothing that we lack.

The lists are the functions and callbacks of OTP 25's reference manual, module by module, and
`which_child/2` of OTP 28. One that has no counterpart stands on the page, too, with the reason.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from click import Context, Group

import pybehave
from pybehave import (
    EventHandler,
    GenEvent,
    GenServer,
    GenStatem,
    actions,
    errors,
    events,
    protocols,
    statem,
)
from pybehave.cli import main
from pybehave.runtime.groups import Groups
from pybehave.runtime.node import Node
from pybehave.runtime.release.releases import Releases
from pybehave.runtime.sys import Sys

PAGE = Path(__file__).parents[2] / "docs/guide/from_erlang.md"

REQUESTS = (
    "send_request/2 check_response/2,3 receive_response/2,3 wait_response/2,3 reqids_new/0 "
    "reqids_add/3 reqids_size/1 reqids_to_list/1 "
)

OTP = {
    "gen_server": REQUESTS + "send_request/4 abcast/2,3 call/2,3 cast/2 enter_loop/3,4,5 "
    "multi_call/2,3,4 reply/2 start/3,4 start_link/3,4 start_monitor/3,4 stop/1,3 init/1 "
    "handle_call/3 handle_cast/2 handle_info/2 handle_continue/2 terminate/2 code_change/3 "
    "format_status/1,2",
    "supervisor": "start_link/2,3 start_child/2 terminate_child/2 restart_child/2 delete_child/2 "
    "which_children/1 which_child/2 count_children/1 get_childspec/2 check_childspecs/1,2 "
    "get_callback_module/1 init/1",
    "pg": "start/1 start_link/0,1 join/2,3 leave/2 get_members/1,2 get_local_members/1,2 "
    "which_groups/0,1 which_local_groups/0,1 monitor/1,2 monitor_scope/0,1 demonitor/1,2",
    "gen_statem": REQUESTS + "send_request/4 receive_response/1 wait_response/1 call/2,3 cast/2 "
    "reply/1,2 enter_loop/4,5,6 start/3,4 start_link/3,4 start_monitor/3,4 stop/1,3 "
    "callback_mode/0 init/1 StateName/3 handle_event/4 terminate/3 code_change/4 "
    "format_status/1,2",
    "gen_event": REQUESTS.replace("send_request/2", "send_request/3,5") + "add_handler/3 "
    "add_sup_handler/3 call/3,4 delete_handler/3 notify/2 sync_notify/2 start/0,1,2 "
    "start_link/0,1,2 start_monitor/0,1,2 stop/1,3 swap_handler/3 swap_sup_handler/3 "
    "which_handlers/1 init/1 handle_event/2 handle_call/2 handle_info/2 terminate/2 "
    "code_change/3 format_status/1,2",
    "application": "ensure_all_started/1,2 ensure_started/1,2 start/1,2 stop/1 load/1,2 unload/1 "
    "loaded_applications/0 which_applications/0,1 get_env/1,2,3 get_all_env/0,1 set_env/1,2,3,4 "
    "unset_env/2,3 get_key/1,2 get_all_key/0,1 get_application/0,1 start_type/0 takeover/2 "
    "permit/2 start_phase/3 prep_stop/1 config_change/3",
    "release": "unpack_release/1 set_unpacked/2 set_removed/1 remove_release/1 install_file/2 "
    "create_RELEASES/4 install_release/1,2 check_install_release/1,2 make_permanent/1 "
    "reboot_old_release/1 which_releases/0,1 upgrade_app/2 downgrade_app/2,3 upgrade_script/2 "
    "downgrade_script/3 eval_appup_script/4 code_change/3",
    "sys": "get_state/1,2 replace_state/2,3 get_status/1,2 suspend/1,2 resume/1,2 change_code/4,5 "
    "trace/2,3 log/2,3 log_to_file/2,3 statistics/2,3 install/2,3 remove/2,3 no_debug/1,2 "
    "terminate/2,3 debug_options/1 handle_debug/4 handle_system_msg/6 get_debug/3 get_log/1 "
    "print_log/1",
    "proc_lib, global, and what watches": "start/3,4,5 start_link/3,4,5 start_monitor/3,4,5 "
    "init_ack/1,2 spawn/1,2,3,4 spawn_link/1,2,3,4 spawn_opt/2,3,4,5 stop/1,3 hibernate/3 "
    "initial_call/1 translate_initial_call/1 format/1,2,3 register_name/2,3 re_register_name/2,3 "
    "unregister_name/1 whereis_name/1 registered_names/0 send/2 set_lock/1,2,3 del_lock/1,2 "
    "trans/2,3,4 sync/0,1 set_alarm/1 clear_alarm/1 get_alarms/0 set_cmd/1 clear_cmd/0 get_cmd/0 "
    "set_callback/2 get_callback/0 clear_callback/0 set_options/1 get_options/0",
}

NOT_OURS = {"Class", "HealthChanged", "True", "False", "None"}
"""Words of the page that are no public names: a stand-in, a class of another module, values."""

OURS: dict[str, Any] = {
    "node": Node,
    "node.sys": Sys,
    "node.groups": Groups,
    "node.releases": Releases,
    "events": events,
    "app": pybehave.Application,
}


def functions(text: str) -> set[str]:
    """Every "name/arity" of a text in which "name/2,3" stands for two."""
    found = re.findall(r"\b(\w+)/(\d(?:,\d)*)\b", text)
    return {f"{name}/{arity}" for name, arities in found for arity in arities.split(",")}


def sections() -> dict[str, str]:
    """The page, by the titles of its sections."""
    parts = re.split(r"^## (.+)\n", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def code() -> list[str]:
    """What stands between backticks in the columns that are ours: the first is OTP's."""
    rows = re.findall(r"^\|[^|]*\|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [word for row in rows for word in re.findall(r"`([^`]+)`", row)]


@pytest.mark.parametrize("module", OTP)
def test_every_function_of_OTP_has_its_line(module: str) -> None:
    assert functions(OTP[module]) - functions(sections()[module]) == set()


def test_what_the_page_names_of_ours_is_there() -> None:
    found = re.findall(r"\b(node(?:\.(?:sys|groups|releases))?|events|app)\.(\w+)", str(code()))
    known = {*vars(OURS["node"]), "sys", "groups", "releases", "events", "app"}
    missing = [
        f"{of}.{name}"
        for of, name in found
        if not hasattr(OURS[of], name) and not (of == "node" and name in known)
    ]
    assert (missing, len(found) > 60) == ([], True)


def test_classes_and_errors_that_the_page_names_are_there() -> None:
    homes = (pybehave, actions, statem, events, errors, protocols, GenServer, GenStatem, GenEvent)
    named = [re.match(r"(?:events\.)?([A-Z]\w+[a-z]\w*)\b(?![.:])", word) for word in code()]
    words = {match[1] for match in named if match} - {
        "Class",
        "HealthChanged",
        "True",
        "False",
        "None",
    }
    missing = {word for word in words if not any(hasattr(home, word) for home in homes)}
    assert (missing, len(words) > 50) == (set(), True)


def test_callbacks_that_the_page_names_are_there() -> None:
    callbacks = ["init", "handle_event", "handle_call", "handle_info", "terminate", "code_change"]
    assert [name for name in callbacks if not hasattr(EventHandler, name)] == []
    named = {word.split("(")[0] for word in code()} & set(dir(GenServer))
    assert named >= {"terminate", "code_change", "format_status", "init"}


def test_commands_that_the_page_names_are_there() -> None:
    for words in (word.split()[1:] for word in code() if re.match(r"pybehave [a-z]", word)):
        command: Any = main
        for word in words:
            if isinstance(command, Group):
                command = command.get_command(Context(command), word)
        names = {option for each in command.params for option in each.opts}
        assert {word for word in words if word.startswith("--")} <= names
