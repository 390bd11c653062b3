//! Which objects an app's units claim in each cluster: the names of a content as they will be there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    content::{Content, Form},
    digest::Digest,
    fleet::placement::Chosen,
    id::ClusterId,
    object::ObjectKey,
    rollout::plan::Current,
    substitute::{self, Variables},
};

/// Values of one layer of an app's own variables.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// By name.
    pub values: &'a BTreeMap<String, String>,
    /// They are a Secret's: no name may tell one.
    pub secret: bool,
}

/// What the names of an app's objects depend on, besides its content.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The app's own variables, in order.
    pub layers: &'a [Layer<'a>],
    /// Variables are put in whether there are any or not.
    pub always: bool,
    /// The clusters chosen.
    pub chosen: &'a [Chosen],
}

/// Where every chosen cluster has a unit that owns all objects of its content: the contents of which it is enough to know
/// that they have the same keys as the one to come. `None`: who owns what is to be found out.
pub fn settled(chosen: &[Chosen], units: &[Current], content: Digest) -> Option<BTreeSet<Digest>> {
    let units_of: BTreeMap<ClusterId, &Current> = units.iter().map(|unit| (unit.cluster, unit)).collect();
    let owns = |chosen: &Chosen| {
        let unit = units_of.get(&chosen.id);
        unit.is_some_and(|unit| unit.content.is_some() && unit.withheld.is_empty())
    };
    let contents = units.iter().filter_map(|unit| unit.content);
    chosen
        .iter()
        .all(owns)
        .then(|| contents.chain([content]).collect())
}

/// The keys of a content's objects, with the clusters where they are that: the same everywhere, unless a name holds a
/// variable.
pub fn keys_by_cluster(content: &Content, names: &Names<'_>) -> Vec<(Arc<[ObjectKey]>, Vec<ClusterId>)> {
    if content.keys_digest().is_some() {
        let clusters = names.chosen.iter().map(|chosen| chosen.id).collect();
        let mut keys: Vec<ObjectKey> = content.objects().iter().map(|entry| entry.key.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        return vec![(keys.into(), clusters)];
    }
    let mut by_keys: BTreeMap<Vec<ObjectKey>, Vec<ClusterId>> = BTreeMap::new();
    for chosen in names.chosen {
        by_keys
            .entry(keys(content, names, chosen))
            .or_default()
            .push(chosen.id);
    }
    by_keys
        .into_iter()
        .map(|(keys, clusters)| (keys.into(), clusters))
        .collect()
}

/// Keys as they will be in the cluster: names may hold variables. The same function the agent uses; a name that
/// cannot be resolved here, or would tell a Secret's value, stays as written, and the agent's verdict counts.
fn keys(content: &Content, names: &Names<'_>, chosen: &Chosen) -> Vec<ObjectKey> {
    // With one value in place of each that is a Secret's, and with another: what differs between the two holds one.
    let variables = |stand_in: &str| {
        let mut values: Vec<BTreeMap<String, String>> = names
            .layers
            .iter()
            .map(|layer| match layer.secret {
                true => {
                    let names = layer.values.keys();
                    names.map(|name| (name.clone(), stand_in.to_owned())).collect()
                }
                false => layer.values.clone(),
            })
            .collect();
        values.push(chosen.variables.clone());
        values.extend(chosen.overrides.clone());
        Variables::from_layers(values).ok()
    };
    let variables = variables("a").zip(variables("b"));
    let mut keys: Vec<ObjectKey> = content
        .objects()
        .iter()
        .map(|entry| {
            let mut key = entry.key.clone();
            if let (Form::Yaml, Some((one, other))) = (entry.form, &variables)
                && substitute::runs(one, names.always)
            {
                for field in [&mut key.namespace, &mut key.name] {
                    let text = substitute::substitute(field, one, true);
                    if let Ok(text) = text
                        && substitute::substitute(field, other, true).is_ok_and(|same| same == text)
                    {
                        *field = text;
                    }
                }
            }
            key
        })
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::content::{ObjectEntry, Objects};

    fn chosen(number: u128, region: &str) -> Chosen {
        Chosen {
            id: ClusterId(Uuid::from_u128(number)),
            name: format!("c{number}"),
            variables: BTreeMap::from([("region".into(), region.into())]),
            overrides: Ok(BTreeMap::new()),
        }
    }

    fn content(written: &[&str]) -> Content {
        let entries = written.iter().map(|name| ObjectEntry {
            key: ObjectKey::new("", "ConfigMap", "apps", name),
            form: Form::Yaml,
            digest: Digest::of("object", name.as_bytes()),
        });
        Content::Objects(Objects {
            entries: entries.collect(),
            count: 0,
            complete: true,
        })
    }

    fn layer(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    fn found(written: &[&str], layers: &[Layer<'_>], chosen: &[Chosen]) -> Vec<(Vec<String>, usize)> {
        let names = Names {
            layers,
            always: false,
            chosen,
        };
        let found = keys_by_cluster(&content(written), &names).into_iter();
        found
            .map(|(keys, clusters)| (keys.iter().map(|key| key.name.clone()).collect(), clusters.len()))
            .collect()
    }

    #[test]
    fn a_name_that_holds_a_secrets_value_stays_as_written() {
        let (tier, password, open) = (
            layer("tier", "gold"),
            layer("password", "hunter2"),
            layer("password", "open"),
        );
        let of = |values, secret| Layer { values, secret };
        let layers = [of(&tier, false), of(&password, true)];
        let written = [
            "a-${tier}-${region}",
            "b-${password}",
            "c-${password:=x}",
            "d-${password:0:1}",
        ];
        let expected = [
            "a-gold-eu",
            "b-${password}",
            "c-${password:=x}",
            "d-${password:0:1}",
        ]
        .map(str::to_owned);
        assert_eq!(
            found(&written, &layers, &[chosen(2, "eu")]),
            [(expected.to_vec(), 1)]
        );
        // What wins over the Secret is nobody's secret.
        let over = [of(&tier, false), of(&password, true), of(&open, false)];
        assert_eq!(
            found(&["b-${password}"], &over, &[chosen(2, "eu")]),
            [(vec!["b-open".to_owned()], 1)]
        );
    }

    #[test]
    fn clusters_are_apart_only_where_a_name_differs_between_them() {
        let three = [chosen(1, "eu"), chosen(2, "us"), chosen(3, "eu")];
        assert_eq!(found(&["plain"], &[], &three), [(vec!["plain".to_owned()], 3)]);
        assert_eq!(
            found(&["a-${region}"], &[], &three),
            [(vec!["a-eu".to_owned()], 2), (vec!["a-us".to_owned()], 1)]
        );
    }
}
