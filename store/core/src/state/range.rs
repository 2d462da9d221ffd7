//! Range: selection, order and limit of pairs.

use std::cmp::Ordering;

use keelson_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keelson_proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use keelson_proto::mvccpb::KeyValue;

use super::error::Error;
use super::keys::KeyRange;
use super::revision::RowKey;
use super::shared::{ReadError, Reads};

/// A header with the revision; the edge adds the rest.
pub(super) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

impl Reads<'_> {
    /// The revision at which a request reads.
    pub(super) fn revision(&self, requested: i64) -> Result<i64, Error> {
        let revision = if requested <= 0 {
            self.current
        } else {
            requested
        };
        match revision {
            future if future > self.current => Err(Error::FutureRev),
            old if old < self.compacted => Err(Error::Compacted),
            readable => Ok(readable),
        }
    }

    /// Answers a range request.
    pub(super) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, ReadError> {
        self.shared.counters.range();
        let revision = self.revision(request.revision)?;
        let fetch = if request.count_only {
            0
        } else {
            fetch_limit(request)
        };
        let (count, rows) = self.find(request, revision, fetch);
        let mut kvs = Vec::with_capacity(rows.len());
        for row in rows {
            let kv = self.row(row)?;
            if passes(request, &kv) {
                kvs.push(kv);
            }
        }
        sort(request, &mut kvs);
        let limit = usize::try_from(request.limit).unwrap_or(0);
        let more = limit > 0 && kvs.len() > limit;
        if more {
            kvs.truncate(limit);
        }
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        Ok(RangeResponse {
            header: header(self.current),
            kvs,
            more,
            count,
        })
    }

    /// The number of keys, and the rows of the first `fetch` of them.
    fn find(&self, request: &RangeRequest, revision: i64, fetch: usize) -> (i64, Vec<RowKey>) {
        let keys = KeyRange::new(&request.key, &request.range_end);
        let mut rows = Vec::new();
        if 0 < fetch {
            self.shared.index.visit(keys, revision, |_, row| {
                rows.push(row);
                rows.len() < fetch
            });
        }
        let count = match rows.len() < fetch {
            true => rows.len(),
            false => self.shared.index.count(keys, revision),
        };
        (count as i64, rows)
    }
}

/// How many keys are fetched in key order, before filters and sorting: with an order or a filter
/// all of them, else one more than the limit, to set `more`. An order of NONE counts as no order
/// even with a sort target: etcd applies the limit first and sorts then.
fn fetch_limit(request: &RangeRequest) -> usize {
    let all = request.sort_order != SortOrder::None as i32 || filtered(request);
    match usize::try_from(request.limit) {
        Ok(limit) if limit > 0 && !all => limit.saturating_add(1),
        _ => usize::MAX,
    }
}

/// Whether the request has a revision filter.
pub(super) fn filtered(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

fn passes(request: &RangeRequest, kv: &KeyValue) -> bool {
    let within =
        |value: i64, min: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
    within(
        kv.mod_revision,
        request.min_mod_revision,
        request.max_mod_revision,
    ) && within(
        kv.create_revision,
        request.min_create_revision,
        request.max_create_revision,
    )
}

fn sort(request: &RangeRequest, kvs: &mut [KeyValue]) {
    let target = request.sort_target();
    let descend = match request.sort_order() {
        // Rows come in key order.
        SortOrder::None | SortOrder::Ascend if target == SortTarget::Key => return,
        // A target without an order means ascending.
        SortOrder::None | SortOrder::Ascend => false,
        SortOrder::Descend => true,
    };
    let compare = |a: &KeyValue, b: &KeyValue| match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    };
    kvs.sort_by(|a, b| match descend {
        true => Ordering::reverse(compare(a, b)),
        false => compare(a, b),
    });
}
