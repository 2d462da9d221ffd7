//! Cluster metadata: members, removed members, alarms, versions.
//!
//! It is small and rarely changes: readers share one immutable value.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use keelson_proto::etcdserverpb::{AlarmMember, AlarmType, Member};
use prost::Message;

use super::error::StateError;
use super::meta;
use crate::Roster;
use crate::engine::{Engine, EngineError, Table};

/// The cluster metadata at one index.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Registry {
    pub(super) roster: Roster,
    /// Alarm type, then member: the order of etcd's list.
    pub(super) alarms: BTreeSet<(i32, u64)>,
    /// The cluster version, once decided.
    pub(super) version: Option<String>,
    /// The newest kind of command that each member can apply, as published.
    pub(super) command_versions: BTreeMap<u64, u32>,
    /// The cluster version to which a downgrade is in progress.
    pub(super) downgrade: Option<String>,
    /// The cluster follows another one.
    pub(super) is_standby: bool,
}

impl Registry {
    /// Whether any member has raised that alarm.
    pub(super) fn alarmed(&self, alarm: AlarmType) -> bool {
        let alarm = alarm as i32;
        let mut raised = self.alarms.range((alarm, 0)..=(alarm, u64::MAX));
        raised.next().is_some()
    }

    /// The alarms of one type, or all of them for type NONE.
    pub(super) fn alarms(&self, of: i32) -> Vec<AlarmMember> {
        let wanted = |alarm: i32| of == AlarmType::None as i32 || of == alarm;
        let raised = self.alarms.iter().filter(|(alarm, _)| wanted(*alarm));
        raised
            .map(|&(alarm, member_id)| AlarmMember { member_id, alarm })
            .collect()
    }

    /// Loads the metadata from the engine.
    pub(super) fn load(engine: &dyn Engine) -> Result<Registry, StateError> {
        let mut registry = Registry::default();
        for (_, row) in table(engine, Table::Members)? {
            let member = Member::decode(row).map_err(damaged)?;
            registry.roster.members.insert(member.id, member);
        }
        for (key, _) in table(engine, Table::Removed)? {
            registry.roster.removed.insert(id(&key)?);
        }
        for (_, row) in table(engine, Table::Alarms)? {
            let alarm = AlarmMember::decode(row).map_err(damaged)?;
            registry.alarms.insert((alarm.alarm, alarm.member_id));
        }
        for (key, row) in table(engine, Table::Meta)? {
            let Some(member) = key.strip_prefix(meta::COMMAND_VERSION_OF) else {
                continue;
            };
            let version = row[..].try_into().map_err(damaged)?;
            let version = u32::from_be_bytes(version);
            registry.command_versions.insert(id(member)?, version);
        }
        registry.is_standby = engine.get(Table::Meta, meta::STANDBY)?.is_some();
        registry.version = text(engine, meta::CLUSTER_VERSION)?;
        registry.downgrade = text(engine, meta::DOWNGRADE)?;
        Ok(registry)
    }
}

/// A row of the `Meta` table that is a text.
pub(super) fn text(engine: &dyn Engine, key: &[u8]) -> Result<Option<String>, EngineError> {
    let row = engine.get(Table::Meta, key)?;
    Ok(row.map(|text| String::from_utf8_lossy(&text).into_owned()))
}

/// The row key of a member or a removed member.
pub(super) fn member_key(id: u64) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}

/// The row key of a member's command version.
pub(super) fn command_version_key(id: u64) -> Bytes {
    Bytes::from([meta::COMMAND_VERSION_OF, &id.to_be_bytes()[..]].concat())
}

/// The row key of an alarm.
pub(super) fn alarm_key(alarm: i32, member: u64) -> Bytes {
    Bytes::from([&alarm.to_be_bytes()[..], &member.to_be_bytes()[..]].concat())
}

/// All rows of a small table.
pub(super) fn table(
    engine: &dyn Engine,
    table: Table,
) -> Result<BTreeMap<Bytes, Bytes>, StateError> {
    let mut rows = BTreeMap::new();
    engine.range(
        table,
        Bound::Unbounded,
        Bound::Unbounded,
        &mut |key, row| {
            rows.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(row));
            true
        },
    )?;
    Ok(rows)
}

fn id(key: &[u8]) -> Result<u64, StateError> {
    let bytes = key.try_into().map_err(damaged)?;
    Ok(u64::from_be_bytes(bytes))
}

fn damaged(error: impl std::fmt::Display) -> StateError {
    StateError::Damaged(format!("membership: {error}"))
}
