//! What calls cost beside the step that each is: functions that walk through values, or that take long by
//! design, pay for it in steps, so that steps bound the time. What they walk through is noted as read.

use super::{Frame, Interp, Outcome};
use crate::helm::context::Reads;
use crate::helm::object::Object;
use crate::helm::value::Val;

/// How deep values may hold each other where a function walks through them.
const MAX_NESTING: usize = 1000;
/// How many bytes of text a function handles for one step.
const BYTES_PER_STEP: usize = 16;
/// What a list or a map takes in memory for each thing that it holds.
const BYTES_PER_ITEM: usize = 64;
/// What a list or a map takes in memory by itself.
const BYTES_PER_HOLDER: usize = 128;

/// How far a function looks into its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::helm) enum Walk {
    /// It passes them on, or looks one thing up.
    None,
    /// It goes through the items of a list or a map, not into them.
    Items,
    /// It goes through all of them, to the last leaf.
    All,
}

impl Walk {
    /// Returns how far the function of this name looks; one that is not named here, into everything.
    pub(in crate::helm) fn of(name: &str) -> Walk {
        match name {
            "include" | "tpl" | "set" | "unset" | "merge" | "mustMerge" | "mergeOverwrite"
            | "mustMergeOverwrite" | "get" | "hasKey" | "index" | "dig" | "default" | "empty" | "not"
            | "len" | "ternary" | "coalesce" | "kindIs" | "kindOf" | "typeIs" | "typeOf" | "typeIsLike"
            | "required" | "first" | "mustFirst" | "last" | "mustLast" | "list" | "tuple" | "dict"
            | "any" | "all" => Walk::None,
            "append" | "push" | "mustAppend" | "mustPush" | "prepend" | "mustPrepend" | "rest"
            | "mustRest" | "initial" | "mustInitial" | "slice" | "mustSlice" | "reverse" | "mustReverse"
            | "concat" | "compact" | "mustCompact" | "chunk" | "mustChunk" | "keys" | "values" | "pick"
            | "omit" | "pluck" | "until" | "untilStep" => Walk::Items,
            _ => Walk::All,
        }
    }
}

/// Returns the steps that a function takes by design.
fn price(name: &str, args: &[Val]) -> u64 {
    let length = |at: usize| args.get(at).and_then(Val::as_str).map_or(0, str::len) as u64;
    match name {
        // Reading an expression, apart from what compiling it and matching cost.
        _ if name.starts_with("regex") || name.starts_with("mustRegex") => 100 + 16 * length(0),
        // They look whether a text holds bytes that are no UTF-8.
        "index" | "len" => length(0) / 512,
        _ => 0,
    }
}

/// What walking through values came to.
#[derive(Default)]
struct Size {
    nodes: usize,
    bytes: usize,
    /// What was seen on the way that the chart and the values do not decide.
    reads: Reads,
}

/// Why a walk ended early.
enum End {
    TooDeep,
    TooMany,
}

impl Size {
    fn steps(&self) -> u64 {
        (self.nodes / 4 + self.bytes / BYTES_PER_STEP) as u64
    }

    /// Adds a value; one that several hold counts for each of them, as it does for what walks through it.
    fn add(&mut self, value: &Val, depth: usize, most: usize) -> Result<(), End> {
        self.nodes += 1;
        if depth > MAX_NESTING {
            return Err(End::TooDeep);
        }
        if self.nodes > most {
            return Err(End::TooMany);
        }
        match value {
            Val::Str(text) => self.bytes += text.len(),
            Val::List(list) => {
                for item in list.items.iter() {
                    self.add(item, depth + 1, most)?;
                }
            }
            Val::Map(map) => {
                for (key, item) in map.entries.borrow().iter() {
                    self.bytes += key.len();
                    self.reads.key(key);
                    self.add(item, depth + 1, most)?;
                }
            }
            Val::Object(object) => {
                let (nodes, bytes) = object.size();
                self.nodes += nodes;
                self.bytes += bytes;
            }
            _ => {}
        }
        Ok(())
    }

    fn add_items(&mut self, value: &Val) {
        self.nodes += match value {
            Val::List(list) => list.items.len(),
            Val::Map(map) => {
                let entries = map.entries.borrow();
                entries.keys().for_each(|key| self.reads.key(key));
                entries.len()
            }
            Val::Object(object) => object.size().0,
            _ => 1,
        };
    }
}

impl Interp<'_> {
    /// Takes the steps that a call with these arguments costs.
    pub(super) fn charge_arguments(
        &mut self,
        frame: &Frame<'_>,
        name: &str,
        walk: Walk,
        args: &[Val],
    ) -> Outcome<()> {
        let mut size = Size::default();
        for arg in args {
            self.measure(frame, walk, arg, &mut size)?;
        }
        // What is no text is printed to be a key.
        for key in args
            .iter()
            .step_by(2)
            .filter(|key| name == "dict" && key.as_str().is_none())
        {
            self.measure(frame, Walk::All, key, &mut size)?;
        }
        self.reads.add(&size.reads);
        self.steps(frame, size.steps() + price(name, args))
    }

    /// Takes the steps, and counts the memory, that a call's result costs.
    pub(super) fn charge_result(
        &mut self,
        frame: &Frame<'_>,
        name: &str,
        walk: Walk,
        value: &Val,
    ) -> Outcome<()> {
        match value {
            Val::Str(text) => self.made += text.len(),
            // It makes room for one more, whatever the map held before.
            Val::Map(_) if name == "set" => self.made += BYTES_PER_ITEM,
            Val::Map(map) if name == "dict" => {
                let entries = map.entries.borrow();
                let keys: usize = entries.keys().map(|key| key.len()).sum();
                self.made += keys + entries.len() * BYTES_PER_ITEM + BYTES_PER_HOLDER;
            }
            // What is passed on was made before.
            Val::Map(_) if walk == Walk::None => {}
            value if value.holds_others() => {
                let mut size = Size::default();
                self.measure(frame, walk.max(Walk::Items), value, &mut size)?;
                self.made += size.bytes + size.nodes * BYTES_PER_ITEM + BYTES_PER_HOLDER;
                return self.steps(frame, size.steps());
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes the steps, and counts the memory, of a value that a method or a field of an object has made. Maps and
    /// objects but bytes are passed on.
    pub(super) fn charge_made(&mut self, frame: &Frame<'_>, value: &Val) -> Outcome<()> {
        let mut size = Size::default();
        match value {
            Val::Str(text) => size.bytes = text.len(),
            Val::List(_) => self.measure(frame, Walk::All, value, &mut size)?,
            Val::Object(object) => match &**object {
                Object::Bytes(bytes) => size.bytes = bytes.len(),
                _ => return Ok(()),
            },
            _ => return Ok(()),
        }
        self.made += size.bytes + size.nodes * BYTES_PER_ITEM;
        self.steps(frame, size.steps())
    }

    /// Takes the steps of going through what a map or an object holds; with its content, where copies are made of it.
    pub(super) fn charge_entries(&mut self, frame: &Frame<'_>, over: &Val, copied: bool) -> Outcome<()> {
        let mut size = Size::default();
        size.add_items(over);
        if let (Val::Object(object), true) = (over, copied) {
            size.bytes += object.size().1;
        }
        self.reads.add(&size.reads);
        self.steps(frame, size.steps())
    }

    /// Takes the steps that writing a value costs.
    pub(super) fn charge_written(&mut self, frame: &Frame<'_>, value: &Val) -> Outcome<()> {
        let mut size = Size::default();
        self.measure(frame, Walk::All, value, &mut size)?;
        self.reads.add(&size.reads);
        self.steps(frame, size.steps())
    }

    fn measure(&self, frame: &Frame<'_>, walk: Walk, value: &Val, size: &mut Size) -> Outcome<()> {
        match (walk, value) {
            (Walk::None, _) => Ok(()),
            (_, Val::Str(text)) => {
                size.bytes += text.len();
                Ok(())
            }
            (Walk::Items, value) => {
                size.add_items(value);
                Ok(())
            }
            (Walk::All, value) => {
                let most = usize::try_from(self.fuel).unwrap_or(usize::MAX).saturating_mul(4);
                match size.add(value, 0, most) {
                    Ok(()) => Ok(()),
                    Err(End::TooDeep) => {
                        self.fail(frame, format!("values are nested deeper than {MAX_NESTING}"))
                    }
                    Err(End::TooMany) => self.out_of_steps(frame),
                }
            }
        }
    }
}
