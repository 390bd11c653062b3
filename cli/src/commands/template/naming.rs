//! How the release is called and which chart it is of: the arguments, or a template of a name.

use clap::ArgAction;
use flotilla_render::helm::render;

use super::{TemplateArgs, TemplateError, context, flags};
use crate::Host;
use crate::commands::deadline::Deadline;
use crate::error::CommandError;

/// How the release is named when its name is not given, and where that stands.
#[derive(Debug, clap::Args)]
pub(super) struct Naming {
    /// Give no name: the release is called release-name, as Helm calls one that is not installed
    #[arg(short, long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true, value_parser = flags::go_bool, value_name = "BOOL")]
    generate_name: bool,
    /// A template that makes the name of the release
    #[arg(long, value_name = "TEMPLATE")]
    name_template: Option<String>,
    /// Put the release's name into the paths below --output-dir
    #[arg(long, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true", hide_default_value = true, hide_possible_values = true, value_parser = flags::go_bool, value_name = "BOOL")]
    pub(super) release_name: bool,
}

/// What is wrong with arguments behind the chart; one may be meant as the value of a switch.
pub(super) fn too_many(more: &[String]) -> CommandError {
    let words = format!(
        "expected at most two arguments, unexpected arguments: {}",
        more.join(", ")
    );
    CommandError::usage(words).hint("a switch takes its value behind an equals sign: --debug=true")
}

/// Returns the release's name and the chart, as Helm has them.
pub(super) fn name(
    args: &TemplateArgs,
    deadline: Deadline,
    host: &mut Host,
) -> Result<(String, String), TemplateError> {
    let naming = &args.naming;
    // An empty template is that of a variable that is not set.
    let name_template = naming
        .name_template
        .as_ref()
        .filter(|template| !template.is_empty());
    match (args.name_and_chart.as_slice(), name_template) {
        ([_, _], _) if naming.generate_name => Err(TemplateError::Name(
            "cannot set --generate-name and also specify a name".to_owned(),
        )),
        ([_, _], Some(_)) => Err(TemplateError::Name(
            "cannot set --name-template and also specify a name".to_owned(),
        )),
        ([name, chart], None) => Ok((name.clone(), chart.clone())),
        ([chart], Some(template)) => Ok((named_by(template, deadline, host)?, chart.clone())),
        ([chart], None) => Ok(("release-name".to_owned(), chart.clone())),
        (other, _) => Err(TemplateError::NotLocal(other.join(" "))),
    }
}

/// Renders the template of a name, which sees nothing.
fn named_by(template: &str, deadline: Deadline, host: &mut Host) -> Result<String, TemplateError> {
    let context = context(deadline, host)?;
    render::render_alone("name-template", template, &context)
        .map_err(|error| TemplateError::Name(error.to_string()))
}
