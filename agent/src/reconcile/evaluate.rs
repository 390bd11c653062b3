//! Makes of a unit's entry the objects to apply: variables, substitution, parsing, labels, namespaces. Pure over
//! what the ledger holds and what the cluster serves. A set is given whole or not at all: one object that cannot
//! be evaluated must not look like one that is no longer wanted.
//!
//! An [`Evaluation`] takes its inputs from the ledger at its beginning and then goes object by object, so that
//! the ledger is not locked and the runtime not blocked meanwhile. Dropping it ends it. It keeps no body: what is written later is
//! made again from the same inputs.

mod inputs;
mod kinds;
mod native;
mod normal;
mod since;
mod wanted;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use flotilla_core::{
    apply::{
        ignore::{Pointer, Rules},
        plan::Desired,
        policy::Policy,
        protected::Protected,
    },
    content::Table,
    digest::{Digest, write_canonical},
    object::ObjectKey,
    unit::{Entry, event::EvaluatedFrom, object::Withholding},
};
use inputs::{Inputs, Parsed, Unparsed, Values};
use kinds::Kinds;
use serde_json::Value;
pub use since::Since;
pub(super) use since::shared_key;
pub use wanted::Only;

use super::keyrings::Keyring;
use crate::{
    blocking,
    cluster::{Discovery, Resource, Served},
    ledger::state::State,
};

/// An object as it would be sent, without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Key, digest and switches.
    pub desired: Desired,
    /// Its API version.
    pub api_version: String,
    /// How the cluster serves its kind; `None` when it does not, or when that is not known.
    pub resource: Option<Resource>,
    /// Whether its kind lives in namespaces is not known: its key is that of the manifest, or that of the
    /// inventory's record of this name. It is desired, and waits until its kind is served.
    pub unresolved: bool,
    /// Discovery of its group failed: that its kind is not served says nothing.
    pub group_failed: bool,
    /// It is a Secret, or a value of a Secret stands in it: what the API server says of it may quote values.
    pub secret: bool,
    /// Why it is not to be written although it is desired.
    pub withheld: Option<Withholding>,
    /// Fields that are left to others.
    pub left: Vec<Pointer>,
    /// Where it stands in the evaluation: see [`Evaluation::object`].
    pub index: usize,
}

/// Why there are no objects. Each says which reason the unit's status gives.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluateError {
    /// Nothing was rendered for this unit yet.
    #[error("nothing is rendered yet")]
    NotRendered,
    /// The ledger lacks the content or a part of it.
    #[error("{0}")]
    Missing(String),
    /// The entry asks for what this version cannot do.
    #[error("{0}")]
    NotSupported(String),
    /// Building failed, in Flux's words.
    #[error("{0}")]
    Build(String),
    /// A service does not open a data key, and may later, without a word.
    #[error("{message}")]
    KeyService {
        /// Why, in Flux's words.
        message: String,
        /// It does not answer now; else it refuses.
        passes: bool,
    },
}

impl EvaluateError {
    /// The reason for the unit's status.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotRendered => "ArtifactFailed",
            Self::Missing(_) => "ContentMissing",
            Self::NotSupported(_) => "NotSupported",
            Self::Build(_) | Self::KeyService { .. } => "BuildFailed",
        }
    }
}

/// How often services are asked for keys of one object: each time opens another.
const ASKED: usize = 512;

/// What the cluster and the agent bring to an evaluation.
#[derive(Debug, Clone)]
pub struct Environment {
    /// What the cluster serves.
    pub discovery: Arc<Discovery>,
    /// Whether kinds live in namespaces, by group and kind, as last known.
    pub known: Arc<BTreeMap<(String, String), bool>>,
    /// What no unit may write.
    pub protected: Protected,
    /// The namespaces that the agent works in; empty: all.
    pub namespaces: Arc<BTreeSet<String>>,
    /// The ledger's own key, for digests of what is sent.
    pub key: [u8; 32],
    /// What decrypts the entry's objects; `None`: nothing of them is to be.
    pub keyring: Option<Keyring>,
}

/// What one step of an evaluation gave.
#[derive(Debug)]
pub enum Step {
    /// A definition of the set was read for the scope of its kind.
    Definition,
    /// The next object, and its body.
    Object(Box<Object>, Value),
}

/// What an evaluation begins with: what the ledger holds of an entry, and where its kinds live.
#[derive(Debug)]
struct Ground {
    entry: Arc<Entry>,
    table: Arc<Table>,
    values: Values,
    kinds: Kinds,
    left: Rules,
    protected: Protected,
    namespaces: Arc<BTreeSet<String>>,
    key: [u8; 32],
    keyring: Option<Keyring>,
}

/// One evaluation of an entry, step by step; other tasks run between two steps.
#[derive(Debug)]
pub struct Evaluation {
    inputs: Arc<Inputs>,
    kinds: Kinds,
    left: Rules,
    protected: Protected,
    namespaces: Arc<BTreeSet<String>>,
    key: [u8; 32],
    withheld: HashMap<ObjectKey, String>,
    /// Indices of definitions still to be read for their scope.
    definitions: Vec<usize>,
    /// Indices of objects still to be evaluated, last first.
    rest: Vec<usize>,
    /// Digests of the keys so far: a set may have many objects.
    seen: HashSet<Digest>,
    /// Objects were passed over.
    partial: bool,
    /// What is taken over from the evaluation before.
    unchanged: BTreeSet<Arc<ObjectKey>>,
    /// What this evaluation depends on.
    from: Option<EvaluatedFrom>,
    /// Of some it is not known where they live, and so which they are.
    unresolved: bool,
    failed: bool,
}

impl Ground {
    fn of(state: &State, entry: &Arc<Entry>, environment: Environment) -> Result<Self, EvaluateError> {
        let Environment {
            discovery,
            known,
            protected,
            namespaces,
            key,
            keyring,
        } = environment;
        Ok(Self {
            table: inputs::content(state, entry)?,
            values: Values::of(state, entry)?,
            kinds: Kinds::new(discovery, known, state.units.get(&entry.unit)),
            left: Rules::new(&entry.settings.ignore).map_err(|e| EvaluateError::Build(e.to_string()))?,
            entry: entry.clone(),
            protected,
            namespaces,
            key,
            keyring,
        })
    }

    /// Begins with some rows, in the renderer's order. Definitions of unserved groups are read besides, for the scope of
    /// their kinds.
    fn begin(self, state: &State, wanted: &[u32], unserved: &BTreeSet<String>) -> Evaluation {
        let definitions = kinds::definitions(&self.table, unserved);
        let rows: BTreeSet<u32> = wanted.iter().chain(&definitions).copied().collect();
        let inputs = Inputs::of(
            state,
            &self.entry,
            self.table,
            self.values,
            self.keyring,
            rows.into_iter(),
        );
        let mut rest = inputs.positions(wanted);
        rest.reverse();
        let withheld = self.entry.withheld.iter();
        let withheld = withheld.map(|withheld| (withheld.key.clone(), withheld.owner.clone()));
        Evaluation {
            definitions: inputs.positions(&definitions),
            kinds: self.kinds,
            left: self.left,
            protected: self.protected,
            namespaces: self.namespaces,
            key: self.key,
            withheld: withheld.collect(),
            rest,
            seen: HashSet::new(),
            partial: false,
            unchanged: BTreeSet::new(),
            from: None,
            unresolved: false,
            failed: false,
            inputs: Arc::new(inputs),
        }
    }
}

impl Evaluation {
    /// Begins to evaluate an entry. With `only`, other objects are passed over, and the set is not complete. Copies
    /// no body: the ledger's bytes are shared.
    pub fn begin(
        state: &State,
        entry: &Arc<Entry>,
        environment: Environment,
        only: Option<Only<'_>>,
    ) -> Result<Self, EvaluateError> {
        let ground = Ground::of(state, entry, environment)?;
        let table = &ground.table;
        let (wanted, unserved) = match only {
            Some(only) => {
                let wanted = only.rows(table, |name| ground.values.of_name(name));
                let of = wanted.iter().map(|row| table.name(*row));
                let unserved = ground
                    .kinds
                    .unserved_groups(of.map(|(group, kind, _)| (group, kind)));
                (wanted, unserved)
            }
            None => (
                table.rows().collect(),
                ground.kinds.unserved_groups(table.kinds()),
            ),
        };
        Ok(Self {
            partial: only.is_some(),
            ..ground.begin(state, &wanted, &unserved)
        })
    }

    /// Takes out the keys of the objects that are the same as before.
    pub fn unchanged(&mut self) -> BTreeSet<Arc<ObjectKey>> {
        std::mem::take(&mut self.unchanged)
    }

    /// What the objects are evaluated from; `None`: nothing can be taken over from them.
    pub fn evaluated_from(&self) -> Option<EvaluatedFrom> {
        self.from
    }

    /// Takes the next step; `None` at the end. After an error there is no set. Cancel-safe: a step that was not
    /// waited for is taken again.
    pub async fn next(&mut self) -> Option<Result<Step, EvaluateError>> {
        if let Some(&index) = self.definitions.last() {
            let read = self.parse(index).await;
            self.definitions.pop();
            let step = read.map(|parsed| {
                self.kinds.define(&parsed.value);
                Step::Definition
            });
            return Some(self.checked(step));
        }
        let index = *self.rest.last()?;
        let parsed = self.parse(index).await;
        self.rest.pop();
        let object = parsed.and_then(|parsed| self.make(index, parsed));
        let step = object.and_then(|(object, value)| {
            self.unresolved |= object.unresolved;
            if self.seen.insert(digest(&object.desired.key)) {
                return Ok(Step::Object(Box::new(object), value));
            }
            Err(EvaluateError::Build(format!(
                "kustomize build failed: {} occurs twice",
                object.desired.key
            )))
        });
        Some(self.checked(step))
    }

    fn checked(&mut self, step: Result<Step, EvaluateError>) -> Result<Step, EvaluateError> {
        self.failed |= step.is_err();
        step
    }

    /// Evaluates one object again, whose body was dropped, or whose kind is served since.
    pub async fn object(&self, index: usize) -> Result<(Object, Value), EvaluateError> {
        self.make(index, self.parse(index).await?)
    }

    /// Parses an object, and asks for the keys that this takes.
    async fn parse(&self, index: usize) -> Result<Parsed, EvaluateError> {
        for _ in 0..ASKED {
            match self.read(index).await {
                Ok(parsed) => return Ok(parsed),
                Err(Unparsed::Failed(error)) => return Err(error),
                Err(Unparsed::Unasked(unasked)) => self.inputs.ask(index, &unasked).await?,
            }
        }
        Err(EvaluateError::Build(format!(
            "decryption failed: an object is encrypted with more than {ASKED} data keys"
        )))
    }

    /// Reads an object, and lets other tasks run: before, and meanwhile where it takes long.
    async fn read(&self, index: usize) -> Result<Parsed, Unparsed> {
        if !self.inputs.is_heavy(index) {
            tokio::task::yield_now().await;
            return self.inputs.parse(index);
        }
        let inputs = self.inputs.clone();
        blocking::run(move || inputs.parse(index)).await
    }

    fn make(&self, index: usize, parsed: Parsed) -> Result<(Object, Value), EvaluateError> {
        let mut value = normal::decorate(parsed.value, self.inputs.unit())?;
        let api_version = value["apiVersion"].as_str().unwrap_or_default().to_owned();
        let kind = value["kind"].as_str().unwrap_or_default().to_owned();
        let unresolved = self
            .kinds
            .settle(&mut value, &self.inputs.unit().settings.default_namespace);
        let key = ObjectKey::of(&value).ok_or_else(|| {
            EvaluateError::Build(format!(
                "kustomize build failed: {api_version} {kind} without a name"
            ))
        })?;
        let mut bytes = String::new();
        write_canonical(&value, &mut bytes);
        // What is sent depends on them: a rule that comes or goes counts from then on.
        let left = self.left.of(&value);
        left.iter().for_each(|pointer| bytes.push_str(&pointer.text()));
        let discovery = self.kinds.discovery();
        let resource = match discovery.find(&api_version, &kind) {
            Served::Yes(resource) => Some(resource.clone()),
            Served::OtherVersions | Served::No | Served::Unknown => None,
        };
        let object = Object {
            unresolved,
            group_failed: resource.is_none() && discovery.failed(&key.group),
            secret: parsed.secret || key.is_secret(),
            withheld: self.withheld(&key).or_else(|| self.without_namespace(&key)),
            left,
            desired: Desired {
                digest: Digest::keyed(&self.key, "sent", bytes.as_bytes()),
                policy: Policy::of(&value["metadata"]),
                key,
            },
            api_version,
            resource,
            index,
        };
        Ok((object, value))
    }

    /// Goes on with what the cluster serves now.
    pub fn rediscovered(&mut self, discovery: Arc<Discovery>) {
        self.kinds.rediscovered(discovery);
    }

    /// Tells whether all objects were given, each is known by its key, and whoever rendered asserts that nothing is
    /// missing: only then is what is not among them desired no more.
    pub fn is_complete(&self) -> bool {
        let ended = self.rest.is_empty() && self.definitions.is_empty() && !self.failed;
        self.inputs.is_complete() && !self.partial && !self.unresolved && ended
    }

    /// What lives in namespaces and names none is refused, in Flux's words: no namespace is guessed.
    fn without_namespace(&self, key: &ObjectKey) -> Option<Withholding> {
        let is_lacking =
            key.namespace.is_empty() && self.kinds.namespaced(&key.group, &key.kind) == Some(true);
        is_lacking.then(|| Withholding {
            reason: "ReconciliationFailed",
            message: format!(
                "{}/{} namespace not specified: the server could not find the requested resource; name it in the manifest, \
                 or in spec.targetNamespace",
                key.kind, key.name
            ),
        })
    }

    fn withheld(&self, key: &ObjectKey) -> Option<Withholding> {
        if self.protected.covers_write(key) {
            let message = format!("{key} is the agent's own: no unit may write it");
            return Some(Withholding::conflict(message));
        }
        if let Some(owner) = self.withheld.get(key) {
            return Some(Withholding::conflict(format!("{key} is owned by {owner}")));
        }
        let namespace = &key.namespace;
        let is_elsewhere =
            !self.namespaces.is_empty() && !namespace.is_empty() && !self.namespaces.contains(namespace);
        is_elsewhere.then(|| Withholding {
            reason: "NamespaceNotWatched",
            message: format!(
                "{key} is not written: this agent does not watch namespace {namespace} and would see no drift there; \
                 add it to the agent's namespaces (rbac.tenant.namespaces of its chart, or FLOTILLA_NAMESPACES)"
            ),
        })
    }
}

/// No part of a key has a zero byte.
fn digest(key: &ObjectKey) -> Digest {
    let parts = [&*key.group, &key.kind, &key.namespace, &key.name];
    Digest::of("key", parts.join("\0").as_bytes())
}

#[cfg(test)]
mod tests;
