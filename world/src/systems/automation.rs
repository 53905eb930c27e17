//! Update, second: presence below its least value commands the device's relay to stop, and to
//! start when presence returns.
//!
//! Only edges command: the commanded state is mirrored in the row (and outlives the world in
//! [`Commanded`]). It never waits: a row whose command the lane cannot take stays listed, and is
//! judged by its newest value in the next cycle, so that a stop put off cannot overtake a start.
//! Whether the device obeyed is for tier T3 to report.
//!
//! Bound: the presence samples listed in [`Touched`].

use bevy_ecs::prelude::*;

use super::{
    Commanded, Intake, Outbox, RelayCommand, SystemId, Tally, Timings, Touched, WorldRules,
};
use crate::components::{Cold, Flags, Raw, State};

#[expect(
    clippy::too_many_arguments,
    reason = "a system's parameters are its data"
)]
pub(super) fn automation(
    mut rows: Query<'_, '_, (&Raw, &mut State, &Cold)>,
    rules: Res<'_, WorldRules>,
    intake: Res<'_, Intake>,
    commanded: Res<'_, Commanded>,
    mut touched: ResMut<'_, Touched>,
    mut outbox: ResMut<'_, Outbox>,
    mut tally: ResMut<'_, Tally>,
    mut timings: ResMut<'_, Timings>,
) -> Result {
    let _running = timings.enter(SystemId::Automation);
    if touched.presence.is_empty() {
        return Ok(());
    }
    let Some((raw, mut state, cold)) = rows.contiguous_iter_mut()?.next() else {
        return Ok(());
    };
    let state = state.bypass_change_detection();
    let decided_ns = intake.now_ns;
    let mut kept = 0;
    for at in 0..touched.presence.len() {
        let sample = touched.presence[at];
        let row = sample.row as usize;
        let value = if at < touched.deferred {
            raw[row].0
        } else {
            sample.value
        };
        let stop = value < rules.presence_min;
        if !value.is_finite() || stop == state[row].flags.has(Flags::STOPPED) {
            continue;
        }
        if outbox.commands.len() >= outbox.room {
            touched.presence[kept] = sample;
            kept += 1;
            tally.commands_deferred += 1;
            continue;
        }
        if stop {
            state[row].flags.set(Flags::STOPPED);
        } else {
            state[row].flags.clear(Flags::STOPPED);
        }
        commanded.set_stopped(sample.row, stop);
        let Cold {
            device,
            relay: sensor,
            sensor: by,
            ..
        } = cold[row];
        let command = RelayCommand {
            device,
            row: sample.row,
            sensor,
            by,
            start: !stop,
            decided_ns,
        };
        outbox.commands.push(command);
        tally.commands += 1;
    }
    touched.presence.truncate(kept);
    touched.deferred = kept;
    Ok(())
}
