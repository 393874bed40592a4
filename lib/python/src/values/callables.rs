//! Types, modules, functions, methods, generators and cells: all shown by their names.

use super::objects::Object;
use super::pieces::Pieces;
use super::types::{Family, Type};
use super::{Lack, Values};
use pyst_snapshot::Address;

/// How many names of a module are looked at for its own.
const NAMES: usize = 256;

/// The longest name that C code gives a function.
const NAME: u64 = 128;

impl Values<'_> {
    pub(crate) fn class(&self, object: &Object) -> Result<Pieces, Lack> {
        let shown = self.type_at(object.address)?;
        let word = if self.layout.semantics.spelling.python_2 && !shown.is_heap() { "type" } else { "class" };
        Ok(Pieces::text(format!("<{word} '{}'>", self.type_name(&shown))))
    }

    pub(crate) fn old_class(&self, object: &Object) -> Result<Pieces, Lack> {
        Ok(Pieces::text(format!("<class {} at {}>", self.old_class_name(object)?, object.address)))
    }

    /// The namespace of a module.
    pub(crate) fn module_dict(&self, module: &Object) -> Result<Address, Lack> {
        match module.its_type.family {
            Family::Module => module.pointer(self.objects.module_dict),
            _ => Err(Lack::Invalid),
        }
    }

    /// The name of a class that does not derive from `object`, Python 2.
    pub(crate) fn old_class_name(&self, class: &Object) -> Result<String, Lack> {
        let name = self.name(class.pointer(self.objects.class_name)?)?;
        let names = self.items_of(&self.object(class.pointer(self.objects.class_dict)?)?, 64)?.pairs;
        let module = self.value_of(&names, "__module__").and_then(|module| self.name(module).ok());
        Ok(format!("{}.{name}", module.as_deref().unwrap_or("?")))
    }

    fn value_of(&self, names: &[(Address, Address)], wanted: &str) -> Option<Address> {
        let is_wanted = |key: Address| self.name(key).is_ok_and(|name| name == wanted);
        names.iter().find(|(key, _)| is_wanted(*key)).map(|(_, value)| *value)
    }

    pub(crate) fn module(&self, object: &Object) -> Result<Pieces, Lack> {
        let named = self.objects.module_name.address(&object.bytes).filter(|name| !name.is_null());
        let name = match named.and_then(|name| self.name(name).ok()) {
            Some(name) => name,
            None => {
                let names = self.items_of(&self.object(self.module_dict(object)?)?, NAMES)?.pairs;
                self.name(self.value_of(&names, "__name__").ok_or(Lack::Invalid)?)?
            }
        };
        Ok(Pieces::text(format!("<module '{name}'>")))
    }

    pub(crate) fn function(&self, object: &Object) -> Result<Pieces, Lack> {
        Ok(Pieces::text(format!("<function {} at {}>", self.function_name(object)?, object.address)))
    }

    fn function_name(&self, function: &Object) -> Result<String, Lack> {
        self.name(function.pointer(self.objects.function_name)?)
    }

    pub(crate) fn builtin(&self, object: &Object) -> Result<Pieces, Lack> {
        let definition = object.pointer(self.objects.builtin_definition)?;
        let name = self.reader.c_text(Address(self.reader.word(definition)?), NAME)?;
        let owner = object.pointer(self.objects.builtin_self)?;
        if owner.is_null() {
            return Ok(Pieces::text(format!("<built-in function {name}>")));
        }
        let owner = self.object(owner)?;
        if owner.its_type.name == "module" && owner.its_type.made_by_c {
            return Ok(Pieces::text(format!("<built-in function {name}>")));
        }
        let class = self.simple_name(&owner.its_type);
        Ok(Pieces::text(format!("<built-in method {name} of {class} object at {}>", owner.address)))
    }

    /// `tp_name`: with the module for what C code made, and without for classes.
    fn simple_name(&self, found: &Type) -> String {
        found.name.clone()
    }

    pub(crate) fn method(&self, object: &Object) -> Result<Pieces, Lack> {
        let function = self.object(object.pointer(self.objects.method_function)?)?;
        let owner = object.pointer(self.objects.method_self)?;
        let name = match function.its_type.family {
            super::Family::Function => self.function_name(&function)?,
            _ => self.type_name(&function.its_type),
        };
        if owner.is_null() {
            return Ok(Pieces::text(format!("<unbound method {name}>")));
        }
        let owner = self.object(owner)?;
        let class = self.type_name(&owner.its_type);
        Ok(Pieces::text(format!("<bound method {name} of <{class} at {}>>", owner.address)))
    }

    /// A generator, coroutine or asynchronous generator.
    pub(crate) fn generator(&self, object: &Object, what: &str) -> Result<Pieces, Lack> {
        let name = match self.objects.generator_name.address(&object.bytes) {
            Some(name) => name,
            None => {
                let code = object.pointer(self.objects.generator_code)?;
                let place = self.layout.offsets.code_name.of(code).ok_or(Lack::Invalid)?;
                Address(self.reader.word(place)?)
            }
        };
        Ok(Pieces::text(format!("<{what} object {} at {}>", self.name(name)?, object.address)))
    }

    pub(crate) fn cell(&self, object: &Object) -> Result<Pieces, Lack> {
        let value = object.pointer(self.objects.cell_value)?;
        let pieces = Pieces::text(format!("<cell at {}: ", object.address));
        let pieces = if value.is_null() { pieces.and("empty") } else { pieces.object(value) };
        Ok(pieces.close(">"))
    }
}
