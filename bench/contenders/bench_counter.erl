%% The counter that bench_echo:calls/1 calls.
-module(bench_counter).
-behaviour(gen_server).
-export([start/0, init/1, handle_call/3, handle_cast/2]).

start() -> gen_server:start(?MODULE, [], []).
init([]) -> {ok, 0}.
handle_call(increment, _From, Count) -> {reply, Count + 1, Count + 1}.
handle_cast(_, Count) -> {noreply, Count}.
