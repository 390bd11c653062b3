//! How a stream begins: the agent's hello, the hub's welcome.

use std::time::Duration;

use flotilla_proto::{
    agent::v1::{
        AgentMessage, Hello, HubMessage, Welcome, agent_message, agent_service_client::AgentServiceClient,
        hub_message,
    },
    limits::DESIRED_BYTES,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use super::session::{SessionError, wire::send};

/// Longest wait for the hub's first message.
const WELCOME: Duration = Duration::from_secs(20);

/// A stream that the hub has welcomed.
pub(super) struct Opening {
    /// To the hub.
    pub(super) tx: mpsc::Sender<AgentMessage>,
    /// For calls beside the stream.
    pub(super) client: AgentServiceClient<Channel>,
    /// From the hub, after the welcome.
    pub(super) inbound: Streaming<HubMessage>,
    /// What the hub said first.
    pub(super) welcome: Welcome,
}

impl Opening {
    /// Opens a stream with a hello.
    pub(super) async fn of(channel: Channel, hello: Hello) -> Result<Self, SessionError> {
        let mut client = AgentServiceClient::new(channel).max_decoding_message_size(DESIRED_BYTES);
        let (tx, rx) = mpsc::channel(4);
        send(&tx, agent_message::Kind::Hello(hello)).await?;
        let opened = tokio::time::timeout(WELCOME, async {
            let mut inbound = client.connect(ReceiverStream::new(rx)).await?.into_inner();
            let first = inbound.message().await?;
            Ok::<_, tonic::Status>((inbound, first))
        });
        let (inbound, first) = opened
            .await
            .map_err(|_| SessionError::Ended("the hub does not answer".to_owned()))??;
        match first.and_then(|message| message.kind) {
            Some(hub_message::Kind::Welcome(welcome)) => Ok(Self {
                tx,
                client,
                inbound,
                welcome,
            }),
            _ => Err(SessionError::Ended(
                "the hub did not begin with a welcome".to_owned(),
            )),
        }
    }
}
