//! Reads the account of use of each member of a cluster.

use std::time::Duration;

use futures_util::future::join_all;
use keelson_proto::etcdserverpb::MemberListRequest;
use keelson_proto::etcdserverpb::cluster_client::ClusterClient;
use keelson_proto::keelsonpb::usage_client::UsageClient;
use keelson_proto::keelsonpb::{UsageRequest, UsageResponse};
use tonic::{Code, Status};

use super::uses::Sample;
use crate::commands::access::{MemberAccess, remedy};

/// The most bytes of an answer: a thousand prefixes have some hundred kilobytes.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub(super) enum SampleError {
    #[error("{url}: {reason}")]
    Refused { url: String, reason: String },
    #[error("the members do not have the service keelsonpb.Usage: they are an etcd's, or older")]
    NotOffered,
    #[error("no endpoint lists a member that has started")]
    NoMember,
}

impl SampleError {
    fn refused(url: &str, status: &Status) -> SampleError {
        let mut reason = status.message().to_owned();
        if let Some(remedy) = remedy(status) {
            reason += &format!(": {remedy}");
        }
        SampleError::Refused {
            url: url.to_owned(),
            reason,
        }
    }
}

/// The members of a cluster, as one of its endpoints lists them.
pub(super) struct SampledCluster {
    access: MemberAccess,
    answer_max: Duration,
    /// Of each member.
    urls: Vec<Vec<String>>,
    /// The member that counts keys and bytes.
    sizes_of: usize,
}

impl SampledCluster {
    /// Finds the members by the first endpoint that answers.
    ///
    /// # Errors
    /// None does.
    pub(super) async fn find(
        endpoints: &[String],
        access: MemberAccess,
        answer_max: Duration,
    ) -> Result<SampledCluster, SampleError> {
        let mut failure = SampleError::NoMember;
        for url in endpoints {
            let refused = |status| SampleError::refused(url, &status);
            let channel = match access.connect(url, answer_max).await {
                Ok(channel) => channel,
                Err(status) => {
                    failure = refused(status);
                    continue;
                }
            };
            let request = MemberListRequest {
                linearizable: false,
            };
            match ClusterClient::new(channel).member_list(request).await {
                Ok(list) => {
                    let members = list.into_inner().members.into_iter();
                    let urls = members.map(|member| member.client_ur_ls);
                    let urls: Vec<_> = urls.filter(|urls| !urls.is_empty()).collect();
                    if !urls.is_empty() {
                        return Ok(SampledCluster {
                            access,
                            answer_max,
                            urls,
                            sizes_of: 0,
                        });
                    }
                }
                Err(status) => failure = refused(status),
            }
        }
        Err(failure)
    }

    /// The use of all members. Sizes come from one that answers.
    ///
    /// # Errors
    /// None answers.
    pub(super) async fn sample(&mut self, sizes: bool) -> Result<Sample, SampleError> {
        let mut sample = self.sample_once(sizes).await?;
        for _ in 1..self.urls.len() {
            if !sizes || sample.has_sizes() {
                break;
            }
            self.sizes_of = (self.sizes_of + 1) % self.urls.len();
            sample = self.sample_once(sizes).await?;
        }
        Ok(sample)
    }

    /// All members at once: one that hangs does not delay the others' answers.
    async fn sample_once(&self, sizes: bool) -> Result<Sample, SampleError> {
        let members = self.urls.iter().enumerate();
        let members = members.map(|(member, urls)| async move {
            let sizes = sizes && member == self.sizes_of;
            let outcome = match self.member(urls, sizes).await {
                // It may be busy with other reads of all rows.
                Err(_) if sizes => self.member(urls, false).await,
                outcome => outcome,
            };
            (member, outcome)
        });
        let mut sample = Sample::default();
        let mut failure = None;
        for (member, outcome) in join_all(members).await {
            match outcome {
                Ok(usage) => sample.add(member, usage),
                Err(error) => {
                    sample.silent += 1;
                    failure = Some(error);
                }
            }
        }
        match failure {
            Some(error) if sample.is_empty() => Err(error),
            _ => Ok(sample),
        }
    }

    async fn member(&self, urls: &[String], sizes: bool) -> Result<UsageResponse, SampleError> {
        let mut failure = SampleError::NoMember;
        for url in urls {
            match self.call(url, sizes).await {
                Ok(usage) => return Ok(usage),
                Err(status) if status.code() == Code::Unimplemented => {
                    return Err(SampleError::NotOffered);
                }
                Err(status) => failure = SampleError::refused(url, &status),
            }
        }
        Err(failure)
    }

    async fn call(&self, url: &str, sizes: bool) -> Result<UsageResponse, Status> {
        loop {
            let channel = self.access.connect(url, self.answer_max).await?;
            let mut client = UsageClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
            match client.get(UsageRequest { sizes }).await {
                Ok(usage) => return Ok(usage.into_inner()),
                Err(status) if self.access.may_log_in_again(&status) => {}
                Err(status) => return Err(status),
            }
        }
    }
}
