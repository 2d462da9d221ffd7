//! The requests of clients that watch.

use bytes::Bytes;
use keelson_proto::etcdserverpb::WatchCreateRequest;
use keelson_proto::etcdserverpb::watch_create_request::FilterType;

use super::clients::Creating;
use crate::check::watch::CheckedWatch;
use crate::sim::world::World;

/// The largest number of watches of a stream.
const WATCHES_MAX: usize = 5;

impl World {
    /// Sends one request on a stream.
    pub(super) fn send_watch_request(&mut self, number: usize) -> Result<(), String> {
        let count = self.watches.streams[number].len();
        match self.dice.between(0, 9) {
            _ if count == 0 => return self.create_watch(number),
            0..=2 if count < WATCHES_MAX => return self.create_watch(number),
            3 => self.cancel_watch(number),
            4 => return self.create_badly(number),
            // The timer of the member's periodic progress.
            5 => self.with_stream(number, |stream| stream.notify_progress()),
            6..=8 => return self.request_progress(number),
            _ => {}
        }
        Ok(())
    }

    fn create_watch(&mut self, number: usize) -> Result<(), String> {
        let request = self.draw_watch(number);
        self.create_so(number, request)
    }

    fn create_so(&mut self, number: usize, request: WatchCreateRequest) -> Result<(), String> {
        let watch = CheckedWatch::new(request.clone());
        self.create_on_stream(number, Creating::Watch(watch), request)
    }

    fn draw_watch(&mut self, number: usize) -> WatchCreateRequest {
        let key = self.dice.between(0, self.swarm.keys - 1);
        let range_end = match self.dice.between(0, 3) {
            0 => Bytes::new(),
            1 => Bytes::from_static(b"\0"),
            2 => Bytes::from_static(b"l"),
            _ => Bytes::from(format!("k{}", self.dice.between(key + 1, 10))),
        };
        // Keys have one digit: "k10" is below "k2".
        let range_end = match &range_end[..] {
            b"k10" => Bytes::from_static(b"l"),
            _ => range_end,
        };
        let revision = self.watches.log.revision();
        let back = self.dice.between(0, 60) as i64;
        let start_revision = match self.dice.between(0, 5) {
            0 | 1 => 0,
            2 => revision + self.dice.between(1, 20) as i64,
            3 => self.watches.log.compacted().max(1),
            _ => (revision - back).max(1),
        };
        let filters = match self.dice.between(0, 7) {
            0 => vec![FilterType::Noput.into()],
            1 => vec![FilterType::Nodelete.into()],
            _ => Vec::new(),
        };
        let client = &mut self.watches.streams[number];
        let watch_id = match self.dice.chance(0.3) {
            true => {
                client.last_id += 1;
                1_000 + client.last_id
            }
            false => 0,
        };
        WatchCreateRequest {
            key: Bytes::from(format!("k{key}")),
            range_end,
            start_revision,
            progress_notify: self.dice.chance(0.5),
            filters,
            prev_kv: self.dice.chance(0.5),
            watch_id,
            fragment: self.dice.chance(0.4),
        }
    }

    /// Creates a watch that must be refused.
    fn create_badly(&mut self, number: usize) -> Result<(), String> {
        let mut request = self.draw_watch(number);
        match self.dice.between(0, 2) {
            // The id of a watch that certainly exists: one from a compacted revision ends at once.
            0 if request.watch_id != 0 => {
                request.start_revision = 0;
                self.create_so(number, request.clone())?;
            }
            1 => request.range_end = Bytes::from_static(b"a"),
            _ => request.start_revision = -1,
        }
        self.create_on_stream(number, Creating::Bad, request)
    }

    fn cancel_watch(&mut self, number: usize) {
        let ids: Vec<i64> = self.watches.streams[number]
            .watches
            .keys()
            .copied()
            .collect();
        let Some(id) = self.dice.pick(&ids) else {
            return;
        };
        if let Some(watch) = self.watches.streams[number].watches.get_mut(&id) {
            watch.cancel();
        }
        self.with_stream(number, |stream| stream.cancel(id));
    }
}
