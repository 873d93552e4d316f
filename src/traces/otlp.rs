//! Spans as OTLP has them, in its JSON. Pure.

use serde_json::{Value as Json, json};

use super::{Ended, Value};

/// A span of work within the program, and one that answers a request.
const KIND_INTERNAL: u32 = 1;
const KIND_SERVER: u32 = 2;
/// The status of a span that went wrong.
const STATUS_ERROR: u32 = 2;

/// An `ExportTraceServiceRequest` with all of them.
pub fn request(node: &str, spans: &[Ended]) -> Json {
    let version = env!("CARGO_PKG_VERSION");
    let resource = [("service.name", "inkpool"), ("service.instance.id", node), ("service.version", version)];
    json!({"resourceSpans": [{
        "resource": {"attributes": resource.map(|(name, value)| attribute(name, &Value::from(value)))},
        "scopeSpans": [{
            "scope": {"name": "inkpool", "version": version},
            "spans": spans.iter().map(span).collect::<Vec<_>>(),
        }],
    }]})
}

fn span(span: &Ended) -> Json {
    let mut json = json!({
        "traceId": hex::encode(span.job.0.as_bytes()),
        "spanId": id(span.id),
        "name": span.name,
        "kind": if span.parent.is_none() { KIND_SERVER } else { KIND_INTERNAL },
        // 64 bits are text in the JSON of protobuf.
        "startTimeUnixNano": span.begin_ns.to_string(),
        "endTimeUnixNano": span.end_ns.to_string(),
        "attributes": span.attributes.iter().map(|(name, value)| attribute(name, value)).collect::<Vec<_>>(),
    });
    if let Some(parent) = span.parent {
        json["parentSpanId"] = id(parent).into();
    }
    if let Some(error) = &span.error {
        json["status"] = json!({"code": STATUS_ERROR, "message": error});
    }
    json
}

fn id(id: u64) -> String {
    format!("{id:016x}")
}

fn attribute(name: &str, value: &Value) -> Json {
    let value = match value {
        Value::Text(text) => json!({"stringValue": text}),
        Value::Number(number) => json!({"intValue": number.to_string()}),
    };
    json!({"key": name, "value": value})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobId;

    #[test]
    fn a_span_is_as_the_protocol_has_it() {
        let job = JobId::fresh();
        let ended = Ended {
            job,
            id: 0xab,
            parent: Some(0xcd),
            name: "stage".into(),
            begin_ns: 1_700_000_000_000_000_000,
            end_ns: 1_700_000_000_000_000_005,
            attributes: vec![("bytes", 7u64.into())],
            error: Some("gone".to_owned()),
        };
        let request = request("node-1", &[ended.clone(), Ended { parent: None, error: None, ..ended }]);
        let spans = &request["resourceSpans"][0]["scopeSpans"][0]["spans"];
        assert_eq!(spans[0]["traceId"], job.to_string().replace('-', ""));
        assert_eq!(
            (&spans[0]["spanId"], &spans[0]["parentSpanId"]),
            (&"00000000000000ab".into(), &"00000000000000cd".into())
        );
        assert_eq!(spans[0]["startTimeUnixNano"], "1700000000000000000");
        assert_eq!(spans[0]["attributes"][0], json!({"key": "bytes", "value": {"intValue": "7"}}));
        assert_eq!(spans[0]["status"], json!({"code": 2, "message": "gone"}));
        assert!(spans[1].get("parentSpanId").is_none() && spans[1].get("status").is_none());
        assert_eq!(spans[1]["kind"], 2);
    }
}
