%% Runs scenarios on Erlang/OTP's own gen_statem and writes down which events it delivered.
%%
%%     erlc statem_recorder.erl && erl -noshell -run statem_recorder main SCENARIOS RESULTS
%%
%% SCENARIOS holds Erlang terms: {Enter, Script, Events}, as statem_scenarios.py writes them. The
%% script says what to return when an event is handled for the first, second, ... time; an event is
%% its number. RESULTS gets one line a scenario: each callback as type, content, state and data.
%% Times are 0 or so long that they never expire.
-module(statem_recorder).
-behaviour(gen_statem).
-export([main/1, init/1, callback_mode/0, handle_event/4, terminate/3]).

main([ScenariosFile, ResultsFile]) ->
    logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    ets:new(trace, [named_table, public, ordered_set]),
    ets:new(script, [named_table, public]),
    {ok, Scenarios} = file:consult(ScenariosFile),
    {ok, Out} = file:open(ResultsFile, [write]),
    lists:foreach(fun(Scenario) -> run(Out, Scenario) end, Scenarios),
    file:close(Out),
    halt().

run(Out, {Enter, Script, Events}) ->
    ets:delete_all_objects(script),
    ets:delete_all_objects(trace),
    ets:insert(script, [{mode, Enter} | Script]),
    {ok, Pid} = gen_statem:start(?MODULE, none, []),
    lists:foreach(fun(Event) -> send(Pid, Event) end, Events),
    case is_process_alive(Pid) of
        true -> exit(Pid, kill);
        false -> ok
    end,
    Lines = [Text || {_, Text} <- ets:tab2list(trace)],
    io:format(Out, "~s~n", [lists:join(";", Lines)]).

send(Pid, {Type, Id}) ->
    case Type of
        cast -> gen_statem:cast(Pid, Id);
        info -> Pid ! Id;
        call -> gen_statem:send_request(Pid, Id)
    end,
    catch sys:get_state(Pid).

callback_mode() ->
    case ets:lookup(script, mode) of
        [{mode, true}] -> [handle_event_function, state_enter];
        _ -> handle_event_function
    end.

init(_) -> {ok, 0, 0}.

handle_event(Type, Content, State, Data) ->
    note("~s ~w ~w ~w", [type(Type), Content, State, Data]),
    Key = case Type of enter -> {enter, State}; _ -> Content end,
    case ets:lookup(script, Key) of
        [{Key, [Next | Rest]}] ->
            ets:insert(script, {Key, Rest}),
            result(Next, Data + 1, Type);
        _ ->
            keep_state_and_data
    end.

result({next, State, Actions}, Data, T) -> {next_state, State, Data, actions(Actions, T)};
result({keep, Actions}, Data, T) -> {keep_state, Data, actions(Actions, T)};
result({keepd, Actions}, _, T) -> {keep_state_and_data, actions(Actions, T)};
result({repeat, Actions}, Data, T) -> {repeat_state, Data, actions(Actions, T)};
result({repeatd, Actions}, _, T) -> {repeat_state_and_data, actions(Actions, T)};
result(stop, Data, _) -> {stop, normal, Data}.

actions(Actions, _) -> [action(Action) || Action <- Actions].

action({next_event, call, Id}) -> {next_event, {call, {self(), make_ref()}}, Id};
action({next_event, timeout_a, Id}) -> {next_event, {timeout, a}, Id};
action({a, Time, Id}) -> timed({timeout, a}, Time, Id);
action({b, Time, Id}) -> timed({timeout, b}, Time, Id);
action({Kind, Time, Id}) when Kind =:= state_timeout; Kind =:= timeout -> timed(Kind, Time, Id);
action(Action) -> Action.

timed(Kind, cancel, _) -> {Kind, cancel};
timed(Kind, Time, Id) -> {Kind, Time, Id}.

terminate(_, State, Data) -> note("terminate - ~w ~w", [State, Data]).

type({call, _}) -> "call";
type({timeout, Name}) -> atom_to_list(Name);
type(Type) -> atom_to_list(Type).

note(Format, Words) ->
    Text = lists:flatten(io_lib:format(Format, Words)),
    ets:insert(trace, {erlang:unique_integer([monotonic]), Text}).
