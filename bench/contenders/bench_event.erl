%% An event manager with handlers that count: what bench/events.py compares deliveries with.
-module(bench_event).
-behaviour(gen_event).
-export([deliveries/1, init/1, handle_event/2, handle_call/2]).

%% One event to Handlers handlers, Count times, waited for at the end: prints deliveries per second.
deliveries([Count, Handlers]) ->
    N = list_to_integer(Count),
    H = list_to_integer(Handlers),
    {ok, Pid} = gen_event:start(),
    [ok = gen_event:add_handler(Pid, {?MODULE, I}, []) || I <- lists:seq(1, H)],
    loop(Pid, N div 10),
    {Micros, _} = timer:tc(fun() -> loop(Pid, N) end),
    io:format("~p~n", [N * H * 1000000 / Micros]),
    halt(0).

loop(Pid, 0) -> gen_event:sync_notify(Pid, last);
loop(Pid, N) -> gen_event:notify(Pid, {order, N}), loop(Pid, N - 1).

init([]) -> {ok, 0}.
handle_event(_, Count) -> {ok, Count + 1}.
handle_call(_, Count) -> {ok, Count, Count}.
