//! `docs/reference/wire.md` says what the code does.

use actorsim_transport::batch::BATCH_READINGS_MAX;
use actorsim_transport::certs::tls::{
    ALPN_ACTORSIM1, ALPN_ACTORSIM1_COMMANDS, ALPN_COMMANDS, ALPN_DT1,
};
use actorsim_transport::codec::CONTROL_LEN_MAX;
use actorsim_transport::endpoint::{self, codes};
use actorsim_transport::frames::{
    ACK_LEN, COMMAND_LEN, EVENT_LEN, NODE_NAME_LEN_MAX, PROTOCOL_VERSION, StreamType,
};
use actorsim_transport::*;

const DOC: &str = include_str!("../../../docs/reference/wire.md");

/// The second cell of the table row whose first cell is `name`.
fn row(name: &str) -> &'static str {
    let cell = DOC.lines().filter_map(|line| {
        let mut cells = line.trim().trim_matches('|').split('|').map(str::trim);
        (cells.next()? == name).then(|| cells.next())?
    });
    let mut found: Vec<_> = cell.collect();
    assert_eq!(found.len(), 1, "one row {name:?} in wire.md");
    found.remove(0)
}

#[test]
fn constants_are_those_of_the_page() {
    let text = |bytes: &'static [u8]| std::str::from_utf8(bytes).unwrap().to_owned();
    let facts = [
        ("device namespace", format!("`{DEVICE_NAMESPACE}`")),
        (
            "id of `pump-000017`",
            format!("`{}`", device_uuid("pump-000017")),
        ),
        ("reading", format!("{READING_LEN} bytes")),
        ("event", format!("{EVENT_LEN} bytes")),
        ("command", format!("{COMMAND_LEN} bytes")),
        ("acknowledgement", format!("{ACK_LEN} bytes")),
        ("protocol version", PROTOCOL_VERSION.to_string()),
        ("the guide's ALPN", format!("`{}`", text(ALPN_DT1))),
        ("our ALPN", format!("`{}`", text(ALPN_ACTORSIM1))),
        (
            "our ALPN, of a link that takes commands apart",
            format!("`{}`", text(ALPN_ACTORSIM1_COMMANDS)),
        ),
        (
            "ALPN of connections for commands",
            format!("`{}`", text(ALPN_COMMANDS)),
        ),
        ("control stream", (StreamType::Control as u8).to_string()),
        ("event stream", (StreamType::Events as u8).to_string()),
        ("command stream", (StreamType::Command as u8).to_string()),
        ("control frame", format!("{CONTROL_LEN_MAX} bytes")),
        ("events in a batch", BATCH_EVENTS_MAX.to_string()),
        ("readings in a batch", BATCH_READINGS_MAX.to_string()),
        ("node name", format!("{NODE_NAME_LEN_MAX} bytes")),
        ("sensors of a device", SENSORS_MAX.to_string()),
        ("devices in a range", RANGE_DEVICES_MAX.to_string()),
    ];
    agree(&facts);
}

fn agree(facts: &[(&str, String)]) {
    for (name, value) in facts {
        assert_eq!(row(name), value, "{name}");
    }
}

#[test]
fn limits_are_those_of_the_page() {
    let facts = [
        (
            "idle time-out",
            format!("{} s", endpoint::IDLE_TIMEOUT.as_secs()),
        ),
        (
            "keep-alive",
            format!("{} s", endpoint::KEEP_ALIVE.as_secs()),
        ),
        (
            "handshake",
            format!("{} s", endpoint::HANDSHAKE_TIMEOUT.as_secs()),
        ),
        (
            "acknowledgement delay",
            format!("{} ms", endpoint::MAX_ACK_DELAY.as_millis()),
        ),
        ("event streams", endpoint::STREAMS_MAX.to_string()),
        ("command streams", endpoint::STREAMS_MAX.to_string()),
        (
            "streams a link opens both ways",
            endpoint::CONTROL_STREAMS_MAX.to_string(),
        ),
        (
            "stream window",
            format!("{} bytes", endpoint::STREAM_WINDOW),
        ),
        (
            "connection window",
            format!("{} bytes", endpoint::CONNECTION_WINDOW),
        ),
        (
            "frame on a line",
            format!("{} bytes", endpoint::FRAME_ETHERNET),
        ),
        (
            "frame within a machine",
            format!("{} bytes", endpoint::FRAME_LOOPBACK),
        ),
        (
            "datagram send buffer",
            format!("{} bytes", endpoint::DATAGRAM_SEND_BUFFER),
        ),
        (
            "datagram receive buffer",
            format!("{} bytes", endpoint::DATAGRAM_RECEIVE_BUFFER),
        ),
    ];
    agree(&facts);
}

#[test]
fn shares_of_peers_are_those_of_the_page() {
    let facts = [
        (
            "commands of a device under way",
            registry::DEVICE_COMMANDS_MAX.to_string(),
        ),
        (
            "devices of a connection",
            registry::CONN_DEVICES_MAX.to_string(),
        ),
        ("devices of a certificate", limits::DEVICES_MAX.to_string()),
        (
            "registrations of a connection",
            REGISTRATIONS_MAX.to_string(),
        ),
        ("handshakes at once", listener::HANDSHAKES_MAX.to_string()),
        (
            "handshakes of one address",
            limits::HANDSHAKES_SHARE_MAX.to_string(),
        ),
        ("connections", registry::CONNECTIONS_MAX.to_string()),
        (
            "connections of one peer",
            limits::CONNECTIONS_SHARE_MAX.to_string(),
        ),
        (
            "handshakes with unproved addresses",
            listener::HANDSHAKES_UNPROVEN_MAX.to_string(),
        ),
    ];
    agree(&facts);
}

#[test]
fn types_statuses_and_codes_are_those_of_the_page() {
    for kind in SensorType::ALL {
        assert_eq!(row(&format!("type {}", kind.byte())), kind.name());
    }
    let statuses = [
        (AckStatus::Executed, "executed"),
        (AckStatus::Superseded, "superseded"),
        (AckStatus::Refused, "refused"),
    ];
    for (status, name) in statuses {
        assert_eq!(row(&format!("status {}", status as u8)), name);
    }
    let all = [
        (codes::STOPPED, "stopped"),
        (codes::KILLED, "killed"),
        (codes::PROTOCOL, "protocol"),
        (codes::CERTIFICATE, "certificate"),
        (codes::DEVICES, "devices"),
        (codes::FULL, "full"),
        (codes::READING, "reading"),
        (codes::DEADLINE, "deadline"),
        (codes::REFUSED, "refused"),
        (codes::BUSY, "busy"),
    ];
    for (code, name) in all {
        assert_eq!(row(&format!("code {code}")), name);
    }
}
