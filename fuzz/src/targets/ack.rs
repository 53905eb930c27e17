//! T3: an acknowledgement or a command is read as it was written, or it is refused.

use actorsim_transport::AckStatus;
use actorsim_transport::frames::{ACK_LEN, COMMAND_LEN, CommandFrame, ack_frame, parse_ack};

use super::Target;
use super::datagram::reading;

pub(crate) const TARGET: Target = Target {
    name: "ack",
    about: "T3 acknowledgements and commands",
    run,
    seeds,
    words: &[],
    len_max: 64,
    heap_max: 16 << 10,
};

fn seeds() -> Vec<Vec<u8>> {
    let command = CommandFrame {
        id: 9,
        left_ms: 500,
        reading: reading(6),
    };
    let all = (0..=u8::MAX).filter_map(AckStatus::from_byte);
    let mut seeds: Vec<_> = all
        .map(|status| ack_frame(&reading(6), status).to_vec())
        .collect();
    seeds.push(command.encode()[1..].to_vec());
    seeds
}

fn run(input: &[u8]) {
    if let Some(bytes) = input.first_chunk::<ACK_LEN>()
        && let Ok((reading, status)) = parse_ack(bytes)
    {
        assert_eq!(&ack_frame(&reading, status), bytes);
    }
    if let Some(bytes) = input.first_chunk::<COMMAND_LEN>()
        && let Ok(command) = CommandFrame::parse(bytes)
    {
        assert_eq!(&command.encode()[1..], bytes);
    }
}
