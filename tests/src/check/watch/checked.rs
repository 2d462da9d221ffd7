//! One watcher, from its creation to its end, over any number of streams.

use std::fmt;

use keelson_proto::etcdserverpb::watch_create_request::FilterType;
use keelson_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use keelson_proto::mvccpb::Event;
use keelson_proto::mvccpb::event::EventType;

use super::EventLog;

/// A watcher, and how far it has been sent everything.
#[derive(Clone, Debug)]
pub struct CheckedWatch {
    request: WatchCreateRequest,
    /// The first revision whose events it has not been sent; none for a watch from now on until it
    /// is created.
    next: Option<i64>,
    /// It is created on its present stream.
    created: bool,
    /// The fragments of a response that is not complete.
    partial: Vec<Event>,
    /// The client has cancelled it.
    cancelling: bool,
    over: bool,
    /// The number of events that it was sent.
    pub events: u64,
}

/// The revision of an event's change.
fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

impl CheckedWatch {
    /// A watcher that a client is about to create with this request.
    pub fn new(request: WatchCreateRequest) -> CheckedWatch {
        CheckedWatch {
            next: Some(request.start_revision).filter(|start| *start != 0),
            request,
            created: false,
            partial: Vec::new(),
            cancelling: false,
            over: false,
            events: 0,
        }
    }

    /// The request that creates it on a new stream: as clientv3 does, it goes on after the last
    /// revision that it was sent all of. Its id is chosen anew by the server.
    pub fn resume(&mut self) -> WatchCreateRequest {
        self.partial.clear();
        self.created = false;
        self.request.start_revision = self.next.unwrap_or(0);
        self.request.watch_id = 0;
        self.request.clone()
    }

    /// Whether no further message may come.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Whether the client has cancelled it.
    pub fn is_cancelling(&self) -> bool {
        self.cancelling
    }

    /// The first revision whose events it has not been sent; 0 if that is not known yet.
    pub fn next(&self) -> i64 {
        self.next.unwrap_or(0)
    }

    /// The request that has created it last.
    pub fn request(&self) -> &WatchCreateRequest {
        &self.request
    }

    /// The client cancels it.
    pub fn cancel(&mut self) {
        self.cancelling = true;
    }

    /// Takes a response to this watcher.
    ///
    /// # Errors
    /// It violates one of the checks, which the text names.
    pub fn receive(&mut self, response: &WatchResponse, log: &EventLog) -> Result<(), String> {
        let at = response.header.as_ref().map_or(0, |header| header.revision);
        if self.over {
            return Err(self.violates("filter", "a response after the end"));
        }
        if log.revision() < at {
            let problem = format!("{at} is not committed; the last one is {}", log.revision());
            return Err(self.violates("reliable", &problem));
        }
        if response.created {
            if self.created || response.canceled {
                return Err(self.violates("filter", "created twice, or refused"));
            }
            self.created = true;
            self.next.get_or_insert(at + 1);
            return Ok(());
        }
        if response.canceled {
            self.over = true;
            return match response.compact_revision {
                0 if self.cancelling => Ok(()),
                0 => Err(self.violates("reliable", "it was cancelled without a reason")),
                compacted => self.compacted(compacted, log),
            };
        }
        if !self.created {
            return Err(self.violates("resumable", "a response before it was created"));
        }
        if response.events.is_empty() {
            return self.progress(at, log);
        }
        self.partial.extend_from_slice(&response.events);
        if response.fragment {
            return Ok(());
        }
        let events = std::mem::take(&mut self.partial);
        self.take(&events, at, log)
    }

    /// Takes a progress response for this watcher, or for its whole stream.
    ///
    /// # Errors
    /// It violates a check.
    pub fn progress(&mut self, at: i64, log: &EventLog) -> Result<(), String> {
        if !self.created || self.over {
            return Ok(());
        }
        if log.revision() < at {
            return Err(self.violates("bookmarkable", &format!("{at} is not committed")));
        }
        let next = self.next();
        if at + 1 < next {
            // etcd#20221.
            let problem = format!("progress at {at}, before the position of the watch");
            return Err(self.violates("bookmarkable", &problem));
        }
        if let Some(missed) = self.wanted(log, at).next() {
            let problem = format!("progress at {at} without {missed:?}");
            return Err(self.violates("bookmarkable", &problem));
        }
        self.next = Some(at + 1);
        Ok(())
    }

    /// Checks that everything up to that revision has been sent.
    ///
    /// # Errors
    /// An event is missing.
    pub fn complete(&self, upto: i64, log: &EventLog) -> Result<(), String> {
        if self.over || self.cancelling {
            return Ok(());
        }
        if !self.created {
            return Err(self.violates("reliable", "it was not created"));
        }
        match self.wanted(log, upto).next() {
            None => Ok(()),
            Some(missed) => Err(self.violates("reliable", &format!("not sent: {missed:?}"))),
        }
    }

    /// The watch was ended because of a compaction.
    fn compacted(&self, compacted: i64, log: &EventLog) -> Result<(), String> {
        let problem = match () {
            () if log.compacted() < compacted => "compacted to a revision that is not committed",
            () if compacted <= self.next() => "ended by a compaction that it is not behind",
            () => return Ok(()),
        };
        let problem = format!("{problem}: {compacted}, committed {}", log.compacted());
        Err(self.violates("reliable", &problem))
    }

    /// Takes the events of a complete response.
    fn take(&mut self, events: &[Event], at: i64, log: &EventLog) -> Result<(), String> {
        let mut last = 0;
        for event in events {
            let revision = revision_of(event);
            if log.revision() < revision {
                let problem = format!("{event:?} is sent before its revision is committed");
                return Err(self.violates("reliable", &problem));
            }
            if revision < last {
                return Err(self.violates("ordered", &format!("{event:?} after {last}")));
            }
            if revision < self.next() {
                let problem = format!("{event:?} is before its position");
                return Err(self.violates("unique, resumable", &problem));
            }
            if !self.wants(event) {
                return Err(self.violates("filter", &format!("{event:?}")));
            }
            last = revision;
        }
        if at < last {
            return Err(self.violates("bookmarkable", &format!("header {at} before {last}")));
        }
        self.compare(events, last, log)?;
        self.next = Some(last + 1);
        self.events += events.len() as u64;
        Ok(())
    }

    fn compare(&self, events: &[Event], last: i64, log: &EventLog) -> Result<(), String> {
        let mut sent = events.iter();
        for expected in self.wanted(log, last) {
            let Some(event) = sent.next() else {
                return Err(self.violates("atomic", &format!("without {expected:?}")));
            };
            let same = |event: &Event| event.r#type == expected.r#type && event.kv == expected.kv;
            if revision_of(expected) < revision_of(event) {
                let problem = format!("{event:?} is sent, {expected:?} is not");
                return Err(self.violates("reliable", &problem));
            }
            if !same(event) {
                let problem = format!("{event:?} is sent, {expected:?} is committed");
                return Err(self.violates("event", &problem));
            }
            self.check_previous(event, expected, log)?;
        }
        match sent.next() {
            None => Ok(()),
            Some(event) => Err(self.violates("unique", &format!("{event:?} was not committed"))),
        }
    }

    fn check_previous(
        &self,
        event: &Event,
        expected: &Event,
        log: &EventLog,
    ) -> Result<(), String> {
        let good = match &event.prev_kv {
            Some(_) => self.request.prev_kv && event.prev_kv == expected.prev_kv,
            None => {
                let may_be_gone = revision_of(event) <= log.compacted();
                !self.request.prev_kv || expected.prev_kv.is_none() || may_be_gone
            }
        };
        match good {
            true => Ok(()),
            false => {
                let problem = format!("{event:?}, expected {:?}", expected.prev_kv);
                Err(self.violates("previous pair", &problem))
            }
        }
    }

    /// The events from its position up to a revision.
    fn wanted<'a>(&'a self, log: &'a EventLog, upto: i64) -> impl Iterator<Item = &'a Event> {
        let events = log.events(self.next(), upto);
        events.filter(|event| self.wants(event))
    }

    /// Whether the event is in its range, and of a kind that it does not filter.
    pub fn wants(&self, event: &Event) -> bool {
        let filter = match event.r#type == i32::from(EventType::Put) {
            true => FilterType::Noput,
            false => FilterType::Nodelete,
        };
        let key = event.kv.as_ref().map_or(&[][..], |kv| &kv.key);
        let (from, end) = (&self.request.key[..], &self.request.range_end[..]);
        let inside = match end {
            [] => key == from,
            [0] => from <= key,
            end => from <= key && key < end,
        };
        inside && !self.request.filters.contains(&filter.into())
    }

    fn violates(&self, check: &str, problem: &str) -> String {
        format!("v3 watch: {check}: {problem}; {self}")
    }
}

impl fmt::Display for CheckedWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "position {:?} of {:?}", self.next, self.request)
    }
}
