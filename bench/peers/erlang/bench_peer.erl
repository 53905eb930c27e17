%% Erlang/OTP: the workloads of the other peers, idiomatic and compiled.
%%
%% erl -noinput +S 2:2 +P 2000000 -pa DIR -run bench_peer main -extra JOB
%% with JOB = SCENARIO SHAPE SIZE SECONDS prints one line of JSON. Mailboxes have no bound here. A message of 64 bytes is a binary of that
%% size, or a tuple of eight integers where it is changed on its way; both are copied.
-module(bench_peer).
-behaviour(supervisor).
-export([main/0, init/1, start_counter/0, start_device/0, start_mayfly/2]).

-define(MASK, 16#FFFFFFFFFFFFFFFF).

main() ->
    [Scenario, Shape, Size, _Seconds] = init:get_plain_arguments(),
    Metrics = run(Scenario, Shape, list_to_integer(Size)),
    Pairs = [io_lib:format("\"~s\":~.3f", [Name, float(Value)]) || {Name, Value} <- Metrics],
    io:format("{~s}~n", [lists:join(",", Pairs)]),
    halt(0).

run("memory", _, Size) -> memory(Size);
run("spawn", _, Size) -> spawn_and_stop(Size);
run("ping-pong", Shape, Size) -> ping_pong(Shape, Size);
run("fan-out", _, Size) ->
    fan_out(Size) ++ [{join_balanced, join(false)}, {join_skewed, join(true)}];
run("one-way", _, Size) -> one_way(Size);
run("ring", _, Size) -> ring(Size);
run("skew", _, Size) -> skew(Size);
run("restart", Shape, Size) -> restart(Shape, Size).

%% ---- clocks and metrics ----

now_ns() -> erlang:monotonic_time(nanosecond).

%% CPU milliseconds of all threads, user and system
cpu_ms() -> element(1, statistics(runtime)).

start() -> {now_ns(), cpu_ms()}.

stop({Wall, Cpu}) -> {now_ns() - Wall, (cpu_ms() - Cpu) * 1000000}.

per(Wall, Cpu, N, {WallNs, CpuNs}) -> [{Wall, WallNs / N}, {Cpu, CpuNs / N}].

rate(Cpu, Wall, N, {WallNs, CpuNs}) ->
    [{Cpu, N * 1.0e9 / max(CpuNs, 1000000)}, {Wall, N * 1.0e9 / WallNs}].

percentile(Share, Values) ->
    Sorted = lists:sort(Values),
    lists:nth(max(1, ceil(length(Sorted) * Share)), Sorted).

payload(First) -> {First, 1, 2, 3, 4, 5, 6, 7}.

%% A process on scheduler 1 or 2 for good: the second argument of spawn_opt is not documented, but
%% there is no other way to keep two processes on one thread, or on two.
on(Scheduler, Fun) -> spawn_opt(Fun, [link, {scheduler, Scheduler}]).

%% ---- memory, spawn: children of a supervisor ----

init({Start, Intensity}) ->
    Flags = #{strategy => simple_one_for_one, intensity => Intensity, period => 1},
    {ok, {Flags, [#{id => child, start => Start, shutdown => brutal_kill}]}}.

supervisor(Start, Intensity) ->
    {ok, Supervisor} = supervisor:start_link(?MODULE, {Start, Intensity}),
    Supervisor.

start_counter() -> {ok, spawn_link(fun() -> counter(0) end)}.

counter(Seen) ->
    receive
        {ball, _} -> counter(Seen + 1)
    end.

spawn_and_stop(Size) ->
    process_flag(trap_exit, true),
    Begin = start(),
    Supervisor = supervisor({?MODULE, start_counter, []}, 1),
    [{ok, _} = supervisor:start_child(Supervisor, []) || _ <- lists:seq(1, Size)],
    exit(Supervisor, shutdown),
    receive
        {'EXIT', Supervisor, shutdown} -> ok
    end,
    rate(actors_per_cpu_s, actors_per_s, Size, stop(Begin)).

start_device() ->
    {ok, spawn_link(fun() -> device({0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0}, 0) end)}.

device(Values, Ticks) ->
    receive
        tick ->
            erlang:send_after(60000, self(), tick),
            device(list_to_tuple([V + 1.0 || V <- tuple_to_list(Values)]), Ticks + 1);
        {info, From} ->
            From ! {info, Ticks},
            device(Values, Ticks)
    end.

%% names are in a table: local registration takes atoms, of which there are a million
memory(Size) ->
    Names = ets:new(names, [set]),
    Before = resident_bytes(),
    Supervisor = supervisor({?MODULE, start_device, []}, 1),
    Name = fun(Index) -> list_to_binary(io_lib:format("industrial-~4..0B", [Index])) end,
    Each = lists:seq(0, Size - 1),
    [begin
        {ok, Pid} = supervisor:start_child(Supervisor, []),
        Pid ! tick,
        ets:insert(Names, {Name(Index), Pid})
    end || Index <- Each],
    [begin
        [{_, Pid}] = ets:lookup(Names, Name(Index)),
        Pid ! {info, self()},
        receive {info, Ticks} when Ticks >= 1 -> ok end
    end || Index <- Each],
    [{bytes_per_actor, (resident_bytes() - Before) / Size}].

resident_bytes() ->
    {ok, Status} = file:read_file("/proc/self/status"),
    {match, [Kib]} = re:run(Status, "VmRSS:\\s*([0-9]+)", [{capture, [1], list}]),
    list_to_integer(Kib) * 1024.

%% ---- messages ----

player(Next, Done) ->
    receive
        {next, Pid} -> player(Pid, Done);
        {0, _, _, _, _, _, _, _} -> Done ! done, player(Next, Done);
        Ball -> Next ! setelement(1, Ball, element(1, Ball) - 1), player(Next, Done)
    end.

play(First, Hops) ->
    Begin = start(),
    First ! payload(Hops),
    receive done -> stop(Begin) end.

ping_pong(Shape, Size) ->
    Self = self(),
    Second = case Shape of "one-shard" -> 1; _ -> 2 end,
    Ping = on(1, fun() -> player(none, Self) end),
    Pong = on(Second, fun() -> player(Ping, Self) end),
    Ping ! {next, Pong},
    per(round_trip, cpu_per_round_trip, Size, play(Ping, 2 * Size)).

ring(Size) ->
    Self = self(),
    First = spawn_link(fun() -> player(none, Self) end),
    Last = lists:foldl(
        fun(_, Next) -> spawn_link(fun() -> player(Next, Self) end) end,
        First, lists:seq(2, 1000)),
    First ! {next, Last},
    per(per_hop, cpu_per_hop, Size, play(First, Size)).

one_way(Size) ->
    Self = self(),
    Begin = start(),
    Sink = on(2, fun() -> sink(Size, Self) end),
    on(1, fun() -> source(Size, Sink) end),
    receive done -> ok end,
    per(per_message, cpu_per_message, Size, stop(Begin)).

source(0, _) -> ok;
source(Left, Sink) -> Sink ! payload(Left), source(Left - 1, Sink).

sink(0, Done) -> Done ! done;
sink(Left, Done) -> receive _ -> sink(Left - 1, Done) end.

%% ---- fan-out ----

fan_out(Actors) ->
    Self = self(),
    Counters = [spawn_link(fun() -> sink(50, Self) end) || _ <- lists:seq(1, Actors)],
    Begin = start(),
    spawn_link(fun() ->
        [Counter ! payload(0) || _ <- lists:seq(1, 50), Counter <- Counters]
    end),
    [receive done -> ok end || _ <- Counters],
    per(per_message, cpu_per_message, Actors * 50, stop(Begin)).

join(Skewed) ->
    Took = [begin
        Begin = now_ns(),
        [joined(Request, Skewed) || Request <- lists:seq(0, 63)],
        (now_ns() - Begin) / 1000
    end || _ <- lists:seq(1, 21)],
    percentile(0.5, Took).

joined(Request, Skewed) ->
    Self = self(),
    Branches = [spawn(fun() -> Self ! {self(), branch(Request, Branch, Skewed)} end)
        || Branch <- lists:seq(0, 15)],
    lists:sum([receive {Branch, Answer} -> Answer end || Branch <- Branches]).

branch(Request, Branch, Skewed) ->
    Rounds = if not Skewed -> 2000; Branch =:= Request rem 16 -> 20000; true -> 500 end,
    work((Request bsl 32) bxor Branch, Rounds).

work(Seed, Rounds) -> work(Seed bxor 16#9E3779B97F4A7C15, 0, Rounds).

work(X, Rounds, Rounds) -> X;
work(X, Round, Rounds) ->
    Y = (X * 6364136223846793005 + (1442695040888963407 bxor Round)) band ?MASK,
    work(Y bxor (Y bsr 29), Round + 1, Rounds).

%% ---- skew: fewer rounds of work, since a big integer is slow here; the ratio is what counts ----

skew(Size) ->
    %% Spread::TURNS
    Turn = max(1, Size div 256 div 3),
    [Balanced, Hot, Rotating] = [tokens(Spread, Size) || Spread <- [balanced, hot, {rotating, Turn}]],
    [{balanced_per_s, Balanced}, {throughput_ratio, Hot / Balanced},
     {rotating_ratio, Rotating / Balanced}].

tokens(Spread, Size) ->
    Self = self(),
    Actors = [spawn_link(fun() ->
        receive {all, All} -> token(Spread, All, Self) end
    end) || _ <- lists:seq(1, 16384)],
    All = list_to_tuple(Actors),
    [Actor ! {all, All} || Actor <- Actors],
    Begin = now_ns(),
    [element(Token + 1, All) ! {Size div 256, Token} || Token <- lists:seq(0, 255)],
    [receive done -> ok end || _ <- lists:seq(1, 256)],
    Rate = Size * 1.0e9 / (now_ns() - Begin),
    [begin unlink(Actor), exit(Actor, kill) end || Actor <- Actors],
    Rate.

token(Spread, All, Done) ->
    receive
        {0, _} -> Done ! done;
        {Left, Seed} ->
            Draw = work(Seed, 20),
            element(1 + next(Spread, Draw, Left - 1), All) ! {Left - 1, Draw}
    end,
    token(Spread, All, Done).

next(Spread, Draw, Left) ->
    Any = (Draw bsr 20) rem 16384,
    case Spread of
        hot when Draw rem 10 < 9 -> Any div 10;
        hot -> 1638 + Any rem 14745;
        {rotating, Turn} when Draw rem 2 =:= 0 -> (Left div Turn * 7919) rem 8192;
        _ -> Any
    end.

%% ---- restart ----

start_mayfly(Shape, Deaths) ->
    {ok, spawn_link(fun() -> mayfly(Shape, Deaths) end)}.

mayfly(Shape, {Left, Absences, Over}) ->
    case counters:get(Left, 1) of
        N when N =< 0 -> Over ! {over, Left}, receive after infinity -> ok end;
        _ -> counters:sub(Left, 1, 1)
    end,
    self() ! payload(0),
    receive _ -> ok end,
    note(Absences),
    case Shape of
        "panic" -> erlang:error(out_of_range);
        _ -> exit(out_of_range)
    end.

note(none) -> ok;
note(Table) ->
    Now = now_ns(),
    case ets:lookup(Table, died_at) of
        [{died_at, Then}] -> ets:insert(Table, {{took, Now}, Now - Then});
        [] -> ok
    end,
    ets:insert(Table, {died_at, now_ns()}).

restart(Shape, Size) ->
    process_flag(trap_exit, true),
    Begin = start(),
    mayflies(Shape, Size, 256, none),
    Spent = stop(Begin),
    Table = ets:new(absences, [public]),
    mayflies(Shape, 5000, 1, Table),
    Took = [Ns / 1000 || {{took, _}, Ns} <- ets:tab2list(Table)],
    rate(restarts_per_cpu_s, restarts_per_s, Size, Spent) ++
        [{back_in_service_p50, percentile(0.5, Took)},
         {back_in_service_p99, percentile(0.99, Took)}].

mayflies(Shape, Deaths, Actors, Absences) ->
    Left = counters:new(1, [atomics]),
    counters:put(Left, 1, Deaths),
    Start = {?MODULE, start_mayfly, [Shape, {Left, Absences, self()}]},
    Supervisor = supervisor(Start, 1000000000),
    [supervisor:start_child(Supervisor, []) || _ <- lists:seq(1, Actors)],
    receive {over, Left} -> ok end,
    exit(Supervisor, shutdown),
    receive {'EXIT', Supervisor, _} -> ok end.
