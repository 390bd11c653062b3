//! What a chart says of itself takes in memory, where a rendering copies it for each name that the chart has.

use super::{Dependency, Maintainer, Metadata};
use crate::yaml::Value;

/// What a text takes beside its bytes, in a list or a map.
const BYTES_PER_TEXT: usize = 128;
/// What a maintainer or a dependency takes, as a template sees it.
const BYTES_PER_MAP: usize = 2048;

impl Metadata {
    /// Returns how many bytes of memory a copy takes at most, be it as it is or as templates see it.
    pub(in crate::helm) fn bytes(&self) -> usize {
        let own = [
            &self.name,
            &self.home,
            &self.version,
            &self.description,
            &self.icon,
            &self.api_version,
            &self.condition,
            &self.tags,
            &self.app_version,
            &self.kube_version,
            &self.kind,
        ];
        let own = own.map(of_text).into_iter().sum::<usize>();
        let lists = of_texts(&self.sources) + of_texts(&self.keywords);
        let annotations = self.annotations.iter();
        let annotations = annotations
            .map(|(key, text)| of_text(key) + text.len())
            .sum::<usize>();
        let maintainers = self.maintainers.iter().map(Maintainer::bytes).sum::<usize>();
        let dependencies = self.dependencies.iter().flatten();
        let dependencies = dependencies.map(Dependency::bytes).sum::<usize>();
        BYTES_PER_MAP + own + lists + annotations + maintainers + dependencies
    }
}

impl Maintainer {
    fn bytes(&self) -> usize {
        BYTES_PER_MAP + self.name.len() + self.email.len() + self.url.len()
    }
}

impl Dependency {
    fn bytes(&self) -> usize {
        let own = [
            &self.name,
            &self.version,
            &self.repository,
            &self.condition,
            &self.alias,
        ];
        let own = own.map(String::len).into_iter().sum::<usize>();
        let imports = self.import_values.iter().map(of_value).sum::<usize>();
        BYTES_PER_MAP + own + of_texts(&self.tags) + imports
    }
}

#[expect(clippy::ptr_arg, reason = "it is mapped over references to fields")]
fn of_text(text: &String) -> usize {
    BYTES_PER_TEXT + text.len()
}

fn of_texts(texts: &[String]) -> usize {
    texts.iter().map(of_text).sum()
}

fn of_value(value: &Value) -> usize {
    BYTES_PER_TEXT
        + match value {
            Value::String(text) => text.len(),
            Value::List(items) => items.iter().map(of_value).sum(),
            Value::Map(fields) => fields
                .iter()
                .map(|(key, value)| of_text(key) + of_value(value))
                .sum(),
            _ => 0,
        }
}
