//! Kustomizations by the number of their entries: one row for each field, transformer and generator, and for each
//! shape of objects that references are followed in. A row is a name and what makes the files.

use flotilla_render::kustomize::MemoryTree;

type Row = (&'static str, fn(usize) -> Files);

type Files = Vec<(String, String)>;

/// Builds a tree of the files of a row.
pub(crate) fn tree(files: &[(String, String)]) -> MemoryTree {
    files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect()
}

pub(crate) const ROWS: &[Row] = &[
    ("resources", |count| {
        let mut files = with(&listed("resources", count, |at| format!("{at}.yaml")), "");
        files.extend((0..count).map(|at| (format!("{at}.yaml"), map(&format!("n{at}")))));
        files
    }),
    ("documents", |count| with("", &maps(count))),
    ("components", |count| {
        let mut files = with(&listed("components", count, |at| format!("c{at}")), &map("a"));
        let component = |at: usize| {
            let text =
                "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\ncommonAnnotations: {a: b}\n";
            (format!("c{at}/kustomization.yaml"), text.to_owned())
        };
        files.extend((0..count).map(component));
        files
    }),
    ("configurations", |count| {
        let mut files = with("configurations: [c.yaml]\ncommonLabels: {a: b}\n", &map("a"));
        let spec = |at: usize| format!("{{path: spec/f{at}, kind: K{at}}}");
        files.push(("c.yaml".to_owned(), listed("commonLabels", count, spec)));
        files
    }),
    ("files of configurations", |count| {
        let mut files = with(
            &listed("configurations", count, |at| format!("c{at}.yaml")),
            &map("a"),
        );
        let config = |at: usize| {
            // One list grows at its front, and the fields of one path and of one type grow too.
            let first = 1_000_000 - at;
            let text = format!(
                "commonLabels: [{{path: spec/f, kind: A{first}}}]\nnameReference: [{{kind: K{at}, fieldSpecs: [{{path: spec/f{at}, kind: ConfigMap}}]}}, {{kind: Z, fieldSpecs: [{{path: spec/f{at}, kind: ConfigMap}}]}}]\n"
            );
            (format!("c{at}.yaml"), text)
        };
        files.extend((0..count).map(config));
        files
    }),
    ("files of definitions", |count| {
        let mut files = with(&listed("crds", count, |at| format!("c{at}.json")), &map("a"));
        let definition = |at: usize| {
            let text = format!(
                "{{\"v1.K{at}\": {{\"Schema\": {{\"properties\": {{\"apiVersion\": {{}}, \"kind\": {{}}, \"metadata\": {{}}, \"f\": {{\"x-kubernetes-annotation\": \"\"}}}}}}}}}}"
            );
            (format!("c{at}.json"), text)
        };
        files.extend((0..count).map(definition));
        files
    }),
    ("references of configurations", |count| {
        let mut files = with("configurations: [c.yaml]\nnamePrefix: x-\n", &map("a"));
        let reference =
            |at: usize| format!("{{kind: K{at}, fieldSpecs: [{{kind: ConfigMap, path: spec/f{at}}}]}}");
        files.push(("c.yaml".to_owned(), listed("nameReference", count, reference)));
        files
    }),
    ("namespace", |count| with("namespace: x\n", &maps(count))),
    ("namePrefix", |count| with("namePrefix: x-\n", &maps(count))),
    ("nameSuffix", |count| with("nameSuffix: -x\n", &maps(count))),
    ("labels", |count| {
        with(
            &listed("labels", count, |at| format!("{{pairs: {{k{at}: v}}}}")),
            DEPLOYMENT,
        )
    }),
    ("labels with selectors", |count| {
        with(
            &listed("labels", count, |at| {
                format!("{{pairs: {{k{at}: v}}, includeSelectors: true}}")
            }),
            DEPLOYMENT,
        )
    }),
    ("labels with fields of their own", |count| {
        with(
            &listed("labels", count, |at| {
                format!(
                    "{{pairs: {{k: v}}, includeSelectors: true, fields: [{{path: spec/f{at}, kind: K{at}}}]}}"
                )
            }),
            DEPLOYMENT,
        )
    }),
    ("commonLabels", |count| {
        with(&pairs("commonLabels", count), DEPLOYMENT)
    }),
    ("commonAnnotations", |count| {
        with(&pairs("commonAnnotations", count), DEPLOYMENT)
    }),
    ("images", |count| {
        let image = |at: usize| format!("{{name: example.com/i{at}, newTag: '2'}}");
        with(&listed("images", count, image), &containers(count))
    }),
    ("images that are renamed over and over", |count| {
        let image = |at: usize| format!("{{name: i{at}, newName: i{}}}", at + 1);
        let pod = "kind: Pod\napiVersion: v1\nmetadata: {name: p}\nspec: {containers: [{name: c, image: 'i0:1'}]}\n";
        with(&listed("images", count, image), pod)
    }),
    ("replicas", |count| {
        let replica = |at: usize| format!("{{name: n{at}, count: 2}}");
        let objects = many(count, |at| DEPLOYMENT.replace("name: a", &format!("name: n{at}")));
        with(&listed("replicas", count, replica), &objects)
    }),
    ("vars", |count| {
        let var =
            |at: usize| format!("{{name: V{at}, objref: {{apiVersion: v1, kind: ConfigMap, name: n{at}}}}}");
        with(&listed("vars", count, var), &maps(count))
    }),
    ("vars of namespaces", |count| {
        let var = |at: usize| {
            format!(
                "{{name: V{at}, objref: {{apiVersion: v1, kind: ConfigMap, name: n{at}, namespace: default}}}}"
            )
        };
        with(&listed("vars", count, var), &maps(count))
    }),
    ("patches", |count| {
        let patch = |at: usize| {
            format!(
                "{{patch: '{{apiVersion: v1, kind: ConfigMap, metadata: {{name: n{at}}}, data: {{b: c}}}}'}}"
            )
        };
        with(&listed("patches", count, patch), &maps(count))
    }),
    ("patches of targets", |count| {
        let patch = |at: usize| {
            format!(
                "{{target: {{kind: ConfigMap, name: n{at}}}, patch: '[{{\"op\": \"add\", \"path\": \"/data/b\", \"value\": \"c\"}}]'}}"
            )
        };
        with(&listed("patches", count, patch), &maps(count))
    }),
    ("patchesStrategicMerge", |count| {
        let patch = |at: usize| {
            format!("'{{apiVersion: v1, kind: ConfigMap, metadata: {{name: n{at}}}, data: {{b: c}}}}'")
        };
        with(&listed("patchesStrategicMerge", count, patch), &maps(count))
    }),
    ("patchesJson6902", |count| {
        let patch = |at: usize| {
            format!(
                "{{target: {{version: v1, kind: ConfigMap, name: n{at}}}, patch: '[{{\"op\": \"add\", \"path\": \"/data/b\", \"value\": \"c\"}}]'}}"
            )
        };
        with(&listed("patchesJson6902", count, patch), &maps(count))
    }),
    ("replacements", |count| {
        let replacement = |at: usize| {
            format!(
                "{{sourceValue: v{at}, targets: [{{select: {{kind: ConfigMap}}, fieldPaths: [data.a]}}]}}"
            )
        };
        with(&listed("replacements", count, replacement), &map("a"))
    }),
    ("replacements among objects", |count| {
        let replacement = |at: usize| {
            let next = (at + 1) % count;
            format!(
                "{{source: {{kind: ConfigMap, name: n{at}, fieldPath: data.a}}, targets: [{{select: {{kind: ConfigMap, name: n{next}}}, fieldPaths: [data.a]}}]}}"
            )
        };
        with(&listed("replacements", count, replacement), &maps(count))
    }),
    ("replacements that each add a field to one map", |count| {
        let replacement = |at: usize| {
            format!(
                "{{sourceValue: v{at}, targets: [{{select: {{kind: ConfigMap, name: a}}, fieldPaths: [data.k{at}], options: {{create: true}}}}]}}"
            )
        };
        with(&listed("replacements", count, replacement), &map("a"))
    }),
    ("replacements that each write a field of one map", |count| {
        let replacement = |at: usize| {
            format!(
                "{{sourceValue: w, targets: [{{select: {{kind: ConfigMap}}, fieldPaths: [data.k{at}]}}]}}"
            )
        };
        with(&listed("replacements", count, replacement), &fields(count))
    }),
    ("replacements that each copy a field of one map", |count| {
        let replacement = |at: usize| {
            format!(
                "{{source: {{kind: ConfigMap, name: f, fieldPath: data.k{at}}}, targets: [{{select: {{kind: ConfigMap, name: a}}, fieldPaths: [data.a]}}]}}"
            )
        };
        let objects = format!("{}---\n{}", fields(count), map("a"));
        with(&listed("replacements", count, replacement), &objects)
    }),
    ("replacements that each write into a text of one map", |count| {
        let replacement = |at: usize| {
            format!(
                "{{sourceValue: w, targets: [{{select: {{kind: ConfigMap}}, fieldPaths: [data.k{at}.v], options: {{create: true}}}}]}}"
            )
        };
        let objects = fields(count).replace(": v\n", ": 'v: 1'\n");
        with(&listed("replacements", count, replacement), &objects)
    }),
    ("patches that each delete an object", |count| {
        let patch = |at: usize| {
            format!(
                "{{patch: '{{apiVersion: v1, kind: ConfigMap, metadata: {{name: n{at}}}, $patch: delete}}'}}"
            )
        };
        let objects = format!("{}---\n{}", maps(count), map("a"));
        with(&listed("patches", count, patch), &objects)
    }),
    ("patches of targets that each delete an object", |count| {
        let patch = |at: usize| {
            format!(
                "{{target: {{name: n{at}}}, patch: '{{apiVersion: v1, kind: ConfigMap, metadata: {{name: x}}, $patch: delete}}'}}"
            )
        };
        let objects = format!("{}---\n{}", maps(count), map("a"));
        with(&listed("patches", count, patch), &objects)
    }),
    ("patchesStrategicMerge that each delete an object", |count| {
        let patch = |at: usize| {
            format!("'{{apiVersion: v1, kind: ConfigMap, metadata: {{name: n{at}}}, $patch: delete}}'")
        };
        let objects = format!("{}---\n{}", maps(count), map("a"));
        with(&listed("patchesStrategicMerge", count, patch), &objects)
    }),
    ("configMapGenerator", |count| {
        with(&generators("configMapGenerator", count, ""), "")
    }),
    ("secretGenerator", |count| {
        with(&generators("secretGenerator", count, ""), "")
    }),
    ("literals of a generator", |count| {
        let literals: Vec<String> = (0..count).map(|at| format!("k{at}=v")).collect();
        with(
            &format!(
                "secretGenerator: [{{name: a, literals: [{}]}}]\n",
                literals.join(", ")
            ),
            "",
        )
    }),
    ("generators that add to one object", |count| {
        let one = |at: usize| {
            format!(
                "{{name: a, behavior: merge, literals: [k{at}=v], options: {{labels: {{l{at}: v}}, annotations: {{a{at}: v}}}}}}"
            )
        };
        with(&listed("configMapGenerator", count, one), &map("a"))
    }),
    ("generators that replace one object", |count| {
        let one = |at: usize| {
            format!("{{name: a, behavior: replace, literals: [k=v], options: {{labels: {{l{at}: v}}}}}}")
        };
        with(&listed("configMapGenerator", count, one), &map("a"))
    }),
    ("generatorOptions", |count| {
        let options = "generatorOptions: {labels: {a: b}, annotations: {c: d}}\n";
        with(&generators("configMapGenerator", count, options), "")
    }),
    ("generators", |count| {
        let one = |at: usize| {
            format!(
                "'{{apiVersion: builtin, kind: ConfigMapGenerator, metadata: {{name: n{at}}}, literals: [a=b]}}'"
            )
        };
        with(&listed("generators", count, one), "")
    }),
    ("transformers", |count| {
        let one = |at: usize| {
            format!(
                "'{{apiVersion: builtin, kind: LabelTransformer, metadata: {{name: n{at}}}, labels: {{k: v{at}}}, fieldSpecs: [{{path: metadata/labels, create: true}}]}}'"
            )
        };
        with(&listed("transformers", count, one), &map("a"))
    }),
    ("targets of a transformer", |count| {
        let targets = vec!["{fieldPath: data/a}"; count];
        with(
            &format!(
                "transformers: ['{{apiVersion: builtin, kind: ValueAddTransformer, metadata: {{name: x}}, value: v, targets: [{}]}}']\n",
                targets.join(", ")
            ),
            &map("a"),
        )
    }),
    ("validators", |count| {
        let one = |at: usize| {
            format!(
                "'{{apiVersion: builtin, kind: LabelTransformer, metadata: {{name: n{at}}}, labels: {{k: v}}, fieldSpecs: [{{path: none}}]}}'"
            )
        };
        with(&listed("validators", count, one), DEPLOYMENT)
    }),
    ("sortOptions", |count| {
        with("sortOptions: {order: fifo}\n", &maps(count))
    }),
    ("buildMetadata", |count| {
        let options = "[originAnnotations, transformerAnnotations, managedByLabel]";
        with(
            &format!("buildMetadata: {options}\nnamePrefix: x-\n"),
            &maps(count),
        )
    }),
    ("one name of many kinds", |count| {
        let object = |at: usize| {
            let kind = match at {
                0 => "ConfigMap".to_owned(),
                at => format!("K{at}"),
            };
            let referrer = user(at, "configMapRef: {name: a}");
            format!("apiVersion: v1\nkind: {kind}\nmetadata: {{name: a}}\n---\n{referrer}")
        };
        with("namePrefix: x-\n", &many(count, object))
    }),
    ("one name in many namespaces", |count| {
        let object = |at: usize| {
            let referrer = user(at, "configMapRef: {name: a}");
            let referrer = referrer.replace("metadata: {", &format!("metadata: {{namespace: s{at}, "));
            format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a, namespace: s{at}}}\n---\n{referrer}"
            )
        };
        with("namePrefix: x-\n", &many(count, object))
    }),
    ("a namespace that many left", |count| {
        let object = |at: usize| {
            format!(
                "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: n{at}}}\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: b{at}, namespace: other}}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}}\nsubjects: [{{kind: ServiceAccount, name: n{at}, namespace: default}}]\n"
            )
        };
        let patch = |at: usize| {
            format!(
                "{{target: {{kind: ServiceAccount, name: n{at}}}, patch: '[{{\"op\": \"add\", \"path\": \"/metadata/namespace\", \"value\": \"s{at}\"}}]'}}"
            )
        };
        let kustomization = format!("namePrefix: x-\n{}", listed("patches", count, patch));
        with(&kustomization, &many(count, object))
    }),
    ("references of one object", |count| {
        let sources: String = (0..count)
            .map(|at| format!("{{configMapRef: {{name: n{at}}}}}, "))
            .collect();
        let pod = user(0, "configMapRef: {name: n0}")
            .replace("{configMapRef: {name: n0}}", sources.trim_end_matches(", "));
        with("namePrefix: x-\n", &format!("{}---\n{pod}", maps(count)))
    }),
];

const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: a}}, spec: {containers: [{name: c, image: x}]}}}\n";

fn map(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: b}}\n")
}

/// A map of so many fields.
fn fields(count: usize) -> String {
    let fields: String = (0..count).map(|at| format!("  k{at}: v\n")).collect();
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: f}}\ndata:\n{fields}")
}

fn many(count: usize, object: impl Fn(usize) -> String) -> String {
    let objects: Vec<String> = (0..count).map(object).collect();
    objects.join("---\n")
}

fn maps(count: usize) -> String {
    many(count, |at| map(&format!("n{at}")))
}

/// A Pod that takes its variables from something.
fn user(at: usize, from: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p{at}}}\nspec: {{containers: [{{name: c, envFrom: [{{{from}}}]}}]}}\n"
    )
}

fn containers(count: usize) -> String {
    let containers: String = (0..count)
        .map(|at| format!("{{name: c{at}, image: 'example.com/i{at}:1'}}, "))
        .collect();
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec: {{containers: [{containers}]}}\n")
}

/// A field that is a list of so many entries.
fn listed(field: &str, count: usize, entry: impl Fn(usize) -> String) -> String {
    let entries: String = (0..count).map(|at| format!("- {}\n", entry(at))).collect();
    format!("{field}:\n{entries}")
}

fn pairs(field: &str, count: usize) -> String {
    let pairs: String = (0..count).map(|at| format!("  k{at}: v\n")).collect();
    format!("{field}:\n{pairs}")
}

fn generators(field: &str, count: usize, options: &str) -> String {
    let entries = listed(field, count, |at| format!("{{name: n{at}, literals: [a=b]}}"));
    format!("{options}{entries}")
}

/// A kustomization of one file of objects, unless it has none or lists its resources.
fn with(kustomization: &str, objects: &str) -> Files {
    let resources = match objects {
        "" => "",
        _ => "resources: [a.yaml]\n",
    };
    let mut files = vec![(
        "kustomization.yaml".to_owned(),
        format!("{resources}{kustomization}"),
    )];
    if !objects.is_empty() {
        files.push(("a.yaml".to_owned(), objects.to_owned()));
    }
    files
}
