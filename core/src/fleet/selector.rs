//! Label selectors as Kubernetes means them: matchLabels and matchExpressions, and the string form of
//! `kubectl -l` (`a=b,c!=d,e in (x,y),f notin (z),g,!h`). All requirements must hold.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

mod text;

/// A label selector; the empty one matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

/// One requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
    values: BTreeSet<String>,
}

/// How a label is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// Has one of the values.
    In,
    /// Has none of the values, or no such label.
    NotIn,
    /// Has the label.
    Exists,
    /// Has no such label.
    DoesNotExist,
}

/// A requirement as manifests spell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expression {
    /// Label key.
    pub key: String,
    /// Operator.
    pub operator: Operator,
    /// Values of `In` and `NotIn`.
    #[serde(default)]
    pub values: Vec<String>,
}

/// Why text or fields are no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidSelector {
    /// Path of the field, or the part of the text.
    pub field: String,
    /// What is wrong.
    pub problem: &'static str,
}

fn invalid(field: impl Into<String>, problem: &'static str) -> InvalidSelector {
    InvalidSelector {
        field: field.into(),
        problem,
    }
}

impl Selector {
    /// Makes a selector from the fields of a manifest.
    pub fn from_parts(
        match_labels: &BTreeMap<String, String>,
        match_expressions: &[Expression],
    ) -> Result<Self, InvalidSelector> {
        let mut requirements = Vec::new();
        for (key, value) in match_labels {
            check_key(key).map_err(|problem| invalid(format!("matchLabels.{key}"), problem))?;
            check_value(value).map_err(|problem| invalid(format!("matchLabels.{key}"), problem))?;
            requirements.push(requirement(key, Operator::In, [value.clone()]));
        }
        for (index, expression) in match_expressions.iter().enumerate() {
            let field = format!("matchExpressions[{index}]");
            check_key(&expression.key).map_err(|problem| invalid(format!("{field}.key"), problem))?;
            for value in &expression.values {
                check_value(value).map_err(|problem| invalid(format!("{field}.values"), problem))?;
            }
            let wants_values = matches!(expression.operator, Operator::In | Operator::NotIn);
            match (wants_values, expression.values.is_empty()) {
                (true, true) => return Err(invalid(format!("{field}.values"), "In and NotIn need values")),
                (false, false) => {
                    return Err(invalid(
                        format!("{field}.values"),
                        "Exists and DoesNotExist take no values",
                    ));
                }
                _ => {}
            }
            requirements.push(requirement(
                &expression.key,
                expression.operator,
                expression.values.clone(),
            ));
        }
        Ok(Self { requirements })
    }

    /// Reads the string form.
    pub fn parse(text: &str) -> Result<Self, InvalidSelector> {
        text::parse(text).map(|requirements| Self { requirements })
    }

    /// Tells whether `labels` fulfil every requirement.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|one| {
            let value = labels.get(&one.key);
            match one.operator {
                Operator::In => value.is_some_and(|value| one.values.contains(value)),
                Operator::NotIn => value.is_none_or(|value| !one.values.contains(value)),
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
            }
        })
    }

    /// Labels that whatever it matches has, with their values: those that are required to be equal to one.
    pub fn required(&self) -> BTreeMap<&str, &str> {
        let of_one = |one: &'_ Requirement| one.operator == Operator::In && one.values.len() == 1;
        let equal = self.requirements.iter().filter(|one| of_one(one));
        equal
            .filter_map(|one| Some((one.key.as_str(), one.values.first()?.as_str())))
            .collect()
    }

    /// Tells whether it matches everything.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, one) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            let values = one
                .values
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(",");
            match one.operator {
                Operator::In if one.values.len() == 1 => write!(f, "{}={values}", one.key)?,
                Operator::In => write!(f, "{} in ({values})", one.key)?,
                Operator::NotIn if one.values.len() == 1 => write!(f, "{}!={values}", one.key)?,
                Operator::NotIn => write!(f, "{} notin ({values})", one.key)?,
                Operator::Exists => f.write_str(&one.key)?,
                Operator::DoesNotExist => write!(f, "!{}", one.key)?,
            }
        }
        Ok(())
    }
}

fn requirement(key: &str, operator: Operator, values: impl IntoIterator<Item = String>) -> Requirement {
    Requirement {
        key: key.to_owned(),
        operator,
        values: values.into_iter().collect(),
    }
}

fn check_key(key: &str) -> Result<(), &'static str> {
    let name = match key.split_once('/') {
        Some((prefix, name)) => {
            let valid = prefix.len() <= 253 && prefix.split('.').all(is_dns_label);
            if !valid {
                return Err("the prefix of a label key is a DNS name");
            }
            name
        }
        None => key,
    };
    if name.is_empty() || !is_name(name) {
        return Err("a label key is up to 63 letters, digits, '-', '_' and '.'");
    }
    Ok(())
}

fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    !text.is_empty()
        && text.bytes().all(|b| inner(b) || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn check_value(value: &str) -> Result<(), &'static str> {
    if value.is_empty() || is_name(value) {
        Ok(())
    } else {
        Err("a label value is up to 63 letters, digits, '-', '_' and '.'")
    }
}

fn is_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.len() <= 63
        && text.chars().all(inner)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_string_form_matches_as_kubectl_does() {
        let cluster = labels(&[("env", "prod"), ("region", "eu")]);
        let cases = [
            ("", true),
            ("env=prod", true),
            ("env==prod", true),
            ("env!=prod", false),
            ("tier!=x", true),
            ("env in (prod, staging)", true),
            ("env notin (prod,staging)", false),
            ("tier notin (x)", true),
            ("region", true),
            ("!tier", true),
            ("!env", false),
            ("env=prod,region in (us)", false),
            (" env = prod , region ", true),
        ];
        for (text, expected) in cases {
            let selector = Selector::parse(text).expect(text);
            assert_eq!(selector.matches(&cluster), expected, "{text}");
            assert_eq!(Selector::parse(&selector.to_string()), Ok(selector), "{text}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused_with_its_place() {
        for text in [
            "=x",
            "a b",
            "env in prod",
            "env in (prod",
            "a=b c",
            "-a=b",
            "!",
            "/a=b",
            "A/a=b",
        ] {
            assert!(Selector::parse(text).is_err(), "{text}");
        }
        let expression = |operator, values: &[&str]| Expression {
            key: "env".into(),
            operator,
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        };
        let error = Selector::from_parts(&BTreeMap::new(), &[expression(Operator::In, &[])]);
        assert_eq!(
            error.map_err(|e| e.field),
            Err("matchExpressions[0].values".into())
        );
        let error = Selector::from_parts(&BTreeMap::new(), &[expression(Operator::Exists, &["x"])]);
        assert!(error.is_err());
        let error = Selector::from_parts(&labels(&[("env", "a b")]), &[]);
        assert_eq!(error.map_err(|e| e.field), Err("matchLabels.env".into()));
    }
}
