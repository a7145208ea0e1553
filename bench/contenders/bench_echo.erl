%% Echo as a competent Erlang programmer writes it: a process a connection, {active, 100}.
-module(bench_echo).
-export([main/1, calls/1]).

main([Port]) ->
    {ok, Listener} = gen_tcp:listen(list_to_integer(Port),
        [binary, {packet, raw}, {active, false}, {reuseaddr, true}, {nodelay, true},
         {backlog, 1024}, {ip, {127, 0, 0, 1}}]),
    accept(Listener).

accept(Listener) ->
    {ok, Socket} = gen_tcp:accept(Listener),
    Pid = spawn(fun() -> receive go -> inet:setopts(Socket, [{active, 100}]), echo(Socket) end end),
    gen_tcp:controlling_process(Socket, Pid),
    Pid ! go,
    accept(Listener).

echo(Socket) ->
    receive
        {tcp, Socket, Data} -> gen_tcp:send(Socket, Data), echo(Socket);
        {tcp_passive, Socket} -> inet:setopts(Socket, [{active, 100}]), echo(Socket);
        {tcp_closed, Socket} -> ok;
        {tcp_error, Socket, _} -> ok
    end.

%% gen_server:call in process: prints calls per second.
calls([Count]) ->
    N = list_to_integer(Count),
    {ok, Pid} = bench_counter:start(),
    loop(Pid, N div 10),
    {Micros, _} = timer:tc(fun() -> loop(Pid, N) end),
    io:format("~p~n", [N * 1000000 / Micros]),
    halt(0).

loop(_, 0) -> ok;
loop(Pid, N) -> gen_server:call(Pid, increment), loop(Pid, N - 1).
