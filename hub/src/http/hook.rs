//! The webhook receiver: Flux's `Receiver` of type `generic-hmac`. A call that proves knowledge of the token wakes
//! what the receiver names, and does nothing else: its body is digested as it arrives and never kept or parsed.
//! Calls that arrive while their receiver is being woken are one more waking together, however many they are.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, Request, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::any,
};
use futures::{FutureExt as _, StreamExt as _};
use ring::hmac;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// The largest body, as Flux bounds it.
pub const MAX_BODY: u64 = 3 << 20;
/// A body that is not there by then is given up.
const BODY_WITHIN: Duration = Duration::from_secs(30);
const SIGNATURE: &str = "x-signature";

/// The path at which a receiver is called, as Flux shows it in `status.webhookPath`.
pub fn hook_path(token: &[u8], name: &str, namespace: &str) -> String {
    let digest = Sha256::new()
        .chain_update(token)
        .chain_update(name)
        .chain_update(namespace)
        .finalize();
    format!("/hook/{}", hex::encode(digest))
}

/// A receiver that can be called.
pub struct Receiver<Id> {
    /// Names it towards [`Receivers::nudge`].
    pub id: Id,
    /// The token that signs calls.
    pub token: Zeroizing<Vec<u8>>,
}

/// What stands at a path.
pub enum Lookup<Id> {
    /// Nothing.
    Unknown,
    /// A receiver that is suspended, or not ready: its Secret is missing, its type is not supported.
    Closed,
    /// A receiver.
    Open(Receiver<Id>),
}

/// What receivers there are, and how their resources are woken.
pub trait Receivers: Send + Sync + 'static {
    /// Names a receiver.
    type Id: Send;

    /// Looks a path up: 64 lower-case hexadecimal digits, see [`hook_path`]. Anybody may ask for any path as often
    /// as they like, so the answer must come from memory.
    fn find(&self, digest: &str) -> impl Future<Output = Lookup<Self::Id>> + Send;

    /// Wakes the receiver's resources. A failure costs a poll interval and no more; it is answered with 500, so
    /// that the caller may repeat it.
    fn nudge(&self, id: Self::Id) -> impl Future<Output = Result<(), NudgeFailed>> + Send;
}

/// The receiver's resources could not be woken; the reason is logged where it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the receiver's resources could not be woken")]
pub struct NudgeFailed;

struct Hooks<R> {
    receivers: R,
    /// Paths whose receiver is being woken, and whether to wake it once more.
    waking: Mutex<HashMap<String, bool>>,
}

/// Routes `/hook/<digest>`.
pub fn router<R: Receivers>(receivers: R) -> Router {
    let hooks = Arc::new(Hooks {
        receivers,
        waking: Mutex::default(),
    });
    Router::new()
        .route("/hook/{digest}", any(call::<R>))
        .with_state(hooks)
}

async fn call<R: Receivers>(
    State(hooks): State<Arc<Hooks<R>>>,
    Path(digest): Path<String>,
    request: Request<Body>,
) -> Response {
    // A panic is a fault of ours and must stay this one request's.
    let answered = AssertUnwindSafe(hooks.answer(&digest, request))
        .catch_unwind()
        .await;
    let status = answered.unwrap_or_else(|_| {
        tracing::error!("a webhook call panicked");
        StatusCode::INTERNAL_SERVER_ERROR
    });
    status.into_response()
}

impl<R: Receivers> Hooks<R> {
    async fn answer(&self, digest: &str, request: Request<Body>) -> StatusCode {
        if !is_digest(digest) {
            return StatusCode::NOT_FOUND;
        }
        let receiver = match self.receivers.find(digest).await {
            Lookup::Unknown => return StatusCode::NOT_FOUND,
            Lookup::Closed => return StatusCode::SERVICE_UNAVAILABLE,
            Lookup::Open(receiver) => receiver,
        };
        match authenticate(&receiver.token, request).await {
            Ok(()) => self.wake(digest, receiver.id).await,
            Err(status) => status,
        }
    }

    async fn wake(&self, digest: &str, id: R::Id) -> StatusCode {
        let Some(mut waking) = Waking::begin(self, digest) else {
            return StatusCode::OK;
        };
        let mut id = Some(id);
        while let Some(target) = id.take() {
            if self.receivers.nudge(target).await.is_err() {
                return StatusCode::INTERNAL_SERVER_ERROR;
            }
            if waking.again() {
                // Looked up anew: what came in meanwhile may have come to a receiver that changed.
                if let Lookup::Open(receiver) = self.receivers.find(digest).await {
                    id = Some(receiver.id);
                }
            }
        }
        StatusCode::OK
    }

    fn waking(&self) -> std::sync::MutexGuard<'_, HashMap<String, bool>> {
        self.waking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one call that wakes a receiver; others leave word with it.
struct Waking<'a, R: Receivers> {
    hooks: &'a Hooks<R>,
    digest: &'a str,
    over: bool,
}

impl<'a, R: Receivers> Waking<'a, R> {
    /// Takes the part, or leaves word with whoever has it.
    fn begin(hooks: &'a Hooks<R>, digest: &'a str) -> Option<Self> {
        let mut waking = hooks.waking();
        if let Some(again) = waking.get_mut(digest) {
            *again = true;
            return None;
        }
        waking.insert(digest.to_owned(), false);
        Some(Self {
            hooks,
            digest,
            over: false,
        })
    }

    /// Takes word that was left; without any, the part is over.
    fn again(&mut self) -> bool {
        let mut waking = self.hooks.waking();
        let again = waking.get_mut(self.digest).is_some_and(std::mem::take);
        if !again {
            waking.remove(self.digest);
            self.over = true;
        }
        again
    }
}

impl<R: Receivers> Drop for Waking<'_, R> {
    fn drop(&mut self) {
        if !self.over {
            self.hooks.waking().remove(self.digest);
        }
    }
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Checks the signature over the body, in constant time and without keeping the body.
async fn authenticate(token: &[u8], request: Request<Body>) -> Result<(), StatusCode> {
    let (parts, body) = request.into_parts();
    if announced(&parts.headers).is_some_and(|length| length > MAX_BODY) {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    let (algorithm, signature) = signature(&parts.headers).ok_or(StatusCode::BAD_REQUEST)?;
    let key = hmac::Key::new(algorithm, token);
    let tag = tokio::time::timeout(BODY_WITHIN, digested(&key, body));
    let tag = tag.await.map_err(|_| StatusCode::REQUEST_TIMEOUT)??;
    // In constant time; only the length, which is public, is told apart early.
    if bool::from(tag.as_ref().ct_eq(&signature)) {
        Ok(())
    } else {
        Err(StatusCode::BAD_REQUEST)
    }
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads `<algorithm>=<hex>`.
fn signature(headers: &HeaderMap) -> Option<(hmac::Algorithm, Vec<u8>)> {
    let (algorithm, digits) = headers.get(SIGNATURE)?.to_str().ok()?.split_once('=')?;
    let algorithm = match algorithm {
        "sha1" => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        "sha256" => hmac::HMAC_SHA256,
        "sha512" => hmac::HMAC_SHA512,
        _ => return None,
    };
    Some((algorithm, hex::decode(digits).ok()?))
}

async fn digested(key: &hmac::Key, body: Body) -> Result<hmac::Tag, StatusCode> {
    let mut context = hmac::Context::with_key(key);
    let mut stream = body.into_data_stream();
    let mut length = 0;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| StatusCode::BAD_REQUEST)?;
        length += chunk.len() as u64;
        if length > MAX_BODY {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        context.update(&chunk);
    }
    Ok(context.sign())
}
