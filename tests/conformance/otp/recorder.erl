%% Runs scenarios on Erlang/OTP's own supervisor and writes down what it did.
%%
%%     erlc recorder.erl && erl -noshell -run recorder main SCENARIOS RESULTS
%%
%% SCENARIOS holds Erlang terms, one scenario each: {Tree, [Op]}, as scenarios.py writes them.
%% RESULTS gets one line per operation: the result, the trace since the last one, the children of
%% every supervisor. A worker writes down its own init and terminate, so the order is OTP's.
%% Time does not matter: the period is an hour.
-module(recorder).
-export([main/1, start_worker/1, start_supervisor/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

main([ScenariosFile, ResultsFile]) ->
    logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    register(controller, self()),
    ets:new(trace, [named_table, public, ordered_set]),
    ets:new(script, [named_table, public]),
    {ok, Scenarios} = file:consult(ScenariosFile),
    {ok, Out} = file:open(ResultsFile, [write]),
    lists:foreach(fun(Scenario) -> run(Out, Scenario) end, Scenarios),
    file:close(Out),
    halt().

run(Out, {Tree, Ops}) ->
    ets:delete_all_objects(script),
    ets:delete_all_objects(trace),
    report(Out, "scenario"),
    {Setup, Rest} = lists:splitwith(fun(Op) -> element(1, Op) =:= script end, Ops),
    [operate(none, Op) || Op <- Setup],
    case start_supervisor(Tree) of
        {ok, Root} ->
            report(Out, "started"),
            steps(Out, Root, Rest),
            stop(Out, Root);
        {error, _} ->
            flush(),
            report(Out, "failed")
    end.

steps(_Out, _Root, []) -> ok;
steps(Out, Root, [Op | Ops]) ->
    Result = operate(Root, Op),
    quiesce({none, 0}),
    report(Out, io_lib:format("~w", [Result])),
    steps(Out, Root, Ops).

stop(Out, Root) ->
    Monitor = monitor(process, Root),
    exit(Root, shutdown),
    receive {'DOWN', Monitor, _, _, _} -> ok end,
    flush(),
    report(Out, "stopped").

flush() -> receive _ -> flush() after 0 -> ok end.

%% --- operations ---

operate(_, {clear}) ->
    ets:delete_all_objects(script),
    ok;
operate(_, {script, Name, Results}) ->
    ets:insert(script, {Name, Results}),
    ok;
operate(_, {'end', Name, Reason}) ->
    end_worker(Name, Reason);
operate(_, {end_meanwhile, Name, Reason, Requests}) ->
    case whereis(Name) of
        undefined ->
            ets:delete_all_objects(script),
            noproc;
        _ ->
            end_worker(Name, Reason),
            receive
                {held, Pid} ->
                    Tags = [meanwhile(Request) || Request <- Requests],
                    Pid ! release,
                    [receive {answer, Tag, Answer} -> Answer end || Tag <- Tags]
            after 50 ->
                ets:delete_all_objects(script),
                not_restarted
            end
    end;
operate(_, Request) ->
    request(Request).

end_worker(Name, Reason) ->
    case whereis(Name) of
        undefined -> noproc;
        Pid ->
            Monitor = monitor(process, Pid),
            gen_server:cast(Pid, {stop, Reason}),
            receive {'DOWN', Monitor, _, _, _} -> ok end
    end.

%% The supervisor sits in an init that is held, so the request waits in its queue, and the retry
%% will come after it.
meanwhile(Request) ->
    Controller = self(),
    Tag = make_ref(),
    Before = queue_length(element(2, Request)),
    spawn(fun() -> Controller ! {answer, Tag, request(Request)} end),
    wait_queued(element(2, Request), Before),
    Tag.

wait_queued(Supervisor, Before) ->
    case queue_length(Supervisor) > Before of
        true -> ok;
        false -> erlang:yield(), wait_queued(Supervisor, Before)
    end.

queue_length(Supervisor) ->
    {message_queue_len, Length} = process_info(whereis(Supervisor), message_queue_len),
    Length.

request({start, Supervisor, Spec}) -> ask(Supervisor, start_child, child(Spec));
request({terminate, Supervisor, Id}) -> ask(Supervisor, terminate_child, Id);
request({restart, Supervisor, Id}) -> ask(Supervisor, restart_child, Id);
request({delete, Supervisor, Id}) -> ask(Supervisor, delete_child, Id).

ask(Supervisor, Function, Argument) ->
    case whereis(Supervisor) of
        undefined -> noproc;
        _ ->
            try supervisor:Function(Supervisor, Argument) of
                ok -> ok;
                {ok, undefined} -> ignored;
                {ok, _} -> ok;
                {error, {already_started, _}} -> already_started;
                {error, {{already_started, _}, _}} -> already_started;
                {error, Reason} when is_atom(Reason), Reason =/= fail -> Reason;
                {error, _} -> failed
            catch
                exit:_ -> noproc
            end
    end.

%% --- quiet: no supervisor is retrying, and three looks in a row saw the same ---

quiesce({_, 3}) -> ok;
quiesce({Seen, Count}) ->
    receive after 1 -> ok end,
    case {ets:info(trace, size), states()} of
        Seen -> quiesce({Seen, Count + 1});
        Other -> quiesce({Other, case is_retrying(Other) of true -> -1; false -> 0 end})
    end.

is_retrying({_, States}) ->
    lists:any(fun({_, Children}) -> lists:keymember(restarting, 2, Children) end, States).

states() ->
    Names = [Name || Name <- registered(), is_supervisor(Name)],
    [{Name, children(Name)} || Name <- lists:sort(Names)].

is_supervisor(Name) ->
    lists:prefix("sup", atom_to_list(Name)).

children(Name) ->
    try [{Id, status(Ref)} || {Id, Ref, _, _} <- supervisor:which_children(Name)]
    catch exit:_ -> []
    end.

status(undefined) -> stopped;
status(restarting) -> restarting;
status(Pid) when is_pid(Pid) -> running.

report(Out, Result) ->
    Trace = [Text || {_, Text} <- ets:tab2list(trace)],
    ets:delete_all_objects(trace),
    States = [[atom_to_list(Name), "=", lists:join(",", [io_lib:format("~w:~w", [Id, Status])
               || {Id, Status} <- Children])] || {Name, Children} <- states()],
    io:format(Out, "~s|~s|~s~n", [Result, lists:join(", ", Trace), lists:join(" ", States)]).

note(Word, Name) ->
    Text = io_lib:format("~s ~w", [Word, Name]),
    ets:insert(trace, {erlang:unique_integer([monotonic]), Text}).

%% --- the tree ---

start_supervisor({supervisor, Id, _, _} = Spec) ->
    supervisor:start_link({local, Id}, ?MODULE, Spec).

start_worker(Id) ->
    gen_server:start_link({local, Id}, ?MODULE, {worker, Id}, []).

child({worker, Id, Flags}) ->
    Flags#{id => Id, start => {?MODULE, start_worker, [Id]}};
child({supervisor, Id, Flags, _} = Spec) ->
    Keys = [restart, significant],
    (maps:with(Keys, Flags))#{
        id => Id, start => {?MODULE, start_supervisor, [Spec]}, type => supervisor,
        shutdown => infinity}.

init({supervisor, _Id, Flags, Children}) ->
    Keys = [strategy, intensity, auto_shutdown],
    {ok, {(maps:with(Keys, Flags))#{period => 3600}, [child(Child) || Child <- Children]}};
init({worker, Id}) ->
    process_flag(trap_exit, true),
    {Result, Rest} = case ets:lookup(script, Id) of
        [{_, [First | Others]}] -> {First, Others};
        _ -> {ok, []}
    end,
    ets:insert(script, {Id, Rest}),
    init_as(Result, Id).

init_as(ok, Id) -> note("init", Id), {ok, Id};
init_as(ignore, Id) -> note("ignore", Id), ignore;
init_as(fail, Id) -> note("initfail", Id), {stop, fail};
init_as(hold, Id) ->
    controller ! {held, self()},
    receive release -> init_as(fail, Id) end.

handle_call(_, _, Id) -> {reply, ok, Id}.
handle_cast({stop, Reason}, Id) -> {stop, Reason, Id}.
handle_info(_, Id) -> {noreply, Id}.
terminate(_, Id) -> note("term", Id).
