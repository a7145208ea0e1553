%% Runs the life of a simple_one_for_one on Erlang/OTP's own supervisor and writes down what it did.
%%
%%     erlc simple_recorder.erl && erl -noshell -run simple_recorder main SCENARIOS RESULTS
%%
%% SCENARIOS holds Erlang terms: {Flags, Child, [Op]}, as simple_scenarios.py writes them. Children
%% are known by their tag, the argument that start_child gives them. RESULTS gets a line for each
%% operation: the result, the trace, the statuses that which_children gives, count_children.
-module(simple_recorder).
-export([main/1, start_worker/2]).
-export([init/1, handle_call/3, handle_cast/2, terminate/2]).

main([ScenariosFile, ResultsFile]) ->
    logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    ets:new(trace, [named_table, public, ordered_set]),
    ets:new(fails, [named_table, public]),
    ets:new(pids, [named_table, public]),
    {ok, Scenarios} = file:consult(ScenariosFile),
    {ok, Out} = file:open(ResultsFile, [write]),
    lists:foreach(fun(Scenario) -> run(Out, Scenario) end, Scenarios),
    file:close(Out),
    halt().

run(Out, {Flags, Child, Ops}) ->
    [ets:delete_all_objects(Table) || Table <- [trace, fails, pids]],
    Spec = Child#{id => template, start => {?MODULE, start_worker, [template]}},
    {ok, Sup} = supervisor:start_link(?MODULE, {Flags#{strategy => simple_one_for_one}, [Spec]}),
    report(Out, Sup, scenario),
    steps(Out, Sup, Ops),
    Monitor = monitor(process, Sup),
    exit(Sup, shutdown),
    receive {'DOWN', Monitor, _, _, _} -> ok end,
    report(Out, Sup, stopped).

steps(_Out, _Sup, []) -> ok;
steps(Out, Sup, [Op | Ops]) ->
    Result = case is_process_alive(Sup) of
        true -> operate(Sup, Op);
        false -> noproc
    end,
    quiesce(Sup, {none, 0}),
    report(Out, Sup, Result),
    steps(Out, Sup, Ops).

operate(_, {fail, Tag, Times}) ->
    ets:insert(fails, {Tag, Times}),
    ok;
operate(Sup, {start, Tag}) ->
    case ask(fun() -> supervisor:start_child(Sup, [Tag]) end) of
        {ok, Pid} when is_pid(Pid) -> ok;
        {error, _} -> failed;
        Other -> Other
    end;
operate(_, {'end', Tag, Reason}) ->
    case pid(Tag) of
        none -> noproc;
        Pid ->
            case is_process_alive(Pid) of
                false -> noproc;
                true ->
                    Monitor = monitor(process, Pid),
                    gen_server:cast(Pid, {stop, Reason}),
                    receive {'DOWN', Monitor, _, _, _} -> ok end
            end
    end;
operate(Sup, {terminate, Tag}) ->
    case pid(Tag) of
        none -> none;
        Pid -> answer(ask(fun() -> supervisor:terminate_child(Sup, Pid) end))
    end;
operate(Sup, {terminate_stranger}) ->
    answer(ask(fun() -> supervisor:terminate_child(Sup, self()) end));
operate(Sup, {restart, Tag}) ->
    answer(ask(fun() -> supervisor:restart_child(Sup, Tag) end));
operate(Sup, {delete, Tag}) ->
    answer(ask(fun() -> supervisor:delete_child(Sup, Tag) end)).

ask(Fun) -> try Fun() catch exit:_ -> noproc end.

answer({error, Reason}) -> Reason;
answer(Other) -> Other.

%% The pid that a tag had last.
pid(Tag) ->
    case ets:lookup(pids, Tag) of [{_, Pid}] -> Pid; [] -> none end.

quiesce(_, {_, 3}) -> ok;
quiesce(Sup, {Seen, Count}) ->
    receive after 1 -> ok end,
    case {ets:info(trace, size), state(Sup)} of
        Seen -> quiesce(Sup, {Seen, Count + 1});
        Other -> quiesce(Sup, {Other, 0})
    end.

state(Sup) ->
    try {statuses(supervisor:which_children(Sup)), lists:sort(supervisor:count_children(Sup))}
    catch exit:_ -> {[], []}
    end.

statuses(Children) ->
    lists:sort([case Ref of restarting -> restarting; _ -> running end
                || {undefined, Ref, worker, [?MODULE]} <- Children]).

report(Out, Sup, Result) ->
    Trace = lists:sort([Text || {_, Text} <- ets:tab2list(trace)]),
    ets:delete_all_objects(trace),
    {Statuses, Counts} = state(Sup),
    io:format(Out, "~w|~s|~w|~s~n", [Result, lists:join(",", Trace), Statuses,
              lists:join(",", [io_lib:format("~w=~w", [K, V]) || {K, V} <- Counts])]).

start_worker(template, Tag) -> gen_server:start_link(?MODULE, {worker, Tag}, []).

init({worker, Tag}) ->
    process_flag(trap_exit, true),
    case ets:lookup(fails, Tag) of
        [{_, Times}] when Times > 0 ->
            ets:insert(fails, {Tag, Times - 1}),
            note("initfail", Tag),
            {stop, fail};
        _ ->
            ets:insert(pids, {Tag, self()}),
            note("init", Tag),
            {ok, Tag}
    end;
init({Flags, Specs}) -> {ok, {Flags#{period => 3600}, Specs}}.

note(Word, Tag) ->
    ets:insert(trace, {erlang:unique_integer([monotonic]), io_lib:format("~s ~w", [Word, Tag])}).

handle_call(_, _, Tag) -> {reply, ok, Tag}.
handle_cast({stop, Reason}, Tag) -> {stop, Reason, Tag}.
terminate(_, Tag) -> note("term", Tag).
