//! Windows, both ways, and what they let pass.

use super::*;

impl Session {
    /// Data has come. Returns the stream's owner; `None`: the stream has ended.
    pub(in crate::h2) fn received(
        &self,
        stream: u32,
        flow: u32,
        end: bool,
    ) -> Result<Option<Owner>, Fault> {
        let mut state = self.state.lock();
        state.left -= i64::from(flow);
        if state.left < 0 {
            let what = "more data than the connection's window holds";
            return Err(Fault::new(Code::FLOW_CONTROL_ERROR, what));
        }
        let Some(known) = state.streams.get_mut(&stream) else {
            if state.recent.has(stream) {
                return Err(Fault::new(Code::STREAM_CLOSED, "data after the end"));
            }
            self.credit(&mut state, flow);
            return Ok(None);
        };
        if known.heard_all {
            return Err(Fault::new(Code::STREAM_CLOSED, "data after the end"));
        }
        if known.awaits.is_some() {
            return Err(Fault::protocol("data before fields"));
        }
        known.left -= i64::from(flow);
        if known.left < 0 {
            let what = "more data than the window holds";
            return Err(Fault::new(Code::FLOW_CONTROL_ERROR, what));
        }
        known.held += flow;
        known.heard_all = end;
        let owner = known.owner.clone();
        state.heard(stream);
        Ok(Some(owner))
    }

    /// So much of what has come for a stream has gone on.
    pub(in crate::h2) fn consumed(&self, stream: u32, bytes: usize) {
        let mut state = self.state.lock();
        let Some(known) = state.streams.get_mut(&stream) else {
            return;
        };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(known.held);
        known.held -= bytes;
        known.uncredited += bytes;
        let by = known.uncredited;
        if !known.heard_all && self.windows[0] / 2 <= by {
            known.uncredited = 0;
            known.left += i64::from(by);
            state.put(|out| frame::put_window(out, stream, by));
        }
        self.credit(&mut state, bytes);
    }

    /// The same for the window of the connection.
    pub(super) fn credit(&self, state: &mut State, bytes: u32) {
        state.uncredited += bytes;
        let by = state.uncredited;
        if self.windows[1] / 2 <= by {
            state.uncredited = 0;
            state.left += i64::from(by);
            state.put(|out| frame::put_window(out, 0, by));
        }
    }

    /// The other end's wishes.
    pub(in crate::h2) fn settings(&self, settings: &Settings<'_>) -> Result<Flowed, Fault> {
        let mut state = self.state.lock();
        let mut window = None;
        if !std::mem::replace(&mut state.agreed, true) {
            state.streams_max = usize::MAX;
        }
        for (number, value) in settings.iter() {
            match number {
                setting::TABLE_BYTES => state.shrunk |= value < TABLE_BYTES,
                setting::ENABLE_PUSH if 1 < value => {
                    return Err(Fault::protocol("pushing is on or off"));
                }
                setting::INITIAL_WINDOW => window = Some(i64::from(value)),
                setting::CONCURRENT_STREAMS_MAX => {
                    state.streams_max = usize::try_from(value).unwrap_or(usize::MAX);
                }
                // Larger frames than every end must take are never sent.
                setting::FRAME_BYTES_MAX if !(16_384..1 << 24).contains(&value) => {
                    return Err(Fault::protocol("an impossible size of frames"));
                }
                _ => {}
            }
        }
        if let Some(window) = window {
            let State {
                windows, streams, ..
            } = &mut *state;
            let differences = streams.values().map(|known| known.difference);
            for id in windows.begin_with(window, differences)? {
                state.list(id);
            }
        }
        state.put(frame::put_settings_ack);
        Ok(self.pump(&mut state))
    }

    /// The other end lets us send more.
    pub(in crate::h2) fn grown(&self, stream: u32, by: u32) -> Result<Flowed, Fault> {
        let mut state = self.state.lock();
        let by = i64::from(by);
        if stream == 0 {
            state.window += by;
            if WINDOW_MAX < state.window {
                let what = "a window is too large";
                return Err(Fault::new(Code::FLOW_CONTROL_ERROR, what));
            }
        } else {
            let State {
                windows, streams, ..
            } = &mut *state;
            let Some(known) = streams.get_mut(&stream) else {
                return Ok(vec![]);
            };
            if !windows.grow(&mut known.difference, by) {
                let what = "a stream's window is too large";
                return Err(Fault::new(Code::FLOW_CONTROL_ERROR, what));
            }
            windows.forget(stream);
            state.list(stream);
        }
        Ok(self.pump(&mut state))
    }

    /// Sends what was held up, as far as it may go now; every stream in its turn.
    pub(super) fn pump(&self, state: &mut State) -> Flowed {
        let mut flowed = vec![];
        state.release();
        for _ in 0..state.held_up.len() {
            if state.window <= 0 || UNSENT_BYTES_MAX <= state.out.len() {
                break;
            }
            let Some(id) = state.held_up.pop_front() else {
                break;
            };
            let Some((known, mut outlet)) = state.outlet(id) else {
                continue;
            };
            let gone = outlet.send_pending(id, known);
            known.listed = false;
            if 0 < gone {
                flowed.push((known.owner.clone(), gone));
            }
            state.list(id);
            state.wake();
            self.said_all(state, id);
        }
        flowed
    }
}
