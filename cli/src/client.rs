//! The connection to the hub: which hub, how it is known, and the credential on every call.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use flotilla_api::access::{self, Access, Context};
use flotilla_proto::fleet::v1::fleet_service_client::FleetServiceClient;
use flotilla_proto::tls::{HubVerifier, Pin};
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use crate::error::CommandError;
use crate::{Global, Host};

/// The fleet's service on one hub.
pub(crate) type Fleet = FleetServiceClient<InterceptedService<Channel, Bearer>>;

/// The longest answer taken from a hub: a page of objects, each as large as Kubernetes allows.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// The longest that connection and handshake take.
const CONNECT: Duration = Duration::from_secs(15);

/// Puts the credential on every call.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// Connects to the hub that options, environment and files name.
pub(crate) async fn connect(global: &Global, host: &Host) -> Result<Fleet, CommandError> {
    let (path, text) = configuration(global, host)?;
    let unusable = |why: String| CommandError::usage(format!("{} cannot be used: {why}", path.display()));
    let access = Access::read(&text).map_err(|error| unusable(error.to_string()))?;
    let context = access
        .context(global.context.as_deref())
        .map_err(|error| unusable(error.to_string()))?;
    dial(context, global).await.map_err(|error| match error {
        DialError::Unusable(why) => unusable(why),
        DialError::Unreachable(why) => CommandError::unreachable(format!(
            "the hub at {} cannot be reached: {why}",
            context.endpoint
        ))
        .hint(format!("it is named by {}", path.display())),
    })
}

/// Finds the file that says how to reach the hub: the first that is named or there.
fn configuration(global: &Global, host: &Host) -> Result<(PathBuf, String), CommandError> {
    let named = global
        .config
        .clone()
        .or_else(|| host.variable("FLOTILLA_CONFIG"))
        .map(PathBuf::from);
    if let Some(path) = named {
        let text = std::fs::read_to_string(&path)
            .map_err(|error| CommandError::usage(format!("cannot read {}: {error}", path.display())))?;
        return Ok((path, text));
    }
    let variable = |name: &str| host.variable(name);
    let folders = [access::config_dir(variable), Some(access::data_dir(variable))];
    for path in folders
        .into_iter()
        .flatten()
        .map(|folder| folder.join(access::FILE))
    {
        match std::fs::read_to_string(&path) {
            Ok(text) => return Ok((path, text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(CommandError::usage(format!(
                    "cannot read {}: {error}",
                    path.display()
                )));
            }
        }
    }
    Err(CommandError::usage("no hub is configured")
        .hint("start one on this machine with flotilla-hub")
        .hint("or name a file with --config or FLOTILLA_CONFIG"))
}

enum DialError {
    Unusable(String),
    Unreachable(String),
}

async fn dial(context: &Context, global: &Global) -> Result<Fleet, DialError> {
    let pins: Vec<Pin> = context
        .pins
        .iter()
        .map(|pin| {
            pin.parse()
                .map_err(|error| DialError::Unusable(format!("pin {pin:?}: {error}")))
        })
        .collect::<Result<_, _>>()?;
    let bearer = format!("Bearer {}", context.token)
        .parse()
        .map_err(|_| DialError::Unusable("the token holds characters no token has".to_owned()))?;
    let verifier = Arc::new(HubVerifier::new(pins, &context.trust_domain));
    let unusable =
        |error: tonic::transport::Error| DialError::Unusable(format!("endpoint: {}", causes(&error)));
    let endpoint = Endpoint::from_shared(context.endpoint.clone())
        .map_err(unusable)?
        .tls_config_with_verifier(ClientTlsConfig::new(), verifier)
        .map_err(unusable)?
        .timeout(global.timeout)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    // The transport's own bound is one of the connection alone, without the handshake on it. Where the command ends
    // first, both say so at once, and this one says more.
    let bound = global.timeout.min(CONNECT);
    let end = global.end().min(Instant::now() + CONNECT);
    let channel = tokio::time::timeout_at(end, endpoint.connect())
        .await
        .map_err(|_| DialError::Unreachable(format!("no TLS connection within {bound:?}")))?
        .map_err(|error| DialError::Unreachable(causes(&error)))?;
    Ok(FleetServiceClient::with_interceptor(channel, Bearer(bearer))
        .max_decoding_message_size(MAX_ANSWER_BYTES))
}

/// Writes the innermost cause of an error: a transport's outer texts say nothing by themselves.
fn causes(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    match innermost.to_string() {
        text if text.ends_with("UnknownIssuer") => {
            "its root certificate is none of the pinned ones".to_owned()
        }
        text if text.ends_with("NotValidForName") => {
            "its certificate is not that of a hub of this trust domain".to_owned()
        }
        text => text,
    }
}
