"""Commands that RESP answers itself, and those it leaves to the server."""

import pytest

from pybehave.errors import DecodeError
from pybehave.protocols import Resp, RespClient
from pybehave.protocols.resp_clients import LISTED_MAX, NAMES_MAX
from pybehave.protocols.resp_commands import NativeCommands

ABOUT = {"id": 7, "commands": 3, "connections": 2, "accepted": 9, "uptime_s": 60}


@pytest.fixture
def ask(request_bytes):
    """Ask a fresh or given codec; the answer as our own client reads it, or the message."""

    def ask(*args, codec=None):
        codec = codec or Resp().codec()
        messages = codec.feed(request_bytes(*args))
        answers = RespClient().codec().feed(codec.take_output())
        assert len(messages) + len(answers) == 1
        return (messages + answers)[0]

    return ask


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ([b"PING"], "PONG"),
        ([b"ping"], "PONG"),
        ([b"PING", b"hello"], b"hello"),
        ([b"ECHO", b"hello"], b"hello"),
        ([b"SELECT", b"0"], "OK"),
        ([b"SELECT", b"1"], "ERR DB index is out of range"),
        ([b"SELECT", b"x"], "ERR value is not an integer or out of range"),
        ([b"CLIENT", b"ID"], 1),
        ([b"CLIENT", b"SETNAME", b"worker-1"], "OK"),
        ([b"CLIENT", b"SETINFO", b"LIB-NAME", b"redis-py"], "OK"),
        ([b"CLIENT", b"NO-EVICT", b"on"], "OK"),
        ([b"CLIENT", b"NO-TOUCH", b"OFF"], "OK"),
        ([b"CLIENT", b"REPLY", b"on"], "OK"),
        ([b"CLIENT", b"LIST", b"TYPE", b"pubsub"], b""),
        ([b"AUTH", b"default", b"anything"], "OK"),
        ([b"CONFIG", b"GET", b"save"], [b"save", b""]),
        ([b"CONFIG", b"GET", b"append*"], [b"appendonly", b"no"]),
        ([b"CONFIG", b"GET", b"unheard-of"], []),
        ([b"COMMAND"], []),
        ([b"COMMAND", b"COUNT"], 0),
        ([b"COMMAND", b"DOCS", b"GET"], []),
        ([b"COMMAND", b"LIST"], []),
        ([b"COMMAND", b"INFO", b"GET", b"SET"], [None, None]),
        ([b"QUIT"], "OK"),
        ([b"RESET"], "RESET"),
    ],
)
def test_answer(ask, request_, answer):
    assert ask(*request_) == answer


@pytest.mark.parametrize(
    "request_",
    [
        [b"PING", b"a", b"b"],
        [b"ECHO"],
        [b"SELECT"],
        [b"CONFIG"],
        [b"CONFIG", b"GET"],
        [b"CLIENT"],
        [b"CLIENT", b"SETNAME"],
        [b"CLIENT", b"SETNAME", b"two words"],
        [b"CLIENT", b"REPLY"],
        [b"CLIENT", b"REPLY", b"maybe"],
        [b"CLIENT", b"NO-EVICT"],
        [b"CLIENT", b"NO-EVICT", b"maybe"],
        [b"CLIENT", b"LIST", b"TYPE"],
        [b"CLIENT", b"LIST", b"TYPE", b"unheard-of"],
        [b"CLIENT", b"LIST", b"ID"],
        [b"CLIENT", b"LIST", b"ID", b"-1"],
        [b"CLIENT", b"LIST", b"ID", b"9" * 5000],
        [b"CLIENT", b"LIST", b"unheard-of"],
        [b"AUTH"],
        [b"AUTH", b"password"],
        [b"AUTH", b"user", b"password"],
        [b"AUTH", b"default", b"password", b"more"],
        [b"CLIENT", b"MAINT_NOTIFICATIONS", b"ON"],
        [b"CLIENT", b"\xff\r\n"],
        [b"COMMAND", b"GETKEYS"],
        [b"HELLO", b"3", b"AUTH", b"user", b"password"],
        [b"HELLO", b"3", b"SETNAME"],
        [b"HELLO", b"3", b"SETNAME", b"two words"],
        [b"HELLO", b"three"],
        [b"RESET", b"counter"],
    ],
)
def test_N2_what_is_not_supported_is_an_error(ask, request_):
    assert ask(*request_).startswith(("ERR", "WRONGPASS"))


@pytest.mark.parametrize(
    "request_",
    [[b"GET", b"a"], [b"CONFIG", b"SET", b"a", b"b"], [b"AUTO", b"x"], [b"CLIENTS"], [b"HELL0"],
     [b"RESEX"], [b"INFX"], [b"CONFIT", b"GET"], [b"COMMANE"], [b"", b"x"]],
)  # fmt: skip
def test_N1_other_commands_are_the_servers(ask, request_):
    assert ask(*request_) == request_


def test_inline_commands_are_answered_too():
    codec = Resp().codec()
    messages = codec.feed(b" ping\r\nPING hello\r\nPINGS\r\nquit\r\n")
    assert messages == [[b"PINGS"]]
    assert codec.take_output() == b"+PONG\r\n$5\r\nhello\r\n+OK\r\n"
    assert codec.take_output() == b""


@pytest.mark.parametrize("line", [b"'PING'", b'"ping"', b'"\\x50ING"'])
def test_an_inline_command_in_quotes_is_the_same_command(line):
    codec = Resp().codec()
    assert codec.feed(line + b"\r\n'GET' \"a b\"\r\n") == [[b"GET", b"a b"]]
    assert codec.take_output() == b"+PONG\r\n"


def test_native_commands_can_be_left_to_the_server(request_bytes):
    codec = Resp(native=False).codec()
    assert codec.feed(request_bytes(b"ping") + b"\r\n") == [[b"PING"]]


def test_hello_agrees_on_a_version(ask):
    codec = Resp().codec()
    assert ask(b"HELLO", codec=codec)[4:6] == [b"proto", 2]
    answer = ask(b"HELLO", b"3", b"SETNAME", b"me", codec=codec)
    assert (answer[b"proto"], answer[b"id"], answer[b"modules"]) == (3, 1, [])
    assert ask(b"CLIENT", b"GETNAME", codec=codec) == b"me"
    assert ask(b"CONFIG", b"GET", b"save", codec=codec) == {b"save": b""}
    assert ask(b"HELLO", b"4", codec=codec) == "NOPROTO unsupported protocol version"
    assert ask(b"HELLO", codec=codec)[b"proto"] == 3


def test_reset_forgets_version_and_name(ask):
    codec = Resp().codec()
    ask(b"HELLO", b"3", b"SETNAME", b"me", codec=codec)
    ask(b"RESET", codec=codec)
    assert ask(b"HELLO", codec=codec)[4:6] == [b"proto", 2]
    assert not ask(b"CLIENT", b"GETNAME", codec=codec)


def test_quit_closes_and_nothing_else_does():
    commands = NativeCommands()
    assert commands([b"QUIT"], ABOUT, 2, None) == ("OK", 2, True)
    assert commands([b"PING"], ABOUT, 3, None) == ("PONG", 3, False)


def test_hello_takes_the_default_user_with_any_password(ask):
    codec = Resp().codec()
    asked = (b"HELLO", b"3", b"AUTH", b"default", b"x", b"SETNAME", b"me")
    assert ask(*asked, codec=codec)[b"proto"] == 3
    assert ask(b"CLIENT", b"GETNAME", codec=codec) == b"me"


def test_a_list_of_clients_is_bounded_and_filtered():
    asked = []

    def clients(ids, count_max):
        asked.append((ids, count_max))
        facts = {"addr": "", "fd": 5, "age_s": 1, "idle_s": 0, "version": 3}
        return [facts | {"id": 7, "input_bytes": 0, "output_bytes": 2}]

    about = ABOUT | {"clients": clients}
    commands = NativeCommands()
    commands([b"CLIENT", b"SETNAME", b"me"], about, 2, None)
    for words in ([b"LIST"], [b"LIST", b"TYPE", b"NORMAL", b"ID", b"7", b"9"], [b"INFO"]):
        text, _, _ = commands([b"CLIENT", *words], about, 2, None)
        assert text.startswith("id=7 addr=? fd=5 name=me age=1 idle=0 flags=N db=0 ")
    assert asked == [(None, LISTED_MAX), ({7, 9}, LISTED_MAX), ({7}, LISTED_MAX)]


def test_names_are_kept_for_a_bounded_number_of_connections():
    commands = NativeCommands()
    for number in range(NAMES_MAX + 1):
        commands([b"CLIENT", b"SETNAME", b"n"], ABOUT | {"id": number}, 2, None)
    names = [
        commands([b"CLIENT", b"GETNAME"], ABOUT | {"id": number}, 2, None)[0]
        for number in (0, 1, NAMES_MAX)
    ]
    assert names == [None, b"n", b"n"]


def test_an_empty_name_is_no_name():
    commands = NativeCommands()
    commands([b"CLIENT", b"SETNAME", b"n"], ABOUT, 2, None)
    commands([b"CLIENT", b"SETNAME", b""], ABOUT, 2, None)
    assert commands([b"CLIENT", b"GETNAME"], ABOUT, 2, None)[0] is None


def test_info_says_what_is_known():
    text, _, _ = NativeCommands()([b"INFO"], ABOUT, 2, None)
    for line in ("redis_version:7.0.0", "connected_clients:2", "total_commands_processed:3"):
        assert f"\r\n{line}\r\n" in text


def test_info_of_one_section():
    text, _, _ = NativeCommands()([b"INFO", b"CLIENTS"], ABOUT, 2, None)
    assert text == "# Clients\r\nconnected_clients:2\r\nblocked_clients:0\r\n"
    assert NativeCommands()([b"INFO", b"unheard-of"], ABOUT, 2, None)[0] == ""


def test_info_can_come_from_the_program(ask):
    codec = Resp().codec()
    codec.info_source = lambda section: {"section": section}
    assert ask(b"INFO", b"Memory", codec=codec) == b"section:memory\r\n"
    codec.info_source = lambda section: "text"
    assert ask(b"INFO", codec=codec) == b"text"


def test_a_fault_in_the_programs_info_is_an_answer(ask):
    codec = Resp().codec()
    codec.info_source = lambda section: 1 / 0
    assert ask(b"INFO", codec=codec) == "ERR INFO failed: ZeroDivisionError: division by zero"


def test_answers_keep_their_place_between_messages(request_bytes):
    codec = Resp().codec()
    stream = request_bytes(b"GET", b"a") + request_bytes(b"PING") + b"*1\r\nx"
    messages = codec.feed(stream)
    assert messages[0] == [b"GET", b"a"]
    assert isinstance(messages[1], DecodeError)
    assert codec.take_output() == b"+PONG\r\n"
