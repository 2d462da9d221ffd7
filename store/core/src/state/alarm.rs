//! Alarms and the cluster version.

use keelson_proto::etcdserverpb::alarm_request::AlarmAction;
use keelson_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmResponse};
use keelson_proto::internal::ClusterVersion;
use prost::Message;

use super::range::header;
use super::registry::{Registry, alarm_key};
use super::{Response, StateMachine, meta};
use crate::engine::{Change, Table};

impl StateMachine {
    pub(super) fn apply_alarm(&mut self, request: &AlarmRequest) -> Response {
        let alarm = AlarmMember {
            member_id: request.member_id,
            alarm: request.alarm,
        };
        let alarms = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => self.registry.alarms(request.alarm),
            Ok(AlarmAction::Activate) => {
                self.activate(alarm);
                vec![alarm]
            }
            Ok(AlarmAction::Deactivate) => self.deactivate(alarm),
            Err(_) => Vec::new(),
        };
        Response::Alarm(AlarmResponse {
            header: header(self.shared.revision()),
            alarms,
        })
    }

    fn activate(&mut self, alarm: AlarmMember) {
        let mut registry = Registry::clone(&self.registry);
        if !registry.alarms.insert((alarm.alarm, alarm.member_id)) {
            return;
        }
        self.set_registry(registry);
        let key = alarm_key(alarm.alarm, alarm.member_id);
        let row = Change::Put(alarm.encode_to_vec().into());
        self.change(Table::Alarms, key, row);
    }

    fn deactivate(&mut self, alarm: AlarmMember) -> Vec<AlarmMember> {
        let mut registry = Registry::clone(&self.registry);
        if !registry.alarms.remove(&(alarm.alarm, alarm.member_id)) {
            return Vec::new();
        }
        self.set_registry(registry);
        let key = alarm_key(alarm.alarm, alarm.member_id);
        self.change(Table::Alarms, key, Change::Delete);
        vec![alarm]
    }

    pub(super) fn apply_version(&mut self, version: ClusterVersion) -> Response {
        let mut registry = Registry::clone(&self.registry);
        self.set_version(&mut registry, version.version);
        self.set_registry(registry);
        Response::Empty
    }

    /// etcd keeps the cluster version in the v2 tree as well.
    pub(super) fn set_version(&mut self, registry: &mut Registry, version: String) {
        let row = Change::Put(version.clone().into());
        self.change(Table::Meta, meta::CLUSTER_VERSION.into(), row);
        registry.version = Some(version);
        self.touch_tree();
    }
}
