//! Access tokens, which a service gives out for credentials: kept until shortly before they end.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use zeroize::Zeroizing;

use super::{AskError, Request, Transport, transport::Answer};

/// A token that ends sooner is asked for again.
const RENEWED: Duration = Duration::from_secs(60);
/// How long a token lasts whose giver does not say it.
const LASTS: f64 = 600.0;
/// The longest that is believed.
const LASTS_AT_MOST: f64 = 86_400.0;

/// Tokens by what they are for.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<&'static str, (Zeroizing<String>, SystemTime)>>);

impl Tokens {
    fn lock(&self) -> MutexGuard<'_, HashMap<&'static str, (Zeroizing<String>, SystemTime)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that is good still.
    pub(super) fn get(&self, what_for: &'static str, transport: &dyn Transport) -> Option<Zeroizing<String>> {
        let tokens = self.lock();
        let (token, ends) = tokens.get(what_for)?;
        (*ends > transport.now() + RENEWED).then(|| token.clone())
    }

    /// Asks for one. `refused` says what helps where it is not given.
    pub(super) async fn ask(
        &self,
        what_for: &'static str,
        request: Request,
        remedy: &str,
        transport: &dyn Transport,
    ) -> Result<Zeroizing<String>, AskError> {
        let asked = transport.now();
        let answer = Answer::of(transport, request).await?;
        if !answer.is_success() {
            return Err(answer.refused(answer.word(&["error"]), remedy));
        }
        let token = answer.text(&["access_token"]);
        let token = token.ok_or_else(|| answer.incomplete("a token"))?;
        let token = Zeroizing::new(token.to_owned());
        let lasts = answer.number(&["expires_in"]).filter(|lasts| *lasts > 0.0);
        let lasts = Duration::from_secs_f64(lasts.unwrap_or(LASTS).min(LASTS_AT_MOST));
        self.lock().insert(what_for, (token.clone(), asked + lasts));
        Ok(token)
    }

    /// Forgets one that was refused.
    pub(super) fn forget(&self, what_for: &'static str) {
        self.lock().remove(what_for);
    }
}
