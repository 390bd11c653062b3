//! The variables a kustomization declares, and the objects they refer to.

use std::collections::BTreeMap;

use super::super::error::{Result, invalid};
use super::super::id::{Gvk, Id};
use super::super::kustomization::Var;
use super::super::resource::Resource;
use super::super::steps::Steps;
use super::{Accumulator, Build, Target};

impl Build<'_> {
    /// Finds the objects that variables refer to.
    pub(super) fn vars(&self, target: &Target, acc: &mut Accumulator) -> Result<()> {
        for var in &target.kustomization.vars {
            let matches = var_targets(acc, var, &self.steps)?;
            match matches.as_slice() {
                [] => {}
                [position] => acc.map.contents_mut()[*position].variables.push(var.name.clone()),
                _ => {
                    return Err(invalid(format!(
                        "found {} resId matches for var {} (unable to disambiguate)",
                        matches.len(),
                        var.name
                    )));
                }
            }
        }
        for var in &target.kustomization.vars {
            add_var(&mut acc.vars, var.name.clone(), var.clone())?;
        }
        Ok(())
    }
}

pub(super) fn add_var(vars: &mut BTreeMap<String, Var>, name: String, var: Var) -> Result<()> {
    if vars.contains_key(&name) {
        return Err(invalid(format!("var '{name}' already encountered")));
    }
    vars.insert(name, var);
    Ok(())
}

fn var_targets(acc: &mut Accumulator, var: &Var, steps: &Steps<'_>) -> Result<Vec<usize>> {
    let gvk = var.gvk.as_gvk();
    if !var.namespace.is_empty() {
        let positions = acc.map.with_id(&Id::new(gvk, &var.object, &var.namespace));
        steps.spend(positions.len())?;
        return Ok(positions.to_vec());
    }
    let fits = |r: &Resource| {
        let now = r.gvk();
        (now == gvk && r.name() == var.object)
            || r.previous
                .iter()
                .any(|p| Gvk { kind: &p.kind, ..now } == gvk && p.name == var.object)
    };
    let positions = acc.map.with_name(&var.object).to_vec();
    let list = acc.map.list();
    let had = positions.iter().map(|position| list[*position].previous.len());
    steps.spend(positions.len() + had.sum::<usize>())?;
    Ok(positions
        .into_iter()
        .filter(|position| fits(&list[*position]))
        .collect())
}
