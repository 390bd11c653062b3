//! What the hub permits to be deleted of what has left a unit's content (design §6). That additions are published is one
//! decision, that removals are permitted another one, and later: an object that leaves one app may be on its way to
//! another one, whose turn has not come yet.

use std::collections::{BTreeMap, BTreeSet};

use super::Clearing;
use crate::{object::ObjectKey, rollout::waiting::Waiting};

/// Objects that a clearing excepts. More of them are not on their way one by one: they are handed over first.
pub const EXCEPTED: usize = 1000;

/// An app that is rendered from the same source: where it stands with what that has now.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sibling {
    /// `Kind/namespace/name`.
    pub app: String,
    /// It is to be planned.
    pub due: bool,
    /// Why nothing, or not everything, of it moves.
    pub waiting: Vec<Waiting>,
    /// It is rendered from what the source has now.
    pub rendered: bool,
    /// That could not be done.
    pub failed: bool,
    /// It is suspended: it is rendered, and its units keep what they have.
    pub suspended: bool,
}

/// What suspended apps take over of a cluster's objects once they are resumed, each with who it is.
pub type Pending<'a> = BTreeMap<&'a ObjectKey, &'a str>;

/// Whether an app may claim more than its units do by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It does not.
    Settled,
    /// It may, and that will be known by itself in a moment. Where it belongs is not known either.
    Soon(String),
    /// It may, for as long as this is not mended; in words.
    Held(String),
    /// It may in the clusters of these names, for as long as this is not mended there; in words. In others it does not.
    HeldIn(BTreeSet<String>, String),
}

impl Sibling {
    /// Where it stands.
    pub fn standing(&self) -> Standing {
        let app = &self.app;
        let holding = || self.waiting.iter().filter(|why| !why.is_passing() && holds(why));
        let waits = |why: &Waiting| format!("{app}, of the same source, waits: {why}");
        // What it takes over once it is resumed is not asked in some clusters alone.
        if let Some(why) = holding().find(|why| self.suspended || why.cluster().is_none()) {
            return Standing::Held(waits(why));
        }
        if self.failed {
            return Standing::Held(format!("{app}, of the same source, cannot be rendered"));
        }
        match self.rendered && !self.due {
            true => match holding().next() {
                None => Standing::Settled,
                Some(why) => {
                    let clusters = holding().filter_map(Waiting::cluster);
                    Standing::HeldIn(clusters.map(str::to_owned).collect(), waits(why))
                }
            },
            // Nothing comes by itself, and nothing waits that would say why.
            false if self.suspended && !self.due => Standing::Held(format!(
                "{app}, of the same source, is suspended, and what it would take over is not known"
            )),
            false => Standing::Soon(format!(
                "{app}, of the same source, is being rendered and planned"
            )),
        }
    }

    /// Whether what it is rendered to counts as claimed, where it is placed: it is that as soon as somebody resumes it, also
    /// where it has no unit yet.
    pub fn takes_over(&self) -> bool {
        self.suspended
    }
}

/// Whether an app that waits for this may claim more once it does not: one that has no cluster claims nothing, what another app
/// has it claims already, and what is kept for another one, or waits to go, is no more than that.
fn holds(why: &Waiting) -> bool {
    let claims_no_more = matches!(
        why,
        Waiting::Claimed { .. }
            | Waiting::KeptElsewhere { .. }
            | Waiting::KeptCycle { .. }
            | Waiting::KeptBlocked { .. }
            | Waiting::KeptEmpty { .. }
            | Waiting::KeptUnasked { .. }
            | Waiting::KeptRemains { .. }
    );
    !why.is_nowhere() && !claims_no_more
}

/// What has left a unit, as its agent has reported it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Version of the unit that it is reported of.
    pub version: u64,
    /// How many objects.
    pub objects: usize,
    /// Those of them that are known here.
    pub keys: Vec<ObjectKey>,
}

/// Decides what of it may go, where no app of the same source may claim any of it still. `claimed` is what other units of the
/// cluster are to have, whether they leave it to this one or not: this one has let go of it. `pending` is what suspended apps
/// of the same source take over there once they are resumed.
pub fn clear(left: &Left, claimed: &BTreeSet<&ObjectKey>, pending: &Pending<'_>) -> Result<Clearing, String> {
    // What is claimed is excepted, and the rest need not wait for it.
    let mut unclaimed = left.keys.iter().filter(|key| !claimed.contains(*key));
    if let Some((key, app)) = unclaimed.find_map(|key| Some((key, pending.get(key)?))) {
        return Err(format!(
            "{app}, of the same source, is suspended, and takes over {key} when it is resumed: resume or delete it"
        ));
    }
    if left.keys.len() != left.objects {
        return Err(format!(
            "the hub knows {} of the {} objects that have left: the agent's next report tells the others",
            left.keys.len(),
            left.objects
        ));
    }
    let mut except: Vec<ObjectKey> = left
        .keys
        .iter()
        .filter(|key| claimed.contains(*key))
        .cloned()
        .collect();
    if except.len() > EXCEPTED {
        return Err(format!(
            "other apps claim {} of the objects that have left: these are handed over first",
            except.len()
        ));
    }
    except.sort_unstable();
    Ok(Clearing {
        version: left.version,
        except,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("", "ConfigMap", "a", name)
    }

    fn settled() -> Sibling {
        Sibling {
            app: "Kustomization/apps/b".to_owned(),
            rendered: true,
            ..Sibling::default()
        }
    }

    #[test]
    fn an_app_is_settled_once_it_is_planned_from_what_the_source_has_and_waits_for_nothing() {
        let failed = Waiting::BuildFailed {
            message: "no such file".to_owned(),
        };
        let soon = [
            Sibling {
                due: true,
                ..settled()
            },
            Sibling {
                rendered: false,
                ..settled()
            },
            Sibling {
                rendered: false,
                waiting: vec![Waiting::RendererBusy],
                ..settled()
            },
        ];
        let soon = soon.into_iter().chain([
            Sibling {
                suspended: true,
                due: true,
                ..settled()
            },
            Sibling {
                suspended: true,
                due: true,
                rendered: false,
                ..settled()
            },
        ]);
        let held = [
            Sibling {
                failed: true,
                rendered: false,
                ..settled()
            },
            Sibling {
                waiting: vec![failed.clone()],
                ..settled()
            },
            Sibling {
                waiting: vec![failed],
                due: true,
                ..settled()
            },
            Sibling {
                suspended: true,
                failed: true,
                rendered: false,
                ..settled()
            },
            Sibling {
                suspended: true,
                rendered: false,
                ..settled()
            },
        ];
        let no_matter = [
            settled(),
            Sibling {
                waiting: vec![Waiting::NoClusterMatches],
                ..settled()
            },
            Sibling {
                waiting: vec![Waiting::departing(&["c1".to_owned()])],
                ..settled()
            },
            Sibling {
                suspended: true,
                ..settled()
            },
        ];
        for one in soon {
            assert!(matches!(one.standing(), Standing::Soon(_)), "{one:?}");
        }
        for one in held {
            let Standing::Held(why) = one.standing() else {
                panic!("{one:?}");
            };
            assert!(
                why.starts_with("Kustomization/apps/b, of the same source, "),
                "{why}"
            );
        }
        for one in no_matter {
            assert_eq!(one.standing(), Standing::Settled, "{one:?}");
        }
    }

    #[test]
    fn what_holds_an_app_in_one_cluster_holds_nothing_in_others_once_it_is_planned() {
        let why = Waiting::DependencyNotReady {
            cluster: "c7".into(),
            name: "infra/db".into(),
            why: "is not ready".into(),
        };
        let held = Sibling {
            waiting: vec![why.clone()],
            ..settled()
        };
        let Standing::HeldIn(clusters, said) = held.standing() else {
            panic!("{:?}", held.standing());
        };
        assert_eq!(clusters, BTreeSet::from(["c7".to_owned()]));
        assert!(said.contains("of cluster c7 is not ready"), "{said}");
        let due = Sibling {
            due: true,
            ..held.clone()
        };
        assert!(matches!(due.standing(), Standing::Soon(_)));
        let suspended = Sibling {
            suspended: true,
            ..held.clone()
        };
        assert!(matches!(suspended.standing(), Standing::Held(_)));
        let everywhere = Sibling {
            waiting: vec![why, Waiting::NoArtifact],
            ..held
        };
        assert!(matches!(everywhere.standing(), Standing::Held(_)));
    }

    #[test]
    fn all_that_has_left_is_cleared_but_for_what_others_claim() {
        let left = Left {
            version: 7,
            objects: 3,
            keys: vec![key("c"), key("b"), key("a")],
        };
        let (b, other) = (key("b"), key("other"));
        let cleared = clear(&left, &BTreeSet::from([&b, &other]), &Pending::new()).expect("cleared");
        assert_eq!(
            cleared,
            Clearing {
                version: 7,
                except: vec![key("b")]
            }
        );
        assert!(cleared.covers(&key("a"), 7) && !cleared.covers(&key("b"), 7));
    }

    /// It would be made anew when that app is resumed, and what it holds would be lost.
    #[test]
    fn what_a_suspended_app_takes_over_when_it_is_resumed_keeps_what_left_with_it_and_nothing_else_does() {
        let suspended = Sibling {
            suspended: true,
            ..settled()
        };
        assert!(suspended.takes_over() && !settled().takes_over());
        let left = Left {
            version: 7,
            objects: 2,
            keys: vec![key("a"), key("b")],
        };
        let (b, other) = (key("b"), key("other"));
        let pending = |key| Pending::from([(key, suspended.app.as_str())]);
        let why = clear(&left, &BTreeSet::new(), &pending(&b)).expect_err("held");
        assert!(
            why.contains("Kustomization/apps/b") && why.contains(&b.to_string()),
            "{why}"
        );
        assert!(clear(&left, &BTreeSet::new(), &pending(&other)).is_ok());
        let excepted = clear(&left, &BTreeSet::from([&b]), &pending(&b)).expect("cleared");
        assert_eq!(excepted.except, [b]);
    }

    #[test]
    fn nothing_is_cleared_of_what_is_not_known_whole_or_is_mostly_others() {
        let keys: Vec<ObjectKey> = (0..=EXCEPTED).map(|n| key(&n.to_string())).collect();
        let unknown = Left {
            version: 1,
            objects: 3,
            keys: vec![key("a")],
        };
        let clear =
            |left: &Left, claimed: &BTreeSet<&ObjectKey>| super::clear(left, claimed, &Pending::new());
        assert!(clear(&unknown, &BTreeSet::new()).is_err());
        let many = Left {
            version: 1,
            objects: keys.len(),
            keys: keys.clone(),
        };
        assert!(clear(&many, &keys.iter().collect()).is_err());
        assert!(clear(&many, &keys.iter().skip(1).collect()).is_ok());
    }
}
