//! Default ports: one table, shifted as a whole by `--port-offset`.
//!
//! It opens nothing. Bound: an offset that would leave the port range is refused.

/// The QUIC listener of the twin.
pub const QUIC: u16 = 4433;
/// Prometheus text, health and readiness over HTTP.
pub const METRICS: u16 = 9464;

/// REST, samples as they are sent, and the API's page.
pub const HTTP: u16 = 8000;
/// gRPC `simulator.v1`.
pub const GRPC: u16 = 50_051;

/// Every port a node takes by default, with the key that changes it.
pub const TABLE: &[(&str, u16)] = &[
    ("transport.listen", QUIC),
    ("metrics.listen", METRICS),
    ("http.listen", HTTP),
    ("grpc.listen", GRPC),
];

/// Largest accepted `--port-offset`: keeps every port of the table in range.
pub const OFFSET_MAX: u16 = 15_000;

/// `HOST:PORT` with the port moved by `offset`; port 0 (any free port) stays 0.
#[must_use]
pub fn shifted(address: &str, offset: u16) -> String {
    match address
        .rsplit_once(':')
        .map(|(host, port)| (host, port.parse::<u16>()))
    {
        Some((host, Ok(port))) if port > 0 => {
            format!("{host}:{}", port.saturating_add(offset))
        }
        _ => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_port_stays_in_range_at_the_largest_offset() {
        for (key, port) in TABLE {
            assert!(port.checked_add(OFFSET_MAX).is_some(), "{key}");
        }
    }

    #[test]
    fn an_offset_moves_a_port_but_not_port_zero() {
        assert_eq!(shifted("127.0.0.1:4433", 10), "127.0.0.1:4443");
        assert_eq!(shifted("[::1]:4433", 1), "[::1]:4434");
        assert_eq!(shifted("127.0.0.1:0", 10), "127.0.0.1:0");
    }
}
