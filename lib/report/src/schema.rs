//! The JSON Schema of reports, generated from the model, so that it cannot say anything else.
//!
//! `schemas/report.schema.json` is its committed copy. It is open: additional properties and words are allowed, for a
//! later version may add them.

use crate::model::{Report, SCHEMA, VERSION};
use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Map, Value, json};

/// The schema as a value.
#[must_use]
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    let generator = settings.with_transform(RecursiveTransform(unwrap_description)).into_generator();
    let mut schema = generator.into_root_schema_for::<Report>().to_value();
    if let Some(properties) = schema.get_mut("properties") {
        constrain(properties, "schema", json!(SCHEMA));
        constrain(properties, "version", json!(VERSION));
    }
    with_first(schema, &["$schema", "title", "description"])
}

/// The object with these members first, where a reader looks for them.
fn with_first(schema: Value, names: &[&str]) -> Value {
    let Value::Object(mut members) = schema else { return schema };
    let mut ordered = Map::new();
    for name in names {
        ordered.extend(members.shift_remove_entry(*name));
    }
    ordered.extend(members);
    Value::Object(ordered)
}

/// The schema as the committed file has it.
#[must_use]
pub fn generate() -> String {
    format!("{:#}\n", schema())
}

/// Doc comments are wrapped for the source file; a reader of the schema has other margins.
fn unwrap_description(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        let paragraphs: Vec<String> = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect();
        *text = paragraphs.join("\n\n");
    }
}

fn constrain(properties: &mut Value, name: &str, value: Value) {
    if let Some(property) = properties.get_mut(name).and_then(Value::as_object_mut) {
        property.insert("const".to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_schema_is_the_generated_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/report.schema.json");
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == generate(), "schemas/report.schema.json is out of date: cargo run -p xtask -- generate");
    }

    #[test]
    fn nothing_forbids_a_field_or_a_word_of_a_later_version() {
        let text = generate();
        assert!(!text.contains("additionalProperties") && !text.contains("unevaluatedProperties"));
        assert!(!text.contains("\"enum\""));
    }
}
