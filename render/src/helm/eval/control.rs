//! Runs nodes: text, actions, branches, loops and calls of templates.

use super::{Dot, Flow, Frame, Interp, Outcome, RED_ZONE, STACK_STEP};
use crate::helm::ast::{Branch, List, Node, Pipe};
use crate::helm::print;
use crate::helm::quote::quote;
use crate::helm::value::{Items, MapKind, Val};

impl Interp<'_> {
    pub(super) fn list<'t>(&mut self, frame: &mut Frame<'t>, dot: &Dot, list: &'t List) -> Outcome<Flow> {
        frame.at = (list.pos, list);
        self.enter(frame)?;
        let flow = stacker::maybe_grow(RED_ZONE, STACK_STEP, || self.nodes(frame, dot, &list.nodes));
        self.depth -= 1;
        flow
    }

    fn nodes<'t>(&mut self, frame: &mut Frame<'t>, dot: &Dot, nodes: &'t [Node]) -> Outcome<Flow> {
        for node in nodes {
            match self.node(frame, dot, node)? {
                Flow::On => {}
                jump => return Ok(jump),
            }
        }
        Ok(Flow::On)
    }

    fn node<'t>(&mut self, frame: &mut Frame<'t>, dot: &Dot, node: &'t Node) -> Outcome<Flow> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action { pos, pipe } => {
                let value = self.pipeline(frame, dot, pipe)?;
                if pipe.declares.is_empty() {
                    frame.at = (*pos, node);
                    match &value.value {
                        Val::Str(text) => self.out.push_str(text),
                        Val::Invalid => self.out.push_str("<no value>"),
                        value => {
                            self.charge_written(frame, value)?;
                            print::append_action(value, &mut self.out);
                        }
                    }
                }
            }
            Node::If(branch) => return self.branch(frame, dot, branch, false),
            Node::With(branch) => return self.branch(frame, dot, branch, true),
            Node::Range(branch) => {
                frame.at = (branch.pos, node);
                return self.range(frame, dot, branch);
            }
            Node::Template { pos, name, pipe, .. } => {
                frame.at = (*pos, node);
                self.template(frame, dot, name, pipe.as_deref())?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn branch<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Dot,
        branch: &'t Branch,
        with: bool,
    ) -> Outcome<Flow> {
        let mark = frame.variables.len();
        let value = self.pipeline(frame, dot, &branch.pipe)?;
        let flow = if value.value.truth() {
            self.list(frame, if with { &value } else { dot }, &branch.list)
        } else if let Some(otherwise) = &branch.otherwise {
            self.list(frame, dot, otherwise)
        } else {
            Ok(Flow::On)
        };
        frame.variables.truncate(mark);
        flow
    }

    fn range<'t>(&mut self, frame: &mut Frame<'t>, dot: &Dot, branch: &'t Branch) -> Outcome<Flow> {
        let outer = frame.variables.len();
        let over = self.pipeline(frame, dot, &branch.pipe)?.value;
        let ran = self.iterate(frame, branch, &over)?;
        let flow = match (&branch.otherwise, ran) {
            (Some(otherwise), false) => self.list(frame, dot, otherwise),
            _ => Ok(Flow::On),
        };
        frame.variables.truncate(outer);
        flow
    }

    /// Runs the body for every item; returns whether there was one.
    fn iterate<'t>(&mut self, frame: &mut Frame<'t>, branch: &'t Branch, over: &Val) -> Outcome<bool> {
        if matches!(over, Val::Map(_) | Val::Object(_)) {
            self.charge_entries(frame, over, true)?;
        }
        match over {
            Val::Invalid | Val::Nil => Ok(false),
            Val::List(list) => {
                for (at, item) in list.items.iter().enumerate() {
                    let item = Dot {
                        value: item.clone(),
                        boxed: list.of == Items::Any,
                    };
                    if self.once(frame, branch, Val::Int(at as i64), item)? == Flow::Break {
                        break;
                    }
                }
                Ok(!list.items.is_empty())
            }
            Val::Map(map) => {
                // The body may change the map; Go takes its entries before it starts.
                let entries: Vec<_> = map
                    .entries
                    .borrow()
                    .iter()
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect();
                let boxed = map.kind != MapKind::Strings;
                let some = !entries.is_empty();
                for (key, value) in entries {
                    if self.once(frame, branch, Val::Str(key), Dot { value, boxed })? == Flow::Break {
                        break;
                    }
                }
                Ok(some)
            }
            Val::Object(object) => match object.entries() {
                Some(entries) => {
                    let some = !entries.is_empty();
                    for (key, value) in entries {
                        if self.once(frame, branch, key, Dot::plain(value))? == Flow::Break {
                            break;
                        }
                    }
                    Ok(some)
                }
                None => self.cannot_range(frame, over),
            },
            other => match other
                .as_signed()
                .or(other.as_unsigned().map(|number| number as i64))
            {
                Some(_) if branch.pipe.declares.len() > 1 => {
                    let shown = print::text(other);
                    self.fail(
                        frame,
                        format!("can't use {shown} to iterate over more than one variable"),
                    )
                }
                Some(count) => {
                    for at in 0..count {
                        let item = match other {
                            Val::Int64(_) => Val::Int64(at),
                            _ => Val::Int(at),
                        };
                        if self.once(frame, branch, Val::Invalid, Dot::plain(item))? == Flow::Break {
                            break;
                        }
                    }
                    Ok(count > 0)
                }
                None => self.cannot_range(frame, over),
            },
        }
    }

    fn cannot_range<T>(&self, frame: &Frame<'_>, over: &Val) -> Outcome<T> {
        self.fail(frame, format!("range can't iterate over {}", print::text(over)))
    }

    fn once<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        branch: &'t Branch,
        index: Val,
        item: Dot,
    ) -> Outcome<Flow> {
        let mark = frame.variables.len();
        let index = Dot::plain(index);
        match (&branch.pipe.declares[..], branch.pipe.assigns) {
            ([], _) => {}
            ([one], true) => self.assign(frame, one, item.clone())?,
            ([first, second], true) => {
                self.assign(frame, first, index)?;
                self.assign(frame, second, item.clone())?;
            }
            ([_], false) => frame.variables[mark - 1].1 = item.clone(),
            (_, false) => {
                frame.variables[mark - 1].1 = item.clone();
                frame.variables[mark - 2].1 = index;
            }
            (_, true) => {}
        }
        self.step(frame)?;
        let flow = self.list(frame, &item, &branch.list);
        frame.variables.truncate(mark);
        flow
    }

    fn template<'t>(
        &mut self,
        frame: &mut Frame<'t>,
        dot: &Dot,
        name: &str,
        pipe: Option<&'t Pipe>,
    ) -> Outcome<()> {
        self.charge_compared(frame, name)?;
        self.charge_sets()?;
        let Some(tree) = self.set.get(name).cloned() else {
            return self.fail(frame, format!("template {} not defined", quote(name)));
        };
        let data = match pipe {
            Some(pipe) => self.pipeline(frame, dot, pipe)?,
            None => Dot::plain(Val::Invalid),
        };
        self.run(&tree, data)
    }
}
