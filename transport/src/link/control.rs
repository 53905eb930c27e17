//! The link's end of the control stream: hello, registrations, acknowledgements, goodbye.
//!
//! It moves no reading. Bounds: frames of 64 KiB; registrations are written one frame at a time.

use std::convert::Infallible;
use std::sync::atomic::Ordering;

use quinn::{Connection, ConnectionError, ReadExactError, RecvStream, SendStream, WriteError};

use tokio::sync::{mpsc, watch};

use super::Beside;
use super::dial::Line;
use crate::connection::{CONTROL_AHEAD, FrameReader, ReadFrameError};
use crate::device::DeviceRange;
use crate::frames::{
    CONTROL_FRAME_LEN_MAX, FrameError, PROTOCOL_VERSION, StreamType, ToLink, ToTwin,
};

/// Questions for the time that wait to be answered: one at a time is asked.
const CLOCK_ASKS_MAX: usize = 4;
/// Refused devices whose ids are made in one turn of the network thread: 0.1 ms.
const REFUSE_PIECE: u32 = 256;

/// Why the control stream ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum ControlError {
    #[error("{0}")]
    Open(#[from] ConnectionError),
    #[error("{0}")]
    Write(#[from] WriteError),
    #[error("{0}")]
    Read(#[from] ReadExactError),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("the twin ended the control stream")]
    Ended,
    #[error("the first answer is not a welcome")]
    NoWelcome,
    #[error("the twin refuses devices that were not announced")]
    Unannounced,
}

impl From<ReadFrameError> for ControlError {
    fn from(error: ReadFrameError) -> Self {
        match error {
            ReadFrameError::Frame(error) => Self::Frame(error),
            ReadFrameError::Stream(error) => Self::Read(error),
        }
    }
}

/// The open control stream.
#[derive(Debug)]
pub(super) struct Control {
    send: SendStream,
    receive: RecvStream,
    frames: FrameReader,
}

/// A question for the time: when it was asked by the twin's clock, and came by ours.
#[derive(Clone, Copy, Debug)]
struct ClockAsked {
    asked_us: u64,
    came_us: u64,
}

/// Opens the control stream and waits for the welcome, which tells what of T2 is acknowledged.
pub(super) async fn hello(line: &Line, connection: &Connection) -> Result<Control, ControlError> {
    let (mut send, mut receive) = connection.open_bi().await?;
    let hello = ToTwin::Hello {
        version: PROTOCOL_VERSION,
        node: line.spec.node.clone(),
        session: line.link.session(),
        acked: line.link.outbox().acked(),
        t1_readings: line.link.0.t1_sent.load(Ordering::Relaxed),
    };
    send.write_all(&[StreamType::Control as u8]).await?;
    send.write_all(&hello.frame()?).await?;
    let mut frames = FrameReader::new(CONTROL_FRAME_LEN_MAX, CONTROL_AHEAD);
    match read(&mut receive, &mut frames).await? {
        ToLink::Welcome { acked, .. } => {
            line.link.outbox().acknowledge(acked);
            line.link.outbox().refuse_none();
            Ok(Control {
                send,
                receive,
                frames,
            })
        }
        _ => Err(ControlError::NoWelcome),
    }
}

pub(super) async fn read(
    receive: &mut RecvStream,
    frames: &mut FrameReader,
) -> Result<ToLink, ControlError> {
    let frame = frames.next(receive).await?.ok_or(ControlError::Ended)?;
    Ok(ToLink::parse(frame)?)
}

/// Serves the control stream; without one (`dt/1`) it waits for ever.
pub(super) async fn run(line: &Line, control: Option<Control>) -> ControlError {
    let Some(Control {
        mut send,
        mut receive,
        mut frames,
    }) = control
    else {
        return std::future::pending().await;
    };
    let (asked, asks) = mpsc::channel(CLOCK_ASKS_MAX);
    let ended = tokio::select! {
        biased;
        ended = listen(line, &mut receive, &mut frames, &asked) => ended,
        ended = talk(line, &mut send, asks) => ended,
    };
    match ended {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

async fn listen(
    line: &Line,
    receive: &mut RecvStream,
    frames: &mut FrameReader,
    asked: &mpsc::Sender<ClockAsked>,
) -> Result<Infallible, ControlError> {
    let mut refused = 0;
    loop {
        match read(receive, frames).await? {
            ToLink::Acked { sequence } => drop(line.link.outbox().acknowledge(sequence)),
            ToLink::Farewell => line.goodbye.settled.notify_waiters(),
            // One that finds no room is answered by the next.
            ToLink::Clock { asked_us } => drop(asked.try_send(ClockAsked {
                asked_us,
                came_us: line.system.clock().unix_us(),
            })),
            ToLink::Commands { port, connection } => {
                let mut at = line.spec.twin;
                at.set_port(port);
                let beside = Beside { at, connection };
                line.link.0.beside.send_replace(Some(beside));
            }
            ToLink::Refused { devices, why } => {
                refused += u64::from(devices.count);
                if refused > line.link.0.announced.load(Ordering::Relaxed) {
                    return Err(ControlError::Unannounced);
                }
                refuse(line, &devices, &why).await;
            }
            ToLink::Welcome { .. } | ToLink::Joined => return Err(ControlError::NoWelcome),
        }
    }
}

/// The twin takes nothing of some devices.
async fn refuse(line: &Line, devices: &DeviceRange, why: &str) {
    for piece in devices.pieces(REFUSE_PIECE) {
        let mut ids = Vec::with_capacity(piece.count as usize);
        piece.for_each(|device, _| ids.push(device));
        line.link.outbox().refuse(ids);
        tokio::task::yield_now().await;
    }
    line.link.outbox().drop_refused();
    let (count, first) = (devices.count, devices.name(0));
    let text = format!(
        "twin {}: {count} devices from {first:?} on are refused: {why}",
        line.spec.twin
    );
    line.link.0.refused.say(&line.system, text);
}

async fn talk(
    line: &Line,
    send: &mut SendStream,
    mut asks: mpsc::Receiver<ClockAsked>,
) -> Result<Infallible, ControlError> {
    let shared = &line.link.0;
    let mut announced = 0;
    let mut asked = line.goodbye.asked.subscribe();
    let mut said = false;
    loop {
        let next = shared.registrations.lock().get(announced).cloned();
        if let Some(registration) = next {
            announced += 1;
            let devices = registration.devices;
            let sensors = registration.sensors.to_vec();
            send.write_all(&ToTwin::Register { devices, sensors }.frame()?)
                .await?;
            continue;
        }
        tokio::select! {
            biased;
            Some(ClockAsked { asked_us, came_us }) = asks.recv() => {
                let left_us = line.system.clock().unix_us();
                let answer = ToTwin::Clock { asked_us, came_us, left_us };
                send.write_all(&answer.frame()?).await?;
            }
            () = shared.registered.notified() => {}
            () = goodbye_asked(&mut asked), if !said => {
                said = true;
                let t1_readings = shared.t1_sent.load(Ordering::Relaxed);
                send.write_all(&ToTwin::Bye { t1_readings }.frame()?).await?;
            }
        }
    }
}

/// Waits until the link is asked to say goodbye; for ever, if it is gone.
async fn goodbye_asked(asked: &mut watch::Receiver<bool>) {
    if asked.wait_for(|asked| *asked).await.is_err() {
        std::future::pending::<()>().await;
    }
}
