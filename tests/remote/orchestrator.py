"""Drives a node through `simulator.v1` as the orchestrator of the virtual-iot-simulator does.

Usage: orchestrator.py HOST:PORT GENERATED_DIR [COUNT]

GENERATED_DIR holds the modules that protobuf's own compiler makes of
docs/reference/simulator/v1/*.proto. The calls, their options and their order are those of that
orchestrator's client: an insecure channel with 200 MiB messages, one request with a full spec for
each device, selectors by ids and by label, streams read beside other calls. Exit code 0 if all of
it holds.
"""

import asyncio
import sys
import time

address, generated = sys.argv[1], sys.argv[2]
count = int(sys.argv[3]) if len(sys.argv) > 3 else 1000
sys.path.insert(0, generated)

import grpc  # noqa: E402
from google.protobuf import duration_pb2, empty_pb2, struct_pb2  # noqa: E402
from simulator.v1 import device_pb2, orchestrator_pb2 as pb  # noqa: E402
from simulator.v1 import orchestrator_pb2_grpc  # noqa: E402

FIELDS = {
    "temperature": {
        "type": "brownian",
        "start": 21.0,
        "drift": 0.0,
        "volatility": 0.1,
        "mean_reversion": 0.05,
        "mean": 21.0,
        "min": 10.0,
        "max": 35.0,
    },
    "light": {
        "type": "diurnal",
        "baseline": 300.0,
        "amplitude": 200.0,
        "peak_hour": 13,
        "stddev": 5.0,
    },
    "mode": {
        "type": "markov",
        "states": ["idle", "busy"],
        "transition_matrix": [[0.5, 0.5], [0.5, 0.5]],
        "initial_state": "idle",
    },
    "site": {"type": "static", "value": "north"},
}


def spec(device_type, device_id, interval="1s", fields=FIELDS, **labels):
    """One device, as the orchestrator writes it."""
    behavior = struct_pb2.Struct()
    behavior.update({"fields": fields})
    seconds = float(interval.rstrip("s"))
    return device_pb2.DeviceSpec(
        device_id=device_id,
        device_type=device_type,
        labels={**labels, "device_type": device_type},
        telemetry_interval=duration_pb2.Duration(
            seconds=int(seconds), nanos=int(seconds % 1 * 1e9)
        ),
        behavior_params=behavior,
        protocol="console",
        topic_template="devices/{device_id}/telemetry",
    )


def ids_of(device_type, number, offset=0):
    return [f"{device_type}-{offset + i:04d}" for i in range(number)]


def by_ids(ids):
    return pb.DeviceSelector(device_ids=pb.DeviceIdList(ids=ids))


def by_label(text):
    return pb.DeviceSelector(label_selector=text)


async def refused(call, code):
    try:
        await call
    except grpc.aio.AioRpcError as error:
        assert error.code() == code, f"{error.code()} instead of {code}: {error.details()}"
        return error.details()
    raise AssertionError(f"answered, instead of {code}")


async def status(stub, selector=None):
    return await stub.GetFleetStatus(pb.GetFleetStatusRequest(selector=selector))


async def until(holds, what):
    for _ in range(2400):
        if await holds():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"gave up waiting until {what}")


async def lifecycle(stub):
    """Spawn, look, change, break, stop: a few devices."""
    events, also = [], []

    async def read_events(call, into):
        async for event in call:
            into.append((event.device_id, pb.DeviceEventType.Name(event.event_type)))

    reading = []
    for into in (events, also):
        call = stub.StreamEvents(pb.StreamEventsRequest(selector=by_label("line=a")))
        await call.initial_metadata()  # from here on it is told all
        reading.append(asyncio.create_task(read_events(call, into)))
    ids = ids_of("lamp", 20)
    specs = [spec("lamp", device_id, "0.2s", line="a") for device_id in ids]
    response = await stub.SpawnDevices(pb.SpawnDevicesRequest(specs=specs, scenario_id="s1"))
    assert (response.spawned, list(response.failed_device_ids)) == (20, []), response

    async def all_run():
        found = await status(stub, by_label("line=a"))
        return found.by_state.get("DEVICE_STATE_RUNNING") == 20

    await until(all_run, "20 devices run")
    found = await status(stub, by_label("line=a,device_type=lamp"))
    assert found.total_devices == 20 and dict(found.by_type) == {"lamp": 20}, found
    one = next(device for device in found.devices if device.device_id == ids[3])
    assert dict(one.labels) == {"line": "a", "device_type": "lamp"}, one
    assert one.state == 2, one  # DEVICE_STATE_RUNNING

    # The same again: all of it exists. Some of it: the rest starts.
    details = await refused(
        stub.SpawnDevices(pb.SpawnDevicesRequest(specs=specs)), grpc.StatusCode.ALREADY_EXISTS
    )
    assert ids[0] in details, details
    more = specs[:2] + [spec("lamp", "lamp-3fa85f64", line="b"), spec("lamp", "no/id")]
    response = await stub.SpawnDevices(pb.SpawnDevicesRequest(specs=more))
    assert response.spawned == 1, response
    assert sorted(response.failed_device_ids) == [ids[0], ids[1], "no/id"], response
    assert "already exists" in response.failure_reasons[ids[0]], response

    # What they measure, and only what was asked for.
    seen = {}
    request = pb.StreamTelemetryRequest(
        selector=by_ids([ids[1], ids[2]]),
        batch_size=8,
        flush_interval=duration_pb2.Duration(nanos=200_000_000),
    )
    numbers = []
    async for batch in stub.StreamTelemetry(request):
        numbers.append(batch.sequence_number)
        assert 0 < len(batch.points) <= 8, batch
        for point in batch.points:
            kind = point.WhichOneof("value")
            seen[point.device_id, point.metric_name] = getattr(point, kind)
            assert abs(point.timestamp.seconds - time.time()) < 60, point
            assert point.tags["line"] == "a", point
        if len(seen) == 8:
            break
    assert numbers == sorted(numbers) and numbers[0] == 1, numbers
    assert {device for device, _ in seen} == {ids[1], ids[2]}, seen
    assert seen[ids[1], "site"] == "north" and seen[ids[1], "mode"] in ("idle", "busy"), seen
    assert 10.0 <= seen[ids[1], "temperature"] <= 35.0, seen

    # By type: there are others, which sample, too.
    request_of_type = pb.StreamTelemetryRequest(selector=by_label("device_type=lamp"))
    async for batch in stub.StreamTelemetry(request_of_type):
        assert {point.tags["device_type"] for point in batch.points} == {"lamp"}, batch
        assert 0 < len(batch.points) <= 100, len(batch.points)  # as no size was asked for
        numbers.append(len(batch.points))
        if sum(numbers) > 500:
            break

    # Behaviour changes while they run.
    params = struct_pb2.Struct()
    params.update({"fields": {"temperature": {"type": "gaussian", "mean": -300.0, "stddev": 0.0}}})
    await stub.UpdateDeviceBehavior(
        pb.UpdateDeviceBehaviorRequest(selector=by_ids([ids[1]]), behavior_params=params)
    )
    # What is wrong is wrong, also for nobody; what is right follows nobody.
    right = pb.UpdateDeviceBehaviorRequest(selector=by_ids(["nobody"]), behavior_params=params)
    await stub.UpdateDeviceBehavior(right)
    wrong = struct_pb2.Struct()
    wrong.update({"fields": {"temperature": {"type": "gausian", "mean": 1.0}}})
    wrong = pb.UpdateDeviceBehaviorRequest(selector=by_ids(["nobody"]), behavior_params=wrong)
    await refused(stub.UpdateDeviceBehavior(wrong), grpc.StatusCode.INVALID_ARGUMENT)
    async for batch in stub.StreamTelemetry(request):
        values = [
            point.double_value
            for point in batch.points
            if point.metric_name == "temperature" and point.device_id == ids[1]
        ]
        if -300.0 in values:
            break

    # Faults, right and wrong.
    drift = struct_pb2.Struct()
    drift.update({"drift_rate_ms_per_sec": 100.0})
    await stub.InjectFault(
        pb.InjectFaultRequest(
            selector=by_ids(ids[:5]),
            fault_type=pb.FAULT_TYPE_CLOCK_DRIFT,
            duration=duration_pb2.Duration(seconds=60),
            parameters=drift,
        )
    )
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    await refused(stub.InjectFault(pb.InjectFaultRequest()), invalid)
    await refused(
        stub.InjectFault(pb.InjectFaultRequest(fault_type=pb.FAULT_TYPE_LATENCY_SPIKE)), invalid
    )
    await refused(stub.SpawnDevices(pb.SpawnDevicesRequest()), invalid)
    bad = spec("lamp", "lamp-9000", fields={"temperature": {"type": "gaussian", "stddev": -1}})
    await refused(stub.SpawnDevices(pb.SpawnDevicesRequest(specs=[bad])), invalid)
    await refused(status(stub, by_label("nonsense")), invalid)

    # They stop, and their ids are free again.
    response = await stub.StopDevices(
        pb.StopDevicesRequest(selector=by_ids([ids[0], "nobody-0001"]), graceful=True)
    )
    assert (response.stopped, list(response.failed_device_ids)) == (1, ["nobody-0001"]), response
    again = pb.SpawnDevicesRequest(specs=specs[:1])
    assert (await stub.SpawnDevices(again)).spawned == 1
    response = await stub.StopDevices(
        pb.StopDevicesRequest(selector=by_label("device_type=lamp"), graceful=True)
    )
    assert response.stopped == 21, response
    assert (await status(stub, by_label("device_type=lamp"))).total_devices == 0
    assert (await stub.StopDevices(pb.StopDevicesRequest(selector=by_ids([])))).stopped == 0

    async def all_told():
        kinds = {kind for _, kind in events}
        return {
            "DEVICE_EVENT_TYPE_SPAWNED",
            "DEVICE_EVENT_TYPE_FAULT_INJECTED",
            "DEVICE_EVENT_TYPE_STOPPED",
        } <= kinds

    await until(all_told, "events were told")

    async def both_told():
        return sorted(events) == sorted(also)

    await until(both_told, "both who listen were told the same")
    for one in reading:
        one.cancel()
    spawned = [device for device, kind in events if kind == "DEVICE_EVENT_TYPE_SPAWNED"]
    assert sorted(set(spawned)) == ids, spawned
    assert "lamp-3fa85f64" not in {device for device, _ in events}, "it has another label"


async def deadlines(stub):
    """A client's deadline ends its call, and what it cancels ends at once."""
    late = grpc.StatusCode.DEADLINE_EXCEEDED
    began = time.monotonic()

    async def listen():
        async for _ in stub.StreamEvents(pb.StreamEventsRequest(), timeout=0.3):
            pass

    await refused(listen(), late)
    assert time.monotonic() - began < 5
    call = stub.StreamTelemetry(pb.StreamTelemetryRequest())
    call.cancel()
    try:
        await call.read()
        raise AssertionError("a cancelled stream was read")
    except asyncio.CancelledError:
        pass


async def many(stub):
    """All devices in one request, each with a full spec."""
    ids = ids_of("meter", count)
    fields = {"temperature": {"type": "gaussian", "mean": 20.0, "stddev": 1.0}}
    first = spec("meter", ids[0], "5s", fields, site="x")
    specs = []
    for device_id in ids:
        copied = device_pb2.DeviceSpec()
        copied.CopyFrom(first)
        copied.device_id = device_id
        specs.append(copied)
    request = pb.SpawnDevicesRequest(specs=specs)
    size = request.ByteSize()
    before = await stub.GetRuntimeStatus(empty_pb2.Empty())
    began = time.monotonic()
    response = await stub.SpawnDevices(request)
    spawned_s = time.monotonic() - began
    assert (response.spawned, len(response.failed_device_ids)) == (count, 0), response.spawned

    async def all_run():
        runtime = await stub.GetRuntimeStatus(empty_pb2.Empty())
        return runtime.active_devices == before.active_devices + count

    await until(all_run, f"{count} devices run")
    running_s = time.monotonic() - began
    await asyncio.sleep(6)  # each has sampled once
    after = await stub.GetRuntimeStatus(empty_pb2.Empty())
    assert after.messages_sent_total > before.messages_sent_total, after
    assert after.uptime.seconds > 0 and after.goroutine_count > count, after
    each = (after.memory_bytes - before.memory_bytes) / count
    began = time.monotonic()
    found = await status(stub, by_label("device_type=meter"))
    assert found.total_devices == count and len(found.devices) == count
    listed_s = time.monotonic() - began
    began = time.monotonic()
    response = await stub.StopDevices(pb.StopDevicesRequest(selector=by_ids(ids), graceful=True))
    assert response.stopped == count, response.stopped
    stopped_s = time.monotonic() - began
    print(
        f"{count} devices in one request of {size / 2**20:.1f} MiB: answered in {spawned_s:.2f} s,"
        f" all run after {running_s:.2f} s, {each:.0f} B of memory each, listed in"
        f" {listed_s:.2f} s, stopped in {stopped_s:.2f} s"
    )


async def main():
    options = [
        ("grpc.max_send_message_length", 200 * 1024 * 1024),
        ("grpc.max_receive_message_length", 200 * 1024 * 1024),
    ]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub = orchestrator_pb2_grpc.DeviceRuntimeServiceStub(channel)
        await lifecycle(stub)
        await deadlines(stub)
        await many(stub)
    print("ok")


asyncio.run(asyncio.wait_for(main(), 240))
