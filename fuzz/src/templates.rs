//! Helm's template language.

use flotilla_render::helm::context::{Context, Limits};
use flotilla_render::helm::render::{Renderable, render};
use flotilla_render::helm::value::{Entries, MapVal, Val};
use flotilla_render::yaml::{self, Map, Value};

use crate::parts;
use crate::text::limits;

/// Bounds that end a rendering within a fraction of a second.
pub(crate) fn context() -> Context {
    Context {
        limits: Limits {
            steps: 200_000,
            bytes: 8 << 20,
        },
        ..Context::default()
    }
}

fn template(name: &str, source: &[u8], values: MapVal) -> Renderable {
    Renderable {
        name: format!("t/templates/{name}"),
        source: source.into(),
        values,
        base_path: "t/templates".to_owned(),
    }
}

fn scope(values: Map) -> MapVal {
    MapVal::new(Entries::from([(
        "Values".into(),
        Val::from_document(&Value::Map(values)),
    )]))
}

/// Parses a template; the first step of executing it is one too many.
pub(crate) fn parser(input: &[u8]) {
    let mut context = context();
    context.limits.steps = 0;
    let _ = render(vec![template("a.yaml", input, scope(Map::new()))], &context);
}

/// Renders a template with the values of the second part and the partials of the third; twice, since the same
/// input gives the same output.
pub(crate) fn evaluator(input: &[u8]) {
    let [source, values, partials] = parts(input);
    let values = match yaml::read(&values, &limits()) {
        Ok(Value::Map(values)) => values,
        _ => Map::new(),
    };
    let run = || {
        let scope = scope(values.clone());
        let templates = vec![
            template("a.yaml", source.as_bytes(), scope.clone()),
            template("_b.tpl", partials.as_bytes(), scope),
        ];
        render(templates, &context()).map(|rendered| rendered.files)
    };
    assert_eq!(run(), run());
}
