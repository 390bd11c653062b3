//! Writes the `kustomization.yaml` that Flux's kustomize-controller builds: the one a directory has, or one that
//! lists its manifests, with the fields of a Flux `Kustomization` merged in.
//!
//! Pure: nothing is written. The native engine builds through an [`Overlay`](super::Overlay) that shows
//! [`Generated::text`] at [`Generated::path`]. Whoever runs the `kustomize` binary instead lays the source out in a
//! directory of its own, writes the text there to that path (it replaces the file of that name), and runs
//! `kustomize build --load-restrictor LoadRestrictionsNone` on the directory of [`Generated::path`].

use std::collections::HashMap;

use flotilla_core::text::address::shown_address;
use serde_json::{Map, Value, json};

use crate::yaml::node::{Node, Schema};
use crate::yaml::push_json;

use super::files::{Files, PathError};
use super::id;
use super::load::{self, LoadError};
use super::reader::Reader;
use super::reads::ReadSet;
use super::steps::Steps;
use super::tree::Entry;
use super::{Budget, KUSTOMIZATION_FILES, RenderInput};

/// What begins the `apiVersion` of kustomizations and components.
const KUSTOMIZATION_GROUP: &str = "kustomize.config.k8s.io/";

/// The fields of a Flux `Kustomization` that change its build.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// `spec.targetNamespace`.
    pub target_namespace: Option<String>,
    /// `spec.namePrefix`.
    pub name_prefix: Option<String>,
    /// `spec.nameSuffix`.
    pub name_suffix: Option<String>,
    /// `spec.patches`, each an object with `patch` and perhaps `target`.
    pub patches: Vec<Value>,
    /// `spec.components`: relative paths.
    pub components: Vec<String>,
    /// `spec.ignoreMissingComponents`.
    pub ignore_missing_components: bool,
    /// `spec.images`.
    pub images: Vec<Image>,
    /// `spec.buildMetadata`.
    pub build_metadata: Vec<String>,
}

/// One entry of `spec.images`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// The image to change.
    pub name: String,
    /// Its new name, when not empty.
    pub new_name: String,
    /// Its new tag, when not empty.
    pub new_tag: String,
    /// Its new digest, when not empty.
    pub digest: String,
}

/// A kustomization ready to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// Where the text stands in the tree.
    pub path: String,
    /// The directory to build.
    pub directory: String,
    /// The file's text.
    pub text: String,
    /// What was read to write it.
    pub reads: ReadSet,
}

/// Why no kustomization can be written.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The path of the Kustomization is not usable; fix it or the source.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A manifest does not hold Kubernetes objects; fix the file.
    #[error("failed to decode Kubernetes YAML from {file}")]
    Manifest {
        /// The file.
        file: String,
        /// What is wrong with it.
        #[source]
        source: load::LoadError,
    },
    /// The kustomization file is not read; fix the file.
    #[error("{file}: {reason}")]
    Kustomization {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The caller asked to stop.
    #[error("the build was cancelled")]
    Cancelled,
    /// A component is not a relative path within the source.
    #[error("component path '{0}' must be local and relative")]
    Component(String),
}

/// Writes the kustomization of a directory. Of the input, the rules of a build mean nothing here.
///
/// # Errors
///
/// A path, manifest or component that cannot be used, and a caller who asks to stop.
pub fn generate(input: &RenderInput<'_>, options: &Options) -> Result<Generated, GenerateError> {
    let files = Files::new(input);
    let written = write(&files, input, options);
    // A path that was not resolved for that may have been taken for one that is not there.
    if files.is_stopped() {
        return Err(GenerateError::Cancelled);
    }
    let (path, directory, text) = written?;
    Ok(Generated {
        path,
        directory,
        text,
        reads: files.into_reads(),
    })
}

/// Returns where the kustomization stands, the directory that it is of, and its text.
fn write(
    files: &Files<'_>,
    input: &RenderInput<'_>,
    options: &Options,
) -> Result<(String, String, String), GenerateError> {
    let directory = input.directory;
    let start = Files::join("", directory).ok_or_else(|| PathError::Escapes(directory.to_string()))?;
    let (directory, entry) = files.resolve(&start)?;
    if entry != Entry::Directory {
        return Err(PathError::WrongKind {
            path: files.shown(&directory),
            wanted: "directory",
        }
        .into());
    }
    let steps = Steps::new(input.budget.steps, input.budget.output, input.stop);
    let reader = Reader::new(input.budget, &steps);
    let (path, mut fields) = match existing(files, &directory, reader)? {
        Some(found) => found,
        None => (
            under(&directory, "kustomization.yaml"),
            listed(files, &directory, input.budget, reader)?,
        ),
    };
    merge(files, &directory, &mut fields, options)?;
    let mut text = String::new();
    push_json(&mut text, &Value::Object(fields));
    Ok((path, directory, text))
}

fn under(directory: &str, name: &str) -> String {
    if directory.is_empty() {
        name.to_string()
    } else {
        format!("{directory}/{name}")
    }
}

fn kustomization_in(files: &Files<'_>, directory: &str) -> Option<String> {
    KUSTOMIZATION_FILES.iter().find_map(|name| {
        let (path, entry) = files.resolve(&under(directory, name)).ok()?;
        (entry == Entry::File).then_some(path)
    })
}

/// A kustomization file: its path and its fields.
type Found = (String, Map<String, Value>);

/// Reads the kustomization a directory has, leaving out what kustomize's own decoding would leave out.
fn existing(files: &Files<'_>, directory: &str, reader: Reader<'_>) -> Result<Option<Found>, GenerateError> {
    let Some(path) = kustomization_in(files, directory) else {
        return Ok(None);
    };
    let failed = |reason: String| GenerateError::Kustomization {
        file: files.shown(&path),
        reason,
    };
    let bytes = files.read(&path)?;
    let value = reader
        .json(&bytes, Schema::Old)
        .map_err(|fault| match LoadError::from(fault) {
            LoadError::Cancelled => GenerateError::Cancelled,
            error => failed(error.to_string()),
        })?;
    let mut fields = match value {
        Value::Object(fields) => fields,
        Value::Null => Map::new(),
        _ => return Err(failed("not a kustomization".into())),
    };
    typed(&mut fields);
    let resources = fields.get("resources").and_then(Value::as_array);
    if resources.is_none_or(Vec::is_empty) {
        append(&mut fields, "buildMetadata", vec![json!("originAnnotations")]);
    }
    Ok(Some((path, fields)))
}

/// Makes text of scalars where the type of the field is text, as Flux's decoding does.
fn typed(fields: &mut Map<String, Value>) {
    for name in ["namespace", "namePrefix", "nameSuffix"] {
        if let Some(value) = fields.get_mut(name) {
            stringify(value);
        }
    }
    for name in ["commonLabels", "commonAnnotations"] {
        if let Some(Value::Object(entries)) = fields.get_mut(name) {
            entries.values_mut().for_each(stringify);
        }
    }
    if let Some(Value::Array(images)) = fields.get_mut("images") {
        for image in images.iter_mut().filter_map(Value::as_object_mut) {
            image.values_mut().for_each(stringify);
        }
    }
}

fn stringify(value: &mut Value) {
    if matches!(value, Value::Bool(_) | Value::Number(_)) {
        *value = Value::String(value.to_string());
    }
}

/// Lists the manifests below a directory; a directory with a kustomization of its own counts as one resource.
fn listed(
    files: &Files<'_>,
    directory: &str,
    budget: &Budget,
    reader: Reader<'_>,
) -> Result<Map<String, Value>, GenerateError> {
    let mut found = Vec::new();
    walk(files, directory, (0, budget, reader), &mut found)?;
    let prefix = if directory.is_empty() {
        String::new()
    } else {
        format!("{directory}/")
    };
    let resources: Vec<Value> = found
        .iter()
        .map(|path| json!(format!("./{}", path.strip_prefix(&prefix).unwrap_or(path))))
        .collect();
    let mut fields = Map::new();
    fields.insert("apiVersion".into(), json!("kustomize.config.k8s.io/v1beta1"));
    fields.insert("kind".into(), json!("Kustomization"));
    if resources.is_empty() {
        // kustomize refuses a kustomization that says nothing at all.
        fields.insert("namespace".into(), json!("_placeholder"));
    } else {
        fields.insert("resources".into(), Value::Array(resources));
    }
    Ok(fields)
}

fn walk(
    files: &Files<'_>,
    directory: &str,
    (depth, budget, reader): (usize, &Budget, Reader<'_>),
    found: &mut Vec<String>,
) -> Result<(), GenerateError> {
    if depth > budget.depth {
        return Err(PathError::Budget {
            what: "levels of directories",
            limit: budget.depth,
        }
        .into());
    }
    for name in files.list(directory) {
        let path = under(directory, &name);
        let is_manifest = name.ends_with(".yaml") || name.ends_with(".yml");
        // A link is taken for what it leads to when that is a file, and is not descended into otherwise.
        let (target, entry) = match files.resolve(&path) {
            Ok(found) => found,
            // A link that leads nowhere, or what is neither file nor folder: nothing of it would be built. One in the
            // place of a kustomization says what is to be built, and all manifests are not it.
            Err(error)
                if error != PathError::Stopped
                    && !is_manifest
                    && !KUSTOMIZATION_FILES.contains(&name.as_str()) =>
            {
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        match entry {
            Entry::Directory if target != path => {}
            Entry::Directory if kustomization_in(files, &path).is_some() => found.push(path),
            Entry::Directory => walk(files, &path, (depth + 1, budget, reader), found)?,
            _ if is_manifest => {
                let bytes = files.read(&target)?;
                let read = load::objects(&bytes, reader);
                if is_kustomization(&name, &bytes, read.as_deref(), reader) {
                    return Err(GenerateError::Kustomization {
                        file: files.shown(&path),
                        reason: "a kustomization is not read under this name; call it kustomization.yaml"
                            .into(),
                    });
                }
                read.map_err(|source| match source {
                    LoadError::Cancelled => GenerateError::Cancelled,
                    source => GenerateError::Manifest {
                        file: files.shown(&path),
                        source,
                    },
                })?;
                found.push(path);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Tells whether a file that is to be a manifest is a kustomization: no cluster has objects of that group, and what it
/// says of the manifests beside it would be lost. One need not say its kind, and then is known by a name that is nearly
/// the right one.
fn is_kustomization(name: &str, bytes: &[u8], read: Result<&[Node], &LoadError>, reader: Reader<'_>) -> bool {
    let is_of_group = |node: &Node| id::api_version(node).starts_with(KUSTOMIZATION_GROUP);
    match read {
        Ok(nodes) => nodes.iter().any(is_of_group),
        Err(error) if error.is_final() => false,
        Err(_) => {
            KUSTOMIZATION_FILES
                .iter()
                .any(|known| known.eq_ignore_ascii_case(name))
                || reader
                    .documents(bytes)
                    .is_ok_and(|(_, documents)| documents.iter().any(is_of_group))
        }
    }
}

fn merge(
    files: &Files<'_>,
    directory: &str,
    fields: &mut Map<String, Value>,
    options: &Options,
) -> Result<(), GenerateError> {
    let texts = [
        ("namespace", &options.target_namespace),
        ("namePrefix", &options.name_prefix),
        ("nameSuffix", &options.name_suffix),
    ];
    for (name, value) in texts {
        if let Some(value) = value.as_deref().filter(|v| !v.is_empty()) {
            fields.insert(name.into(), json!(value));
        }
    }
    append(fields, "patches", options.patches.clone());
    append(fields, "components", components(files, directory, options)?);
    images(fields, &options.images);
    append(
        fields,
        "buildMetadata",
        options.build_metadata.iter().map(|m| json!(m)).collect(),
    );
    Ok(())
}

fn append(fields: &mut Map<String, Value>, name: &str, values: Vec<Value>) {
    if values.is_empty() {
        return;
    }
    let list = fields.entry(name).or_insert_with(|| json!([]));
    if list.is_null() {
        *list = json!([]);
    }
    if let Value::Array(list) = list {
        for value in values {
            if name != "buildMetadata" || !list.contains(&value) {
                list.push(value);
            }
        }
    }
}

fn components(files: &Files<'_>, directory: &str, options: &Options) -> Result<Vec<Value>, GenerateError> {
    let mut kept = Vec::new();
    for component in &options.components {
        if component.starts_with('/') || component.contains("://") {
            return Err(GenerateError::Component(shown_address(component)));
        }
        let path =
            Files::join(directory, component).ok_or_else(|| GenerateError::Component(component.clone()))?;
        let missing = matches!(
            files.resolve(&path),
            Err(PathError::Missing(_) | PathError::Dangling { .. })
        );
        if !(missing && options.ignore_missing_components) {
            kept.push(json!(component));
        }
    }
    Ok(kept)
}

/// Merges images by name: a new name replaces the name, a tag or digest replaces both tag and digest.
fn images(fields: &mut Map<String, Value>, images: &[Image]) {
    if images.is_empty() {
        return;
    }
    let list = fields.entry("images").or_insert_with(|| json!([]));
    if list.is_null() {
        *list = json!([]);
    }
    let Value::Array(list) = list else { return };
    // Of entries of one name the first counts.
    let mut places: HashMap<String, usize> = HashMap::new();
    for (at, entry) in list.iter().enumerate() {
        if let Some(name) = entry["name"].as_str() {
            places.entry(name.to_owned()).or_insert(at);
        }
    }
    for image in images {
        let index = *places.entry(image.name.clone()).or_insert_with(|| {
            list.push(json!({ "name": image.name }));
            list.len() - 1
        });
        let Value::Object(entry) = &mut list[index] else {
            continue;
        };
        if !image.new_name.is_empty() {
            entry.insert("newName".into(), json!(image.new_name));
        }
        if image.new_tag.is_empty() && image.digest.is_empty() {
            continue;
        }
        for (name, value) in [("newTag", &image.new_tag), ("digest", &image.digest)] {
            if value.is_empty() {
                entry.remove(name);
            } else {
                entry.insert(name.into(), json!(value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kustomize::{Budget, MemoryTree};

    const OBJECT: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n";

    fn text(files: &[(&str, &str)], directory: &str, options: &Options) -> Result<String, GenerateError> {
        let tree: MemoryTree = files.iter().map(|(p, t)| (*p, *t)).collect();
        generate(&RenderInput::new(&tree, directory, &Budget::default()), options).map(|g| g.text)
    }

    #[test]
    fn a_directory_without_kustomization_lists_its_manifests_and_kustomized_directories() {
        let files = [
            ("app/b.yaml", OBJECT),
            ("app/sub/a.yml", OBJECT),
            ("app/sub/notes.txt", "x"),
            ("app/kust/kustomization.yaml", "resources: [c.yaml]\n"),
            ("app/kust/c.yaml", OBJECT),
            ("other.yaml", OBJECT),
        ];
        let text = text(&files, "./app", &Options::default()).unwrap();
        assert_eq!(
            text,
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n- ./b.yaml\n- ./kust\n- ./sub/a.yml\n"
        );
    }

    #[test]
    fn an_empty_directory_gets_a_placeholder() {
        let text = text(&[("app/readme.md", "")], "app", &Options::default()).unwrap();
        assert!(text.contains("namespace: _placeholder"), "{text}");
    }

    #[test]
    fn a_manifest_that_holds_no_objects_is_an_error_that_names_it() {
        let error = text(&[("app/values.yaml", "a: 1\n")], "app", &Options::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to decode Kubernetes YAML from app/values.yaml"
        );
    }

    #[test]
    fn a_kustomization_under_a_wrong_name_is_refused_with_the_right_one() {
        let head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n";
        let of_flux =
            "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: a}\n";
        let named = format!("{head}metadata: {{name: a}}\nnamespace: prod\nresources: [a.yaml]\n");
        for (name, written) in [
            ("Kustomization.yaml", named.as_str()),
            ("kustomize.yaml", &*format!("{head}resources: [a.yaml]\n")),
            ("kustomization.yaml.yaml", &*format!("{OBJECT}---\n{named}")),
            ("KUSTOMIZATION.yml", "resources: [a.yaml]\n"),
        ] {
            for folder in ["app", "app/sub"] {
                let path = format!("{folder}/{name}");
                let files = [("app/a.yaml", OBJECT), (path.as_str(), written)];
                let error = text(&files, "app", &Options::default())
                    .expect_err(name)
                    .to_string();
                assert_eq!(
                    error,
                    format!(
                        "{path}: a kustomization is not read under this name; call it kustomization.yaml"
                    )
                );
            }
        }
        let files = [("app/a.yaml", OBJECT), ("app/Kustomization.yaml", of_flux)];
        assert!(
            text(&files, "app", &Options::default()).is_ok_and(|text| text.contains("./Kustomization.yaml"))
        );
    }

    #[test]
    fn a_link_to_nothing_in_the_place_of_a_kustomization_is_an_error_and_another_is_passed_over() {
        for folder in ["app", "app/sub"] {
            for target in ["none/kustomization.yaml", "../../../x"] {
                let generated = |name: &str| {
                    let mut tree: MemoryTree = [("app/a.yaml", OBJECT), ("app/sub/b.yaml", OBJECT)]
                        .into_iter()
                        .collect();
                    tree.insert_link(&format!("{folder}/{name}"), target);
                    let budget = Budget::default();
                    let input = RenderInput::new(&tree, "app", &budget);
                    generate(&input, &Options::default()).map(|generated| generated.text)
                };
                assert!(generated("Notes").is_ok_and(|text| text.contains("./sub/b.yaml")));
                for name in KUSTOMIZATION_FILES {
                    let error = generated(name).expect_err(name).to_string();
                    assert!(error.contains(&format!("'{folder}/{name}'")), "{error}");
                }
            }
        }
    }

    #[test]
    fn images_replace_tag_and_digest_as_one_and_keep_the_rest() {
        let files = [
            (
                "kustomization.yaml",
                "resources: [a.yaml]\nimages:\n- name: web\n  newName: reg/web\n  newTag: 1\n",
            ),
            ("a.yaml", OBJECT),
        ];
        let image = Image {
            name: "web".into(),
            digest: "sha256:0".into(),
            ..Image::default()
        };
        let text = text(
            &files,
            "",
            &Options {
                images: vec![image],
                ..Options::default()
            },
        )
        .unwrap();
        assert_eq!(
            text,
            "images:\n- digest: sha256:0\n  name: web\n  newName: reg/web\nresources:\n- a.yaml\n"
        );
    }

    #[test]
    fn a_missing_component_is_left_out_only_when_asked() {
        let mut options = Options {
            components: vec!["../none".into()],
            ..Options::default()
        };
        let files = [("app/a.yaml", OBJECT)];
        assert!(text(&files, "app", &options).unwrap().contains("../none"));
        options.ignore_missing_components = true;
        assert!(!text(&files, "app", &options).unwrap().contains("components"));
    }

    #[test]
    fn a_path_out_of_the_source_is_refused() {
        let error = text(&[("a.yaml", OBJECT)], "../x", &Options::default()).unwrap_err();
        assert_eq!(error.to_string(), "'../x' leads out of the source");
    }

    #[test]
    fn what_was_read_stops_holding_when_a_file_is_added() {
        let mut tree: MemoryTree = [("app/a.yaml", OBJECT)].into_iter().collect();
        let generated = generate(
            &RenderInput::new(&tree, "app", &Budget::default()),
            &Options::default(),
        )
        .unwrap();
        tree.insert("elsewhere.yaml", OBJECT);
        assert!(generated.reads.is_current(&tree));
        tree.insert("app/b.yaml", OBJECT);
        assert!(!generated.reads.is_current(&tree));
    }
}
