//! Flow control (RFC 9113, 5.2 and 6.9) in both directions.

use super::*;

impl<O: Owner> Session<O> {
    /// DATA was received. Returns the stream's owner; `None`: the stream is closed.
    ///
    /// # Errors
    /// A window is exceeded, or the stream is half-closed (RFC 9113, 5.1 and 6.9.1).
    pub fn recv_data(
        &self,
        stream: u32,
        flow_controlled_len: u32,
        end: bool,
    ) -> Result<Option<O>, ConnectionError> {
        let mut state = self.state.lock();
        state.recv_window -= i64::from(flow_controlled_len);
        if state.recv_window < 0 {
            let what = "more data than the connection's window holds";
            return Err(ConnectionError::new(ErrorCode::FLOW_CONTROL_ERROR, what));
        }
        let Some(entry) = state.streams.get_mut(&stream) else {
            if state.recent.has(stream) {
                return Err(ConnectionError::new(
                    ErrorCode::STREAM_CLOSED,
                    "data after the end",
                ));
            }
            self.release_connection_window(&mut state, flow_controlled_len);
            return Ok(None);
        };
        if entry.half_closed_remote {
            return Err(ConnectionError::new(
                ErrorCode::STREAM_CLOSED,
                "data after the end",
            ));
        }
        if entry.awaits_response.is_some() {
            return Err(ConnectionError::protocol("data before fields"));
        }
        entry.recv_window -= i64::from(flow_controlled_len);
        if entry.recv_window < 0 {
            let what = "more data than the window holds";
            return Err(ConnectionError::new(ErrorCode::FLOW_CONTROL_ERROR, what));
        }
        entry.unreleased += flow_controlled_len;
        entry.half_closed_remote = end;
        let owner = entry.owner.clone();
        state.recv_response(stream);
        Ok(Some(owner))
    }

    /// Received bytes of a stream have been forwarded or dropped: its window is opened again.
    pub fn release_capacity(&self, stream: u32, bytes: usize) {
        let mut state = self.state.lock();
        let Some(entry) = state.streams.get_mut(&stream) else {
            return;
        };
        let bytes = u32::try_from(bytes)
            .unwrap_or(u32::MAX)
            .min(entry.unreleased);
        entry.unreleased -= bytes;
        entry.unannounced += bytes;
        let by = entry.unannounced;
        if !entry.half_closed_remote && self.windows[0] / 2 <= by {
            entry.unannounced = 0;
            entry.recv_window += i64::from(by);
            state.put(|out| frame::put_window_update(out, stream, by));
        }
        self.release_connection_window(&mut state, bytes);
    }

    /// Opens the window of the connection again.
    pub(super) fn release_connection_window(&self, state: &mut State<O>, bytes: u32) {
        state.unannounced += bytes;
        let by = state.unannounced;
        if self.windows[1] / 2 <= by {
            state.unannounced = 0;
            state.recv_window += i64::from(by);
            state.put(|out| frame::put_window_update(out, 0, by));
        }
    }

    /// SETTINGS were received.
    ///
    /// # Errors
    /// A value is not allowed (RFC 9113, 6.5.2).
    pub fn recv_settings(&self, settings: &Settings<'_>) -> Result<Released<O>, ConnectionError> {
        let mut state = self.state.lock();
        let mut window = None;
        if !std::mem::replace(&mut state.settings_received, true) {
            state.streams_max = usize::MAX;
        }
        for (number, value) in settings.iter() {
            match number {
                setting::HEADER_TABLE_SIZE => state.table_size_reduced |= value < TABLE_BYTES,
                setting::ENABLE_PUSH if 1 < value => {
                    return Err(ConnectionError::protocol("pushing is on or off"));
                }
                setting::INITIAL_WINDOW_SIZE => window = Some(i64::from(value)),
                setting::MAX_CONCURRENT_STREAMS => {
                    state.streams_max = usize::try_from(value).unwrap_or(usize::MAX);
                }
                // Frames larger than the default are never sent.
                setting::MAX_FRAME_SIZE if !(16_384..1 << 24).contains(&value) => {
                    return Err(ConnectionError::protocol("an impossible size of frames"));
                }
                _ => {}
            }
        }
        if let Some(window) = window {
            let State {
                windows, streams, ..
            } = &mut *state;
            let deltas = streams.values().map(|entry| entry.send_window_delta);
            for id in windows.begin_with(window, deltas)? {
                state.schedule(id);
            }
        }
        state.put(frame::put_settings_ack);
        Ok(self.send_blocked(&mut state))
    }

    /// WINDOW_UPDATE was received.
    ///
    /// # Errors
    /// The window exceeds its maximum.
    pub fn recv_window_update(&self, stream: u32, by: u32) -> Result<Released<O>, ConnectionError> {
        let mut state = self.state.lock();
        let by = i64::from(by);
        if stream == 0 {
            state.window += by;
            if MAX_WINDOW < state.window {
                let what = "a window is too large";
                return Err(ConnectionError::new(ErrorCode::FLOW_CONTROL_ERROR, what));
            }
        } else {
            let State {
                windows, streams, ..
            } = &mut *state;
            let Some(entry) = streams.get_mut(&stream) else {
                return Ok(vec![]);
            };
            if !windows.grow(&mut entry.send_window_delta, by) {
                let what = "a stream's window is too large";
                return Err(ConnectionError::new(ErrorCode::FLOW_CONTROL_ERROR, what));
            }
            windows.forget(stream);
            state.schedule(stream);
        }
        Ok(self.send_blocked(&mut state))
    }

    /// Sends the data of blocked streams as far as possible, one stream after the other.
    pub(super) fn send_blocked(&self, state: &mut State<O>) -> Released<O> {
        let mut released = vec![];
        state.release();
        for _ in 0..state.blocked.len() {
            if state.window <= 0 || OUT_BYTES_HIGH <= state.out.len() {
                break;
            }
            let Some(id) = state.blocked.pop_front() else {
                break;
            };
            let Some((entry, mut writer)) = state.writer(id) else {
                continue;
            };
            let gone = writer.send_pending(id, entry);
            entry.scheduled = false;
            if 0 < gone {
                released.push((entry.owner.clone(), gone));
            }
            state.schedule(id);
            state.wake();
            self.close_if_half_closed(state, id);
        }
        released
    }
}
