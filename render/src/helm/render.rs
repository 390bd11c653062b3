//! Renders all templates of a chart and its dependencies: parses them in Helm's order, executes each that is
//! no partial, and words errors as Helm does.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use super::ast::{Text, Tree};
use super::bytes;
use super::context::{Context, Reads};
use super::eval::{Interp, Set};
use super::exec_error::{self, ExecError};
use super::parse;
use super::value::{Entries, MapKind, MapVal, Val};

/// How many bytes of a template are parsed for one step.
pub(super) const BYTES_PER_STEP: u64 = 16;

/// One template file and what it sees.
#[derive(Debug, Clone)]
pub struct Renderable {
    /// The path from the root chart's name on.
    pub name: String,
    /// The text.
    pub source: Arc<[u8]>,
    /// The map it sees as `.`; `.Template` is set in it while the file is rendered, for all that share it.
    pub values: MapVal,
    /// `.Template.BasePath`.
    pub base_path: String,
}

/// A chart does not render. The text is what Helm prints.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(pub String);

/// What rendering gave.
#[derive(Debug, Clone, Default)]
pub struct Rendered {
    /// What the templates wrote, by their names, partials left out: text, unless bytes that are none were written.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What the rendering looked at.
    pub reads: Reads,
    /// The steps that it left.
    pub steps_left: u64,
}

/// Renders the templates.
///
/// # Errors
///
/// The first template that does not parse or execute, worded as Helm words it.
pub fn render(templates: Vec<Renderable>, context: &Context) -> Result<Rendered, TemplateError> {
    render_beside(templates, context, 0)
}

/// Renders the templates as [`render`] does, beside values that take so many bytes of what there is room for.
pub(super) fn render_beside(
    mut templates: Vec<Renderable>,
    context: &Context,
    taken: usize,
) -> Result<Rendered, TemplateError> {
    // Deeper paths come first, and among equals the later name, so that a parent's definitions win.
    templates.sort_by(|a, b| {
        let depth = |name: &str| memchr::memchr_iter(b'/', name.as_bytes()).count();
        depth(&b.name)
            .cmp(&depth(&a.name))
            .then_with(|| b.name.cmp(&a.name))
    });
    let sources = templates
        .iter()
        .map(|template| (template.name.as_str(), &template.source));
    let mut interp = parsed(sources, context)?;
    interp.made = taken;
    let mut files = BTreeMap::new();
    for template in templates {
        let base = template.name.rsplit('/').next().unwrap_or_default();
        if base.starts_with('_') {
            continue;
        }
        let text = execute(&mut interp, &template)?;
        files.insert(template.name, text);
    }
    Ok(Rendered {
        files,
        reads: std::mem::take(&mut interp.reads),
        steps_left: interp.steps_left(),
    })
}

/// Renders a template that is no chart's and sees nothing, such as that of a release's name. What prints no value
/// stays in the text.
///
/// # Errors
///
/// A template that does not parse or execute, worded as Helm words it.
pub fn render_alone(name: &str, source: &str, context: &Context) -> Result<String, TemplateError> {
    let mut interp = parsed([(name, &source.as_bytes().into())].into_iter(), context)?;
    let Some(tree) = interp.set.get(name).cloned() else {
        return Ok(String::new());
    };
    interp
        .execute(&tree, Val::Invalid)
        .map_err(|cause| failed(name, &cause))?;
    Ok(bytes::lossy(&interp.take_output(0)).into_owned())
}

/// Parses templates, each with its name, in the order in which a later definition wins.
fn parsed<'c, 't>(
    sources: impl Iterator<Item = (&'t str, &'t Arc<[u8]>)>,
    context: &'c Context,
) -> Result<Interp<'c>, TemplateError> {
    let mut interp = Interp::new(context, Rc::default());
    let mut set = Set::default();
    let mut parsed = 0;
    for (name, bytes) in sources {
        let source = bytes::text(bytes);
        let kept = match &source {
            Cow::Borrowed(_) => Text::File(bytes.clone()),
            Cow::Owned(text) => Text::Made(text.as_str().into()),
        };
        // A chart that is there under many names is parsed for each of them; nothing else is made yet.
        interp
            .charge(1 + source.len() as u64 / BYTES_PER_STEP)
            .map_err(|cause| cause.text())
            .and_then(|()| context.room_for_templates(parsed + parse::room(&source)))
            .map_err(|why| TemplateError(format!("({name}) is not parsed: {why}")))?;
        let trees = parse::parse(&Rc::from(name), &source, kept)
            .map_err(|cause| TemplateError(exec_error::reformat_parse(name, &cause)))?;
        parsed += trees.iter().map(Tree::bytes).sum::<usize>();
        trees.into_iter().for_each(|tree| set.add(tree));
    }
    interp.set = Rc::new(set);
    Ok(interp)
}

fn execute(interp: &mut Interp<'_>, template: &Renderable) -> Result<Vec<u8>, TemplateError> {
    let named: Entries = [
        (Rc::from("Name"), Val::from(template.name.as_str())),
        (Rc::from("BasePath"), Val::from(template.base_path.as_str())),
    ]
    .into();
    let named = MapVal::new(named).of_kind(MapKind::Values);
    template.values.set("Template", Val::Map(named));
    let Some(tree) = interp.set.get(&template.name).cloned() else {
        return Ok(Vec::new());
    };
    let data = Val::Map(template.values.clone());
    let start = interp.out.len();
    interp
        .execute(&tree, data)
        .map_err(|cause| failed(&template.name, &cause))?;
    let text = interp.take_output(start);
    interp.made += text.len();
    let text = without_no_value(text);
    Ok(match bytes::bytes(&text) {
        Cow::Owned(bytes) => bytes,
        Cow::Borrowed(_) => text.into_bytes(),
    })
}

fn failed(name: &str, cause: &ExecError) -> TemplateError {
    TemplateError(bytes::lossy(&exec_error::reformat(name, cause)).into_owned())
}

/// Takes out what printing no value leaves behind.
pub(super) fn without_no_value(text: String) -> String {
    if text.contains("<no value>") {
        text.replace("<no value>", "")
    } else {
        text
    }
}
