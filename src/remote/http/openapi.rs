//! The OpenAPI page, made from the table of routes and the table of commands.
//!
//! Bound: those tables.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use super::devices;
use super::given::Given;
use super::routes::{Does, Kind, Param, Place, ROUTES, Route};
use crate::attach::command::{Arg, COMMANDS, Command, Impact, Takes};
use crate::remote::access::Right;

/// The document.
#[must_use]
pub fn document() -> Json {
    let mut paths: Map<String, Json> = Map::new();
    let mut add = |path: String, method: &str, operation: Json| {
        let entry = paths.entry(path).or_insert_with(|| json!({}));
        entry[method] = operation;
    };
    for route in ROUTES {
        let method = route.method.as_str().to_lowercase();
        match route.does {
            Does::Command => {
                for command in COMMANDS {
                    let path = route.path.replace("{command}", command.name);
                    add(path, &method, of_command(command));
                }
            }
            _ => add(route.path.to_owned(), &method, of_route(route)),
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "actorsim", "version": crate::cli::VERSION,
            "description": "A node's devices and commands. Requests that change something need \
                            the node's token.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": {
                "Detail": {
                    "type": "object", "required": ["detail"],
                    "properties": { "detail": { "type": "string" } },
                },
            },
        },
    })
}

fn needs_token(route: &Route) -> bool {
    route.ask.is_some() && devices::right(route, &Given::default()) == Right::Act
}

fn of_route(route: &Route) -> Json {
    let outside = |param: &&Param| param.place != Place::Body;
    let parameters: Vec<_> = route.params.iter().filter(outside).map(parameter).collect();
    let mut operation = json!({
        "summary": route.help, "parameters": parameters,
        "responses": responses(route.answers),
    });
    let body: Vec<_> = route
        .params
        .iter()
        .filter(|param| !outside(param))
        .collect();
    if !body.is_empty() {
        let properties = body
            .iter()
            .map(|param| (param.name.to_owned(), schema(param)));
        let required = body.iter().filter(|param| param.required);
        operation["requestBody"] = of_body(
            properties.collect(),
            required.map(|param| param.name.to_owned()).collect(),
        );
    }
    if needs_token(route) {
        operation["security"] = json!([{ "token": [] }]);
    }
    operation
}

fn parameter(param: &Param) -> Json {
    let place = if param.place == Place::Path {
        "path"
    } else {
        "query"
    };
    json!({
        "name": param.name, "in": place, "required": param.required,
        "description": param.help, "schema": schema(param),
    })
}

fn schema(param: &Param) -> Json {
    let kind = match param.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Count(from, to) => json!({ "type": "integer", "minimum": from, "maximum": to }),
    };
    with(kind, "description", param.help)
}

fn with(mut schema: Json, key: &str, text: &str) -> Json {
    schema[key] = text.into();
    schema
}

fn of_body(properties: Map<String, Json>, required: Vec<String>) -> Json {
    let schema = json!({
        "type": "object", "properties": properties, "required": required,
        "additionalProperties": false,
    });
    let needed = !required.is_empty();
    json!({ "required": needed, "content": { "application/json": { "schema": schema } } })
}

fn responses(answers: &str) -> Json {
    let good = match serde_json::from_str::<Json>(answers) {
        Ok(example) => json!({
            "description": "done",
            "content": { "application/json": { "example": example } },
        }),
        Err(_) => json!({ "description": answers }),
    };
    let detail = json!({
        "application/json": { "schema": { "$ref": "#/components/schemas/Detail" } },
    });
    json!({
        "200": good,
        "default": { "description": "not done, and why", "content": detail },
    })
}

fn of_command(command: &Command) -> Json {
    let properties = command.args.iter();
    let properties = properties.map(|arg| (arg.key(), argument(arg))).collect();
    let required = command.args.iter().filter(|arg| arg.required);
    let mut operation = json!({
        "summary": command.help, "description": format!("At the prompt: {}", command.usage()),
        "requestBody": of_body(properties, required.map(Arg::key).collect()),
        "responses": responses("what the command answers"),
        "x-impact": command.impact.label(),
    });
    if command.impact != Impact::Ro {
        operation["security"] = json!([{ "token": [] }]);
    }
    operation
}

fn argument(arg: &Arg) -> Json {
    let kind = match arg.takes {
        Takes::Number => json!({ "type": "integer", "minimum": 0 }),
        Takes::Word(words) => json!({ "type": "string", "enum": words }),
        Takes::Nothing => json!({ "const": true }),
        Takes::Assignments => json!({ "type": "array", "items": { "type": "string" } }),
        Takes::Path | Takes::Pattern | Takes::Command | Takes::Text => json!({ "type": "string" }),
    };
    with(kind, "description", arg.help)
}

/// The same for people: a page without scripts.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "<!doctype html><meta charset=utf-8><title>actorsim: the API</title>\
         <style>body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}\
         code{background:#8882;padding:.1em .3em}td{vertical-align:top;padding:.2em .8em .2em 0}\
         </style><h1>actorsim: the API</h1><p>For programs: \
         <a href=openapi.json>openapi.json</a>. A key marks what needs the node's token \
         (<code>Authorization: Bearer</code>, with the text of the file <code>token</code> in its \
         state directory).<table>",
    );
    let mut row = |method: &str, path: &str, token: bool, help: &str| {
        let key = if token { " &#128273;" } else { "" };
        let (path, help) = (escaped(path), escaped(help));
        let _ = write!(
            page,
            "<tr><td>{method}<td><code>{path}</code>{key}<td>{help}"
        );
    };
    for route in ROUTES.iter().filter(|route| route.does != Does::Command) {
        row(
            route.method.as_str(),
            route.path,
            needs_token(route),
            route.help,
        );
    }
    for command in COMMANDS {
        let path = format!("/api/v1/commands/{}", command.name);
        row("POST", &path, command.impact != Impact::Ro, command.help);
    }
    page.push_str("</table>\n");
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_every_route_and_every_command_with_what_each_takes() {
        let document = document();
        for route in ROUTES.iter().filter(|route| route.does != Does::Command) {
            let method = route.method.as_str().to_lowercase();
            let operation = &document["paths"][route.path][&method];
            assert_eq!(operation["summary"], route.help, "{}", route.path);
            let inside = "/requestBody/content/application~1json/schema/properties";
            for param in route.params {
                let named = |found: &Json| found["name"] == param.name;
                let outside = operation["parameters"].as_array();
                let outside = outside.is_some_and(|all| all.iter().any(named));
                let body = operation.pointer(inside);
                let body = body.is_some_and(|all| all.get(param.name).is_some());
                let in_body = param.place == Place::Body;
                assert_eq!((outside, body), (!in_body, in_body), "{}", param.name);
            }
            assert_eq!(operation.get("security").is_some(), needs_token(route));
        }
        for command in COMMANDS {
            let path = format!("/api/v1/commands/{}", command.name);
            let operation = &document["paths"][path]["post"];
            let schema = "/requestBody/content/application~1json/schema";
            let schema = operation.pointer(schema).unwrap();
            let keys = schema["properties"].as_object().unwrap().keys();
            let keys: Vec<_> = keys.cloned().collect();
            let expected: Vec<_> = command.args.iter().map(Arg::key).collect();
            assert_eq!(keys, expected, "{}", command.name);
            assert_eq!(operation["x-impact"], command.impact.label());
        }
        let html = page();
        assert!(COMMANDS.iter().all(|command| html.contains(command.name)));
    }
}
