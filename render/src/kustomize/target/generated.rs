//! What a kustomization makes itself: config maps, secrets, and the objects that configure plugins.

use std::borrow::Cow;

use serde_json::Value;

use super::super::error::{At, Error, Result, invalid};
use super::super::generators;
use super::super::kustomization::{GeneratorArgs, GeneratorOptions};
use super::super::load::LoadError;
use super::super::origin::Maker;
use super::super::plugins::{self, Generator};
use super::super::resource::Resource;
use super::{Accumulator, Build, Target};
use crate::yaml::node::{Node, Schema};

impl Build<'_> {
    pub(super) fn generate(&self, target: &Target, acc: &mut Accumulator) -> Result<()> {
        let k = &target.kustomization;
        let options = k.generator_options.as_ref();
        let length = options.map_or(0, GeneratorOptions::text_bytes);
        let mut made = Vec::new();
        for (list, secret) in [(&k.config_maps, false), (&k.secrets, true)] {
            let (field, kind) = if secret {
                ("secretGenerator", "SecretGenerator")
            } else {
                ("configMapGenerator", "ConfigMapGenerator")
            };
            for args in list {
                // Once with the arguments, and once in the object.
                self.steps.spend_bytes(2 * length)?;
                let args = args.clone().with_options(options);
                let maker = target
                    .origin
                    .as_ref()
                    .map(|origin| origin.of_field(&target.file, kind));
                made.push((field, self.make(target, &args, secret, maker).in_field(field)?));
            }
        }
        for value in self.plugins(target, &k.generators).in_field("generators")? {
            let maker = Maker::of_plugin(&value);
            let object = match plugins::generator(&value).in_field("generators")? {
                Generator::Data { args, secret } => self.make(target, &args, secret, maker),
                Generator::Object(text) => self.parsed(&text, maker),
            };
            made.push(("generators", object.in_field("generators")?));
        }
        for (field, resource) in made {
            acc.map.absorb(resource).in_field(field)?;
        }
        Ok(())
    }

    fn make(
        &self,
        target: &Target,
        args: &GeneratorArgs,
        secret: bool,
        maker: Option<Maker>,
    ) -> Result<Resource> {
        let read = |path: &str| self.read(target, path).map(Cow::into_owned);
        let mut resource = generators::make(args, secret, &read).in_object(|| args.name.clone())?;
        if let Some(maker) = maker {
            self.charge_note(&resource, maker.length())?;
            maker.note_generated(&mut resource);
            resource.restore_mark();
        }
        Ok(resource)
    }

    fn parsed(&self, text: &str, maker: Option<Maker>) -> Result<Resource> {
        let node = self.reader().first(text.as_bytes())?.unwrap_or_else(Node::map);
        let mut resource = Resource::new(node);
        if let Some(maker) = maker {
            self.charge_note(&resource, maker.length())?;
            maker.note_generated(&mut resource);
        }
        Ok(resource)
    }

    /// Reads the objects that configure plugins, given in place or by path.
    pub(super) fn plugins(&self, target: &Target, entries: &[String]) -> Result<Vec<Value>> {
        let mut acc = self.empty();
        let mut paths = Vec::new();
        for (number, entry) in (1..).zip(entries) {
            match self.loaded(entry.as_bytes()) {
                Ok(mut list) => {
                    if let Some(origin) = &target.origin {
                        let origin = origin.join(&target.file);
                        for object in &mut list {
                            self.charge_note(object, origin.length())?;
                            origin.note_file(object);
                        }
                    }
                    acc.map.append_all(list)?;
                }
                Err(error) if error.is_final() => return Err(error.into()),
                Err(error) if is_no_path(entry) => return Err(neither(number, &error)),
                Err(_) => paths.push(entry.clone()),
            }
        }
        let acc = self.resources(target, acc, &paths)?;
        acc.map
            .list()
            .iter()
            .map(|r| Ok(r.node.to_json(Schema::New)?))
            .collect()
    }
}

/// Tells whether an entry that holds no objects can be no path either. Such a one is not quoted: it may hold secrets.
pub(super) fn is_no_path(entry: &str) -> bool {
    entry.contains(['\n', '{']) || entry.contains(": ")
}

/// Returns the failure of such an entry, which is named by its number.
pub(super) fn neither(number: usize, why: &LoadError) -> Box<Error> {
    invalid(format!(
        "entry {number} is neither an object nor the path of a file: {why}"
    ))
}
