//! Where an app comes from: its source, and what that renders to.

use super::{
    Facts, Input, RenderState, Rendering, Source, SourceState, State, Step, counted, short_revision,
};

const SOURCE: &str = "source";
const RENDERING: &str = "rendering";

pub(super) fn source(facts: &Facts) -> Step {
    let Some(source) = &facts.source else {
        return Step::skipped(SOURCE, "the app names no source");
    };
    let Some(known) = &source.known else {
        let message = format!("{} is not there", source.name);
        return Step::blocked(SOURCE, "SourceNotFound", message).next(format!(
            "apply {}, or correct spec.sourceRef of {}",
            source.name, facts.app
        ));
    };
    let step = look(source, known);
    Step {
        seen: known.looked,
        ..step
    }
}

fn look(source: &Source, known: &SourceState) -> Step {
    let argument = source.name.argument();
    let failed = known.said.as_ref().filter(|said| said.status == "False");
    if known.unconfirmed {
        let message = format!(
            "{}: the hub was restored from a backup and has not seen it since",
            source.name
        );
        let step = match failed {
            Some(said) => Step::blocked(SOURCE, "Restored", format!("{message}: {}", said.message)),
            None => Step::waiting(SOURCE, "Restored", message),
        };
        return Step {
            again: known.next,
            ..step.next(format!("flotilla reconcile {argument}"))
        };
    }
    if known.suspended {
        let message = format!("{} is suspended: later commits are not seen", source.name);
        return Step::blocked(SOURCE, "Suspended", message).next(format!("flotilla resume {argument}"));
    }
    if !known.not_supported.is_empty() {
        let message = format!(
            "{} uses what this release does not support: {}",
            source.name,
            known.not_supported.join(", ")
        );
        return Step::blocked(SOURCE, "NotSupported", message);
    }
    if let Some(said) = failed {
        let mut message = format!("{}: {}", source.name, said.message);
        if known.failures > 1 {
            message.push_str(&format!(" ({} looks failed in a row)", known.failures));
        }
        let step = Step::blocked(SOURCE, &said.reason, message)
            .since(Some(said.since))
            .next(format!("flotilla reconcile {argument}"));
        return Step {
            again: known.next,
            ..step
        };
    }
    if known.said.is_none() {
        let message = format!("{} was not looked at yet", source.name);
        return Step::waiting(SOURCE, "Progressing", message);
    }
    match &known.revision {
        None => Step::waiting(
            SOURCE,
            "NoArtifact",
            format!("nothing of {} was fetched yet", source.name),
        ),
        Some(revision) if known.subject.is_empty() => Step::ok(
            SOURCE,
            format!("{} has {}", source.name, short_revision(revision)),
        ),
        Some(revision) => Step::ok(
            SOURCE,
            format!(
                "{} has {}: {}",
                source.name,
                short_revision(revision),
                known.subject
            ),
        ),
    }
}

pub(super) fn rendering(facts: &Facts) -> Step {
    let has_revision = |source: &Source| source.known.as_ref().is_some_and(|one| one.revision.is_some());
    if facts.source.as_ref().is_some_and(|source| !has_revision(source)) {
        return Step::skipped(RENDERING, "there is nothing to render yet");
    }
    match facts.input() {
        Input::Present => {}
        Input::OtherSource => {
            let message = "the app is suspended, and was rendered from another source than it names now";
            return Step::skipped(RENDERING, message);
        }
        Input::Changed => {
            let message =
                "the app is suspended, and it or the hub's engine has changed since it was rendered";
            return Step::new(RENDERING, State::Unknown, "Suspended", message);
        }
    }
    let Some(rendering) = &facts.rendering else {
        return match facts.suspended || !facts.waiting.is_empty() {
            true => Step::skipped(RENDERING, "nothing was rendered"),
            false => Step::waiting(RENDERING, "Progressing", "it is not rendered yet"),
        };
    };
    let step = rendered(rendering);
    Step {
        since: rendering.ended,
        ..step
    }
}

fn rendered(rendering: &Rendering) -> Step {
    let revision = short_revision(&rendering.revision);
    let mend = "mend it in Git; `flotilla kustomize DIRECTORY` renders a working copy in the same way";
    match rendering.state {
        RenderState::Done => Step::ok(RENDERING, format!("{revision} is rendered")),
        RenderState::Failed => {
            let message = format!("{revision} does not render: {}", rendering.message);
            Step::blocked(RENDERING, &rendering.reason, message).next(mend)
        }
        RenderState::NotSupported => {
            let message = format!("{revision} does not render: {}", rendering.message);
            Step::blocked(RENDERING, "NotSupported", message).next(mend)
        }
        RenderState::Pending if rendering.running => {
            let attempt = match rendering.attempts {
                0 | 1 => String::new(),
                more => format!(", attempt {more}"),
            };
            Step::waiting(
                RENDERING,
                "Progressing",
                format!("{revision} is being rendered{attempt}"),
            )
        }
        RenderState::Pending if rendering.message.is_empty() => Step::waiting(
            RENDERING,
            "Progressing",
            format!("{revision} is not rendered yet"),
        ),
        RenderState::Pending => {
            let message = format!(
                "{revision} could not be rendered after {}: {}",
                counted(rendering.attempts.into(), "attempt"),
                rendering.message
            );
            Step {
                again: rendering.again,
                ..Step::waiting(RENDERING, &rendering.reason, message)
            }
        }
    }
}
