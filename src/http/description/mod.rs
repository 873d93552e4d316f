//! Completes the description of the API: what is the same for many operations is said once, here. Examples stand in
//! `examples.json`, and those of errors come from the one table of errors.

mod kinds;

use serde_json::{Map, Value, json};

/// Examples of schemas, by name.
const EXAMPLES: &str = include_str!("examples.json");
/// What a list gives at most, unless the settings say otherwise.
const PAGE_ITEMS_MAX: u64 = 500;
/// The longest upload, unless the settings say otherwise, bytes.
const UPLOAD_BYTES_MAX: u64 = 67_108_864;
/// An image that can stand in a text: 8 × 8 pixels, plain PGM.
const PLAIN_IMAGE: &str = "P2\n8 8\n255\n\
    220 220 220 220 220 220 220 220\n220 30 30 30 30 30 30 220\n220 220 220 220 220 220 220 220\n\
    220 30 30 30 30 30 30 220\n220 220 220 220 220 220 220 220\n220 30 30 30 220 220 220 220\n\
    220 220 220 220 220 220 220 220\n220 220 220 220 220 220 220 220\n";

/// What every operation may answer besides its own: no limit of the server as a whole is beneath it.
const EVERYWHERE: [(&str, &str); 4] = [
    ("408", "`request_timeout`"),
    ("431", "`headers_too_large`"),
    ("500", "`internal`"),
    ("503", "`overloaded`, `unavailable`, with Retry-After"),
];

/// Where the values of an answer lead to: operation, status, name of the link, operation, its parameters.
type Link = (&'static str, &'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);
const LINKS: [Link; 19] = [
    ("upload_images", "202", "image", "show_image", &[("id", "$response.body#/items/0/image/id")]),
    ("upload_images", "202", "delete", "delete_image", &[("id", "$response.body#/items/0/image/id")]),
    ("upload_images", "202", "again", "process_image_again", &[("id", "$response.body#/items/0/image/id")]),
    (
        "upload_images",
        "202",
        "original",
        "show_file",
        &[("id", "$response.body#/items/0/image/id"), ("name", "original")],
    ),
    ("upload_images", "202", "job", "show_job", &[("id", "$response.body#/items/0/job/id")]),
    ("upload_images", "202", "watch", "watch_job", &[("id", "$response.body#/items/0/job/id")]),
    ("upload_images", "202", "cancel", "cancel_job", &[("id", "$response.body#/items/0/job/id")]),
    ("upload_images", "202", "retry", "retry_job", &[("id", "$response.body#/items/0/job/id")]),
    ("upload_images", "202", "recall", "recall_submission", &[("key", "$request.header.Idempotency-Key")]),
    ("process_image_again", "202", "job", "show_job", &[("id", "$response.body#/id")]),
    ("announce_uploads", "201", "complete", "complete_upload", &[("id", "$response.body#/items/0/id")]),
    ("create_token", "201", "revoke", "revoke_token", &[("id", "$response.body#/id")]),
    ("create_invitation", "201", "revoke", "revoke_invitation", &[("id", "$response.body#/id")]),
    ("create_webhook", "201", "show", "show_webhook", &[("id", "$response.body#/id")]),
    ("create_webhook", "201", "log", "list_deliveries", &[("id", "$response.body#/id")]),
    ("create_webhook", "201", "ping", "ping_webhook", &[("id", "$response.body#/id")]),
    ("create_webhook", "201", "delete", "delete_webhook", &[("id", "$response.body#/id")]),
    ("list_sessions", "200", "revoke", "revoke_session", &[("id", "$response.body#/items/0/id")]),
    ("show_cluster", "200", "change", "change_node", &[("id", "$response.body#/nodes/0/id")]),
];

/// Completes a description as the routes give it.
///
/// # Errors
/// Never for the examples that a test has read.
pub fn complete(description: &mut Value) -> Result<(), serde_json::Error> {
    let examples: Map<String, Value> = serde_json::from_str(EXAMPLES)?;
    if let Some(schemas) = description.pointer_mut("/components/schemas").and_then(Value::as_object_mut) {
        for (name, example) in examples {
            if let Some(schema) = schemas.get_mut(&name).and_then(Value::as_object_mut) {
                schema.insert("examples".to_owned(), json!([example]));
            }
        }
    }
    for kind in kinds::ALL {
        let problem = kinds::example(kind);
        description["components"]["examples"][problem.code.as_str()] = json!({"value": problem});
    }
    for (schema, property, wanted) in amendments() {
        if let Some(found) = description.pointer_mut(&format!("/components/schemas/{schema}/properties/{property}")) {
            for (name, value) in wanted.as_object().into_iter().flatten() {
                found[name] = value.clone();
            }
        }
    }
    if let Some(form) = description.pointer_mut("/components/schemas/Form") {
        form["additionalProperties"] = json!(false);
        form["patternProperties"] = json!({"^set\\.[a-z_]+$": {"type": "string"}});
    }
    let Some(paths) = description.get_mut("paths").and_then(Value::as_object_mut) else { return Ok(()) };
    for (path, item) in paths {
        for operation in item.as_object_mut().into_iter().flat_map(Map::values_mut) {
            parameters(operation);
            bytes(operation);
            documents(operation);
            let is_api = path.starts_with("/api/");
            responses(operation, is_api);
            links(operation);
        }
    }
    Ok(())
}

/// What the types cannot say: schema, property, what is added.
fn amendments() -> [(&'static str, &'static str, Value); 19] {
    // What a number of JSON keeps.
    let bound = json!({"minimum": 0, "maximum": 9_000_000_000_000_000_u64});
    let lanes = json!({"type": "string", "enum": ["interactive", "bulk"]});
    let one_line = json!({"maxLength": 100, "pattern": r"^[^\u0000-\u001F\u007F-\u009F]*$"});
    [
        ("Again", "set", json!({"additionalProperties": {"type": "string"}})),
        ("Announcement", "lane", json!({"enum": ["interactive", "bulk", null]})),
        ("Announcement", "files", json!({"minItems": 1})),
        ("AnnouncedFile", "size_bytes", json!({"minimum": 1})),
        ("AnnouncedFile", "sha256", json!({"pattern": "^[0-9a-fA-F]{64}$"})),
        ("Change", "slots_count", json!({"minimum": 1})),
        ("Form", "lane", lanes.clone()),
        ("Form", "dedup", json!({"type": "boolean"})),
        ("Form", "preset", json!({"type": "string"})),
        ("Form", "set", settings()),
        ("Job", "lane", lanes.clone()),
        ("OwnQuota", "stored_bytes_max", bound.clone()),
        ("OwnQuota", "pixels_per_day_max", bound.clone()),
        ("OwnQuota", "jobs_queued_max", bound),
        ("Queue", "lane", lanes),
        ("WebhookRequest", "events", json!({"minItems": 1})),
        ("WebhookRequest", "name", one_line.clone()),
        ("WebhookChanges", "name", one_line),
        ("WebhookChanges", "events", json!({"minItems": 1})),
    ]
}

/// `key=value`, as often as there are settings.
fn settings() -> Value {
    json!({"type": "array", "items": {"type": "string", "pattern": "^[^=]+=.*$"}})
}

/// Bounds of lists, and of what is one of a few.
fn parameters(operation: &mut Value) {
    for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        match parameter.get("name").and_then(Value::as_str) {
            Some("limit") => {
                parameter["description"] = json!("Items of a page; what a server gives at most can be set");
                parameter["schema"] = json!({"type": "integer", "format": "int32", "minimum": 1,
                    "maximum": PAGE_ITEMS_MAX, "default": 50});
            }
            Some("cursor") => {
                parameter["description"] = json!("`next_cursor` of the page before");
                parameter["schema"] = json!({"type": "string", "pattern": "^[0-9a-f]{32}$"});
            }
            Some("Idempotency-Key") => {
                parameter["schema"] = json!({"type": "string", "pattern": "^[!-~]{1,255}$"});
            }
            Some("set") => parameter["schema"] = settings(),
            Some("Tus-Resumable") => parameter["schema"] = json!({"type": "string", "enum": ["1.0.0"]}),
            Some("Upload-Length") => {
                parameter["schema"] = json!({"type": "integer", "minimum": 1, "maximum": UPLOAD_BYTES_MAX});
            }
            Some("X-HTTP-Method-Override") => {
                parameter["schema"] = json!({"type": "string", "enum": ["PATCH", "DELETE"]});
            }
            Some("Upload-Metadata") => {
                let pair = "[a-zA-Z_.]{1,20} (?:[A-Za-z0-9+/]{4}){0,20}";
                parameter["schema"] = json!({"type": "string", "pattern": format!("^{pair}(?:,{pair}){{0,3}}$")});
            }
            Some("Upload-Checksum") => {
                parameter["schema"] =
                    json!({"type": "string", "pattern": "^(?:sha1 [A-Za-z0-9+/]{27}=|sha256 [A-Za-z0-9+/]{43}=)$"});
            }
            Some("lane") => parameter["schema"] = json!({"type": "string", "enum": ["interactive", "bulk"]}),
            Some(_) | None => {}
        }
    }
}

/// Bytes are bytes, whatever their type is in the program; and an image that a reader can send as it stands.
fn bytes(operation: &mut Value) {
    let raw = |at_least: u32| json!({"type": "string", "contentMediaType": "application/octet-stream", "minLength": at_least});
    if let Some(body) = operation.pointer_mut("/requestBody/content/application~1offset+octet-stream") {
        body["schema"] = raw(0);
    }
    if let Some(body) = operation.pointer_mut("/requestBody/content/application~1octet-stream") {
        body["schema"] = raw(1);
        body["examples"] = json!({"plain": {"summary": "8 × 8 pixels, plain PGM", "value": PLAIN_IMAGE}});
    }
    let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
    for response in responses.into_iter().flat_map(Map::values_mut) {
        if response.pointer("/content/application~1octet-stream").is_some() {
            // Files are images, or the manifest.
            response["content"] =
                json!({"image/*": {"schema": raw(0)}, "application/json": {"schema": {"type": "object"}}});
        }
    }
}

/// What an answer to a JSON body can be besides.
fn documents(operation: &mut Value) {
    let Some(body) = operation.pointer_mut("/requestBody") else { return };
    if body.pointer("/content/application~1json").is_none() {
        return;
    }
    body["required"] = json!(true);
    for (status, code) in [("413", "body_too_large"), ("415", "unsupported_media_type")] {
        let told = operation["responses"][status]["description"].as_str().unwrap_or_default().to_owned();
        if !told.contains(code) {
            let told = if told.is_empty() { format!("`{code}`") } else { format!("{told}, `{code}`") };
            let content = json!({"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}});
            operation["responses"][status] = json!({"description": told, "content": content});
        }
    }
}

fn responses(operation: &mut Value, is_api: bool) {
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else { return };
    if is_api {
        for (status, codes) in EVERYWHERE {
            let content = json!({"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}});
            responses.entry(status).or_insert_with(|| json!({"description": codes, "content": content}));
        }
    }
    for response in responses.values_mut() {
        if response.get("description").and_then(Value::as_str).is_none_or(str::is_empty) {
            response["description"] = json!("Done");
        }
        let told = response["description"].as_str().unwrap_or_default().to_owned();
        let problem = response.pointer_mut("/content/application~1problem+json");
        if let Some(content) = problem.and_then(Value::as_object_mut) {
            content.insert("examples".to_owned(), Value::Object(problems(&told)));
        }
    }
}

/// An example for every code that stands in a description, between backquotes.
fn problems(told: &str) -> Map<String, Value> {
    let codes = told.split('`').skip(1).step_by(2);
    let known = codes.filter(|code| kinds::of_code(code).is_some());
    known.map(|code| (code.to_owned(), json!({"$ref": format!("#/components/examples/{code}")}))).collect()
}

fn links(operation: &mut Value) {
    let Some(name) = operation.get("operationId").and_then(Value::as_str).map(str::to_owned) else { return };
    for (_, status, link, target, parameters) in LINKS.iter().filter(|link| link.0 == name) {
        let Some(response) = operation.pointer_mut(&format!("/responses/{status}")) else { continue };
        let parameters: Map<String, Value> =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        response["links"][*link] = json!({"operationId": target, "parameters": parameters});
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::http::shapes::{Image, Item, Items, Job};

    fn whole() -> Value {
        serde_json::from_str(&crate::http::openapi().unwrap()).unwrap()
    }

    fn operations(description: &Value) -> Vec<&Value> {
        let items = description["paths"].as_object().unwrap().values();
        items.flat_map(|item| item.as_object().unwrap().values()).collect()
    }

    #[test]
    fn examples_are_what_the_program_reads_and_writes() {
        let examples: BTreeMap<String, Value> = serde_json::from_str(EXAMPLES).unwrap();
        let description = whole();
        for name in examples.keys() {
            assert!(description["components"]["schemas"][name].is_object(), "{name} is no schema");
        }
        let example = |name: &str| examples[name].clone();
        serde_json::from_value::<Image>(example("Image")).unwrap();
        serde_json::from_value::<Job>(example("Job")).unwrap();
        serde_json::from_value::<Item>(example("Item")).unwrap();
        serde_json::from_value::<Items>(example("Items")).unwrap();
        serde_json::from_value::<crate::cluster::NodeView>(example("NodeView")).unwrap();
    }

    #[test]
    fn every_answer_with_a_body_has_an_example() {
        let description = whole();
        let schemas = description["components"]["schemas"].as_object().unwrap();
        let has_example = |schema: &Value| schema["examples"].is_array() || !schema["example"].is_null();
        for operation in operations(&description) {
            let name = operation["operationId"].as_str().unwrap();
            assert!(operation["summary"].is_string(), "{name}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(!response["description"].as_str().unwrap().is_empty(), "{name} {status}");
                for (kind, content) in response["content"].as_object().into_iter().flatten() {
                    let reference = content["schema"]["$ref"].as_str();
                    let shown = match reference.map(|path| path.trim_start_matches("#/components/schemas/")) {
                        Some("Problem") => content["examples"].as_object().is_some_and(|examples| !examples.is_empty()),
                        Some(schema) => has_example(&schemas[schema]),
                        None => !kind.ends_with("json") || name == "show_file",
                    };
                    assert!(shown, "{name} {status} {kind}");
                }
            }
        }
    }

    #[test]
    fn every_code_stands_with_its_status_and_no_other() {
        let description = whole();
        let mut told = BTreeSet::new();
        for operation in operations(&description) {
            for (status, response) in operation["responses"].as_object().unwrap() {
                for code in response["description"].as_str().unwrap().split('`').skip(1).step_by(2) {
                    let Some(kind) = kinds::of_code(code) else {
                        let is_problem = response["content"]["application/problem+json"].is_object();
                        assert!(!is_problem || code == "reasons", "{code} is no code");
                        continue;
                    };
                    assert_eq!(kinds::example(kind).status.to_string(), *status, "{code}");
                    told.insert(code.to_owned());
                }
            }
        }
        let all = kinds::ALL.map(|kind| kinds::example(kind).code);
        let unsaid: Vec<_> = all.into_iter().filter(|code| !told.contains(code)).collect();
        assert_eq!(unsaid, UNSAID, "codes that no operation tells");
    }

    /// Where no operation stands behind the answer, or a job has it and not an answer.
    const UNSAID: [&str; 4] =
        ["needs_too_much_memory", "unsupported_feature", "host_not_allowed", "method_not_allowed"];

    #[test]
    fn links_lead_somewhere() {
        let description = whole();
        let known: BTreeSet<_> =
            operations(&description).iter().map(|operation| operation["operationId"].as_str().unwrap()).collect();
        for (from, _, _, to, _) in LINKS {
            assert!(known.contains(from) && known.contains(to), "{from} → {to}");
        }
        let count: usize = operations(&description)
            .iter()
            .flat_map(|operation| operation["responses"].as_object().unwrap().values())
            .filter_map(|response| response["links"].as_object())
            .map(Map::len)
            .sum();
        assert_eq!(count, LINKS.len());
    }
}
