//! Guards over all that one commit would delete: what stays within each app's own guard may be much of a cluster, or of the
//! fleet. Counted are the objects that have left the apps of one source, wherever they are, with what went within the last
//! hour: agents report one after the other, and a commit in parts passes no guard that way. What a person has asked for (a
//! deletion, a drain) or has allowed does not count.

use crate::object::ObjectKey;

/// How much of what one source gives may go without a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// So many objects may go whatever share they are.
    pub objects: u64,
    /// Of more objects at most so many of a hundred that a cluster has.
    pub of_cluster: u8,
    /// And at most so many of a hundred that the fleet has.
    pub of_fleet: u8,
    /// Of more objects those of at most so many apps; 0: of any number.
    pub apps: u64,
}

impl Limits {
    /// What holds where nothing else is configured.
    pub const DEFAULT: Self = Self {
        objects: 100,
        of_cluster: 30,
        of_fleet: 20,
        apps: 0,
    };
}

/// What goes of one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfCluster {
    /// Its name.
    pub name: String,
    /// How many objects go.
    pub going: u64,
    /// How many objects apps have there, these included.
    pub had: u64,
}

/// What goes of the fleet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Going {
    /// How many objects.
    pub objects: u64,
    /// Of how many apps.
    pub apps: u64,
    /// In which clusters.
    pub clusters: Vec<OfCluster>,
    /// How many objects apps have in the fleet, these included.
    pub had: u64,
}

/// Judges all that is to go together. `Some`: a person is to look at it, and why.
pub fn guard(going: &Going, limits: &Limits) -> Option<String> {
    if going.objects <= limits.objects {
        return None;
    }
    let exceeds =
        |part: u64, of: u64, percent: u8| part.saturating_mul(100) > of.saturating_mul(percent.into());
    let share = |part: u64, of: u64| {
        part.saturating_mul(100)
            .checked_div(of)
            .map_or(100, |share| share.min(100))
    };
    let cluster = going
        .clusters
        .iter()
        .filter(|one| one.going > limits.objects && exceeds(one.going, one.had, limits.of_cluster))
        .max_by_key(|one| one.going);
    let why = if exceeds(going.objects, going.had, limits.of_fleet) {
        format!(
            "{}% of the {} objects that the fleet has, more than {}%",
            share(going.objects, going.had),
            going.had,
            limits.of_fleet
        )
    } else if let Some(one) = cluster {
        format!(
            "{} of them {}% of the {} objects that cluster {} has, more than {}%",
            one.going,
            share(one.going, one.had),
            one.had,
            one.name,
            limits.of_cluster
        )
    } else if limits.apps > 0 && going.apps > limits.apps {
        format!("of more than {} apps", limits.apps)
    } else {
        return None;
    };
    Some(format!(
        "RemovalBlocked: {} objects of {} would go by changes of one source in {}: {why}",
        going.objects,
        counted(going.apps, "app"),
        counted(going.clusters.len() as u64, "cluster"),
    ))
}

/// What is to be done about a set that is stopped, for the app of some of it.
pub fn advice(app: &str) -> String {
    format!("look at it and allow it with `flotilla approve {app}`, or put it back")
}

/// How many of the objects that have left are not excepted.
pub fn weight(left: &[ObjectKey], except: &[ObjectKey]) -> u64 {
    left.len().saturating_sub(except.len()) as u64
}

fn counted(number: u64, word: &str) -> String {
    match number {
        1 => format!("1 {word}"),
        number => format!("{number} {word}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn going(parts: &[(u64, u64)], apps: u64, had: u64) -> Going {
        let clusters = (1..).zip(parts).map(|(number, (going, had))| OfCluster {
            name: format!("c{number}"),
            going: *going,
            had: *had,
        });
        Going {
            objects: parts.iter().map(|(going, _)| going).sum(),
            apps,
            clusters: clusters.collect(),
            had,
        }
    }

    #[test]
    fn a_commit_that_takes_much_of_the_fleet_or_of_a_cluster_is_for_a_person_to_look_at() {
        let limits = Limits {
            apps: 5,
            ..Limits::DEFAULT
        };
        for (name, going, said) in [
            ("few", going(&[(100, 100)], 9, 100), None),
            (
                "a small share",
                going(&[(150, 1_000), (150, 1_000)], 5, 2_000),
                None,
            ),
            (
                "much of the fleet, little of each cluster",
                going(&[(101, 500), (101, 500)], 1, 1_000),
                Some(
                    "202 objects of 1 app would go by changes of one source in 2 clusters: 20% of the 1000 objects",
                ),
            ),
            (
                "much of one cluster",
                going(&[(1, 1_000), (150, 300)], 2, 100_000),
                Some("150 of them 50% of the 300 objects that cluster c2 has"),
            ),
            (
                "much of a small cluster alone",
                going(&[(90, 90), (30, 9_000)], 2, 100_000),
                None,
            ),
            (
                "many apps",
                going(&[(120, 9_000)], 6, 9_000),
                Some("of more than 5 apps"),
            ),
            (
                "nobody knows of what",
                going(&[(101, 0)], 1, 0),
                Some("100% of the 0 objects"),
            ),
        ] {
            let why = guard(&going, &limits);
            match said {
                None => assert_eq!(why, None, "{name}"),
                Some(said) => {
                    let why = why.unwrap_or_else(|| panic!("{name} passes"));
                    assert!(why.contains(said), "{name}: {why}");
                }
            }
        }
        let many = going(&[(120, 9_000)], 6, 9_000);
        assert_eq!(
            guard(&many, &Limits::DEFAULT),
            None,
            "apps are not counted by default"
        );
    }

    #[test]
    fn what_is_excepted_weighs_nothing() {
        let key = |name: &str| ObjectKey::new("", "ConfigMap", "a", name);
        assert_eq!(weight(&[key("a"), key("b")], &[key("a")]), 1);
        assert_eq!(weight(&[], &[key("a")]), 0);
    }
}
