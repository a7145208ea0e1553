%% A switch that is flipped: what bench/statem.py compares transitions with.
-module(bench_switch).
-behaviour(gen_statem).
-export([flips/1, init/1, callback_mode/0, off/3, on/3]).

%% gen_statem:call in process, a change of state each: prints transitions per second.
flips([Count]) ->
    N = list_to_integer(Count),
    {ok, Pid} = gen_statem:start(?MODULE, [], []),
    loop(Pid, N div 10),
    {Micros, _} = timer:tc(fun() -> loop(Pid, N) end),
    io:format("~p~n", [N * 1000000 / Micros]),
    halt(0).

loop(_, 0) -> ok;
loop(Pid, N) -> gen_statem:call(Pid, flip), loop(Pid, N - 1).

init([]) -> {ok, off, 0}.
callback_mode() -> state_functions.
off({call, From}, flip, Count) -> {next_state, on, Count + 1, {reply, From, on}}.
on({call, From}, flip, Count) -> {next_state, off, Count + 1, {reply, From, off}}.
