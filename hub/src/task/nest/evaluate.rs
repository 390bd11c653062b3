//! Makes of a rendered object what the hub keeps: variables put in as the agent puts them into what it applies, read and checked
//! as its kind. Each alone; pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use flotilla_api::{Mode, Options, Resource, Scope, kind::FLEET, parse_value};
use flotilla_core::{
    apply::policy::Policy,
    carried,
    content::{Form, ObjectEntry},
    fleet::placement::Chosen,
    nest::account::{Account, Trust},
    object::ObjectKey,
    substitute::{self, SubstituteError, Variables},
    text::base64,
    unit::{Settings, Substitution, VariableLayer},
};
use flotilla_render::yaml;
use serde_json::{Map, Value, json};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{store::apply::NewResource, task::gather::Layers};

/// Bytes of one object after substitution, as for an agent.
const OBJECT_MAX: usize = 8 << 20;
/// Begin what is encrypted: as SOPS writes it, and as it leaves its file.
const ENCRYPTED: [&str; 2] = ["ENC[AES256_GCM,", carried::PREFIX];
/// Faults of one object that are named.
const NAMED: usize = 5;

/// What is done with the objects of an app before they are kept.
#[derive(Default)]
pub(super) struct Values {
    /// The variables that are put in; none where nothing is.
    layered: Option<Result<Layered, String>>,
    /// What is encrypted of them is decrypted in the cluster, with its keys.
    decrypts: bool,
}

struct Layered {
    variables: Variables,
    /// Names of those that have the value of a Secret. An object that names one may hold it, or a part of it, or tell
    /// something of it: its length, or whether it begins like a pattern.
    secrets: BTreeSet<String>,
    always: bool,
}

impl Values {
    /// Those of an app in a cluster, in the order in which a unit has them.
    pub(super) fn of(layers: &Layers, settings: &Settings, chosen: &Chosen) -> Self {
        let none = BTreeMap::new();
        let overrides = chosen.overrides.as_ref().unwrap_or(&none);
        let decrypts = settings.decryption.is_some();
        let always = match settings.substitution {
            Substitution::Off if overrides.is_empty() => {
                return Self {
                    layered: None,
                    decrypts,
                };
            }
            Substitution::Always => true,
            Substitution::Off | Substitution::WithVariables => false,
        };
        let is_secret = |layer: &VariableLayer| matches!(layer, VariableLayer::Config { secret: true, .. });
        let above = [&chosen.variables, overrides];
        let mut secrets = BTreeSet::new();
        for (layer, values) in layers.each() {
            match is_secret(layer) {
                true => secrets.extend(values.keys().cloned()),
                false => secrets.retain(|name| !values.contains_key(name)),
            }
        }
        secrets.retain(|name| !above.iter().any(|values| values.contains_key(name)));
        let own = layers.each().map(|(_, values)| values.clone());
        let variables = Variables::from_layers(own.chain(above.map(Clone::clone)));
        let layered = variables.map(|variables| Layered {
            variables,
            secrets,
            always,
        });
        Self {
            layered: Some(layered.map_err(|e| e.to_string())),
            decrypts,
        }
    }
}

/// What is put on every object, and what each may be.
pub(super) struct Decoration {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    /// The ServiceAccount that its app acts as.
    pub(super) account: Option<Account>,
    /// How far it is trusted.
    pub(super) trust: Arc<Trust>,
}

/// Why an object is not kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is wrong in itself.
    Invalid(String),
    /// Its app may not have it kept.
    Denied(String),
}

impl From<String> for Fault {
    fn from(why: String) -> Self {
        Self::Invalid(why)
    }
}

/// An object as it was read.
pub(super) struct Read {
    named: ObjectKey,
    key: Option<ObjectKey>,
    policy: Policy,
    outcome: Result<Resource, Fault>,
}

/// An object as it is stored.
pub(super) struct Evaluated {
    /// As the source calls it.
    pub(super) named: ObjectKey,
    /// What it is called; `None`: that is not known.
    pub(super) key: Option<ObjectKey>,
    /// Its switches.
    pub(super) policy: Policy,
    /// What is stored, or what is wrong with it.
    pub(super) outcome: Result<NewResource, Fault>,
}

impl Read {
    pub(super) fn into_row(self, key: &[u8; 32], scope: Uuid) -> Evaluated {
        Evaluated {
            named: self.named,
            key: self.key,
            policy: self.policy,
            outcome: self.outcome.and_then(|resource| {
                let row = NewResource::of(key, scope, &resource);
                let is_storable = ![&row.labels, &row.annotations, &row.spec]
                    .into_iter()
                    .any(has_nul);
                match is_storable {
                    true => Ok(row),
                    false => Err(Fault::Invalid(
                        "it has the character U+0000, which cannot be stored".to_owned(),
                    )),
                }
            }),
        }
    }
}

/// Whether a text somewhere in it has a character that the database does not take in a text.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(each) => each.iter().any(has_nul),
        Value::Object(fields) => fields
            .iter()
            .any(|(name, one)| name.contains('\0') || has_nul(one)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Has each name stand for one object: one that comes again is a fault.
pub(super) fn once(mut set: Vec<Evaluated>) -> Vec<Evaluated> {
    let mut seen = BTreeSet::new();
    for one in &mut set {
        let is_first = one.key.as_ref().is_none_or(|key| seen.insert(key.clone()));
        if !is_first {
            one.key = None;
            one.outcome = Err("another object of the rendering has this name".to_owned().into());
        }
    }
    set
}

/// Evaluates one object.
pub(super) fn evaluate(
    entry: &ObjectEntry,
    bytes: &[u8],
    values: &Values,
    decoration: &Decoration,
    scope: &Scope,
) -> Read {
    let read = |key, policy, outcome| Read {
        named: entry.key.clone(),
        key,
        policy,
        outcome,
    };
    let mut value = match value(entry, bytes, values) {
        Ok(value) => value,
        Err(why) => return read(None, Policy::default(), Err(why.into())),
    };
    if !value.is_object() {
        return read(None, Policy::default(), Err("it is no object".to_owned().into()));
    }
    for (field, entries) in [
        ("labels", &decoration.labels),
        ("annotations", &decoration.annotations),
    ] {
        add(&mut value["metadata"], field, entries);
    }
    let Some(mut key) = ObjectKey::of(&value) else {
        let why = "it has no name any more".to_owned();
        return read(None, Policy::default(), Err(why.into()));
    };
    let policy = Policy::of(&value["metadata"]);
    if key.group == FLEET {
        let why = "an app that has a cluster cannot configure the fleet: `flotilla apply` it";
        return read(Some(key), policy, Err(why.to_owned().into()));
    }
    let account = decoration.account.as_ref();
    if let Err(why) = decoration.trust.admit(account, &key, &mut value) {
        return read(Some(key), policy, Err(Fault::Denied(why)));
    }
    if values.decrypts && is_encrypted(&value) {
        let why = "something of it is encrypted, and only the cluster can decrypt it; what names it needs it decrypted: \
                   `flotilla apply` it";
        return read(Some(key), policy, Err(why.to_owned().into()));
    }
    let options = Options {
        file: "",
        mode: Mode::Nested,
        scope: scope.clone(),
        namespace: None,
    };
    let is_secret = key.is_secret();
    let parsed = parse_value(value, &options);
    let outcome = parsed.outcome.map_err(|invalid| {
        let faults = invalid.problems.iter().take(NAMED).map(|one| match is_secret {
            // What is wrong may be quoted.
            true => one.path.to_string(),
            false => format!("{}: {}", one.path, one.message),
        });
        let faults: Vec<String> = faults.collect();
        Fault::Invalid(faults.join("; "))
    });
    if let Ok(resource) = &outcome {
        resource.id.namespace.clone_into(&mut key.namespace);
    }
    read(Some(key), policy, outcome)
}

/// Whether an object holds what SOPS has encrypted, in whichever of its texts: taken as it is, that would stand for the value.
fn is_encrypted(object: &Value) -> bool {
    let holds = |text: &str| ENCRYPTED.iter().any(|mark| text.contains(mark));
    let mut left = vec![object];
    while let Some(value) = left.pop() {
        match value {
            Value::String(text) if holds(text) => return true,
            Value::Array(items) => left.extend(items),
            Value::Object(fields) => left.extend(fields.values()),
            _ => {}
        }
    }
    let data = object["data"].as_object().filter(|_| object["kind"] == "Secret");
    let mut data = data.into_iter().flat_map(|data| data.values());
    data.any(|value| {
        let bytes = value.as_str().and_then(base64::decode);
        bytes.is_some_and(|bytes| holds(&String::from_utf8_lossy(&Zeroizing::new(bytes))))
    })
}

/// The object with variables put in.
fn value(entry: &ObjectEntry, bytes: &[u8], values: &Values) -> Result<Value, String> {
    let text = match entry.form {
        Form::Json => return serde_json::from_slice(bytes).map_err(|_| "it is not readable".to_owned()),
        Form::Yaml => std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?,
    };
    let template = parsed(text)?;
    let layered = match &values.layered {
        None => return Ok(template),
        Some(layered) => layered.as_ref().map_err(Clone::clone)?,
    };
    if !substitute::runs(&layered.variables, layered.always) || substitute::is_disabled(&template["metadata"])
    {
        return Ok(template);
    }
    let failed = |e: SubstituteError| format!("post build failed: {e}");
    let is_open = !entry.key.is_secret();
    if !layered.secrets.is_empty() {
        let names = match is_open {
            true => substitute::names(text),
            // Its data alone is sealed.
            false => {
                let mut open = template;
                for field in ["data", "stringData"] {
                    open.as_object_mut().map(|fields| fields.remove(field));
                }
                substitute::names(&open.to_string())
            }
        };
        let names = names.map_err(failed)?;
        if !names.is_disjoint(&layered.secrets) {
            return Err("a value of a Secret would stand in it, and it is kept in the open".to_owned());
        }
    }
    let substituted = substitute::substitute(text, &layered.variables, true).map_err(failed)?;
    parsed(&substituted).map_err(|why| match is_open {
        true => why,
        false => "the substituted text is not valid YAML".to_owned(),
    })
}

fn parsed(text: &str) -> Result<Value, String> {
    let limits = yaml::Limits {
        bytes: OBJECT_MAX,
        nodes: 1_000_000,
        ..yaml::Limits::default()
    };
    let mut documents = yaml::read_all(text, &limits).map_err(|e| e.to_string())?;
    match (documents.pop(), documents.is_empty()) {
        (Some(document), true) => Ok(document.into()),
        _ => Err("expected one document".to_owned()),
    }
}

fn add(metadata: &mut Value, field: &str, entries: &BTreeMap<String, String>) {
    if entries.is_empty() || !metadata.is_object() {
        return;
    }
    let map = &mut metadata[field];
    if !map.is_object() {
        *map = Value::Object(Map::new());
    }
    for (name, value) in entries {
        map[name.as_str()] = json!(value);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use flotilla_core::{content::object_digest, digest::Digest, id::ClusterId, unit::Decryption};

    use super::*;

    fn settings(substitution: Substitution) -> Settings {
        Settings {
            interval: Duration::from_secs(60),
            retry_interval: Duration::from_secs(60),
            timeout: Duration::from_secs(30),
            wait: false,
            prune: true,
            common_labels: BTreeMap::new(),
            common_annotations: BTreeMap::new(),
            substitution,
            ..Settings::default()
        }
    }

    fn map(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    fn chosen(overrides: BTreeMap<String, String>) -> Chosen {
        Chosen {
            id: ClusterId(Uuid::from_u128(1)),
            name: "c1".into(),
            variables: map("REGION", "eu"),
            overrides: Ok(overrides),
        }
    }

    fn nothing() -> Decoration {
        Decoration {
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            account: None,
            trust: Arc::default(),
        }
    }

    fn read(text: &str, values: &Values, decoration: &Decoration) -> Read {
        let template = parsed(text).expect("a document");
        let entry = ObjectEntry {
            key: ObjectKey::of(&template).expect("a key"),
            form: Form::Yaml,
            digest: object_digest(Form::Yaml, text.as_bytes(), None),
        };
        evaluate(
            &entry,
            text.as_bytes(),
            values,
            decoration,
            &Scope::Cluster("c1".into()),
        )
    }

    fn app(name: &str, path: &str) -> String {
        format!(
            "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\n\
             metadata: {{name: \"{name}\", namespace: flux-system}}\n\
             spec: {{interval: 10m, path: \"{path}\", prune: true, sourceRef: {{kind: GitRepository, name: a}}}}\n"
        )
    }

    /// Why an object is refused.
    fn refused(read: Read) -> String {
        match read.outcome.expect_err("refused") {
            Fault::Invalid(why) | Fault::Denied(why) => why,
        }
    }

    #[test]
    fn variables_are_put_in_where_they_are_asked_for_and_in_the_order_of_a_unit() {
        let text = app("a-${REGION}", "./${REGION}");
        let path = |values: &Values| {
            let read = read(&text, values, &nothing());
            let resource = read.outcome.expect("valid");
            let path = resource.value().expect("open")["path"].clone();
            (read.key.expect("known").name, path)
        };
        let values = |mode, overrides| Values::of(&Layers::default(), &settings(mode), &chosen(overrides));
        let cluster = values(Substitution::WithVariables, BTreeMap::new());
        assert_eq!(path(&cluster), ("a-eu".to_owned(), json!("./eu")));
        let overridden = values(Substitution::Off, map("REGION", "us"));
        assert_eq!(path(&overridden), ("a-us".to_owned(), json!("./us")));
        // One that is not there: what the object is called is not known, and nothing is guessed.
        let missing = read(&app("a-${ZONE}", "./x"), &cluster, &nothing());
        assert!(missing.key.is_none());
        assert!(refused(missing).contains("variable not set (strict mode): \"ZONE\""));
    }

    #[test]
    fn a_value_of_a_secret_stands_in_nothing_that_is_kept_in_the_open() {
        let layers = Layers::of_one(
            VariableLayer::Config {
                digest: Digest::of("config", b"x"),
                secret: true,
            },
            map("TOKEN", "s3cret"),
        );
        let values = Values::of(
            &layers,
            &settings(Substitution::WithVariables),
            &chosen(BTreeMap::new()),
        );
        let said = refused(read(&app("a", "./${TOKEN}"), &values, &nothing()));
        assert!(
            said.contains("a value of a Secret") && !said.contains("s3cret"),
            "{said}"
        );
        assert!(
            read(&app("a", "./${REGION}"), &values, &nothing())
                .outcome
                .is_ok()
        );
        // Nor does any part of it, nor what tells something of it.
        for part in [
            "${TOKEN:1}",
            "${TOKEN/a/b}",
            "${TOKEN#?}",
            "${TOKEN%[a-b]}",
            "${#TOKEN}",
            "${ZONE:=${TOKEN:1}}",
            "${REGION#${TOKEN}}",
        ] {
            let said = refused(read(&app("a", &format!("./{part}")), &values, &nothing()));
            assert!(said.contains("a value of a Secret"), "{part}: {said}");
        }
        assert!(
            read(&app("a", "./${REGION}"), &values, &nothing())
                .outcome
                .is_ok()
        );
        let escaped = read(&app("a", "./$${TOKEN}"), &values, &nothing()).outcome;
        assert!(!matches!(escaped, Err(Fault::Invalid(why)) if why.contains("a value of a Secret")));
        // One of the same name that comes later is in the open.
        let shadowed = Values::of(
            &layers,
            &settings(Substitution::WithVariables),
            &chosen(map("TOKEN", "open")),
        );
        assert!(
            read(&app("a", "./${TOKEN:1}"), &shadowed, &nothing())
                .outcome
                .is_ok()
        );
        let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: a}\nstringData: {k: \"${TOKEN}\"}\n";
        let labelled = secret.replace("namespace: a", "namespace: a, labels: {l: \"${TOKEN:1}\"}");
        let said = refused(read(&labelled, &values, &nothing()));
        assert!(said.contains("a value of a Secret"), "{said}");
        let kept = read(secret, &values, &nothing()).outcome.expect("sealed");
        assert_eq!(kept.secret().expect("a Secret").data["k"].expose(), b"s3cret");
    }

    #[test]
    fn what_only_the_cluster_can_decrypt_is_taken_for_no_value() {
        let mut settings = settings(Substitution::Off);
        let off = Values::of(&Layers::default(), &settings, &chosen(BTreeMap::new()));
        settings.decryption = Some(Decryption::default());
        let on = Values::of(&Layers::default(), &settings, &chosen(BTreeMap::new()));
        let secret = |field: &str, value: &str| {
            format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: a}}\n{field}: {{k: \"{value}\"}}\n"
            )
        };
        for text in [
            secret("stringData", "ENC[AES256_GCM,data:eA==,type:str]"),
            secret("stringData", "{\\\"data\\\": \\\"ENC[AES256_GCM,data:eA==]\\\"}"),
            // As kustomize generates it.
            secret("data", "RU5DW0ZMT1RJTExBLGUzMD1d"),
            app("a", "./ENC[FLOTILLA,e30=]"),
        ] {
            let encrypted = read(&text, &on, &nothing());
            assert!(encrypted.key.is_some(), "{text}");
            let why = refused(encrypted);
            assert!(why.contains("only the cluster can decrypt it"), "{text}: {why}");
        }
        // Where nobody decrypts it, it is what it is; what is not encrypted is kept.
        let encrypted = secret("stringData", "ENC[AES256_GCM,data:eA==,type:str]");
        assert!(read(&encrypted, &off, &nothing()).outcome.is_ok());
        assert!(
            read(&secret("stringData", "plain"), &on, &nothing())
                .outcome
                .is_ok()
        );
    }

    #[test]
    fn what_is_wrong_with_an_object_is_said_by_field_and_its_name_is_known_all_the_same() {
        let none = Values::default();
        let wrong = read(&app("a", "./x").replace("10m", "soon"), &none, &nothing());
        assert_eq!(wrong.key.as_ref().expect("known").name, "a");
        assert!(refused(wrong).starts_with("spec.interval: "));
        let fleet =
            "apiVersion: fleet.flotilla.dev/v1alpha1\nkind: Placement\nmetadata: {name: a}\nspec: {}\n";
        assert!(refused(read(fleet, &none, &nothing())).contains("configure the fleet"));
    }

    #[test]
    fn what_an_app_with_an_account_renders_acts_as_it_or_is_not_kept_and_its_name_is_known() {
        let decoration = Decoration {
            account: Some(Account {
                name: "tenant".into(),
                namespace: "flux-system".into(),
            }),
            ..nothing()
        };
        let none = Values::default();
        let kept = read(&app("a", "./x"), &none, &decoration).outcome.expect("kept");
        assert_eq!(kept.value().expect("open")["serviceAccountName"], "tenant");
        let elsewhere = app("a", "./x").replace("flux-system", "kube-system");
        let denied = read(&elsewhere, &none, &decoration);
        assert_eq!(denied.key.expect("known").namespace, "kube-system");
        assert!(matches!(denied.outcome, Err(Fault::Denied(_))));
    }

    #[test]
    fn a_text_that_cannot_be_stored_is_a_fault_of_its_object_and_one_that_is_sealed_is_none() {
        let row =
            |text: &str| read(text, &Values::default(), &nothing()).into_row(&[1; 32], Uuid::from_u128(1));
        let config = |value: &str| {
            format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a, namespace: b}}\ndata: {{k: \"{value}\"}}\n"
            )
        };
        assert!(row(&config("x")).outcome.is_ok());
        let refused = row(&config("x\\0y"));
        assert_eq!(refused.key.expect("known").name, "a");
        assert!(matches!(refused.outcome, Err(Fault::Invalid(why)) if why.contains("U+0000")));
        let annotated = config("x").replace("namespace: b", "namespace: b, annotations: {k: \"\\0\"}");
        assert!(row(&annotated).outcome.is_err());
        let secret =
            "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: b}\nstringData: {k: \"x\\0y\"}\n";
        assert!(row(secret).outcome.is_ok());
    }

    #[test]
    fn common_metadata_is_put_on_what_is_kept_and_a_name_stands_for_one_object() {
        let decoration = Decoration {
            labels: map("team", "a"),
            annotations: map("note", "b"),
            ..nothing()
        };
        let one = || read(&app("a", "./x"), &Values::default(), &decoration);
        let resource = one().outcome.expect("valid");
        assert_eq!(
            (&resource.labels, &resource.annotations),
            (&decoration.labels, &decoration.annotations)
        );
        let row = || one().into_row(&[1; 32], Uuid::from_u128(1));
        let set = once(vec![row(), row()]);
        assert!(set[0].outcome.is_ok() && set[1].outcome.is_err() && set[1].key.is_none());
    }
}
