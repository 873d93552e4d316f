"""Reads lines of [schema, document] and holds each document against docs/events/SCHEMA.json."""

import json
import pathlib
import sys

import fastjsonschema

SCHEMAS = pathlib.Path(__file__).parents[2] / "docs" / "events"
validators = {path.stem: fastjsonschema.compile(json.loads(path.read_text())) for path in SCHEMAS.glob("*.json")}

failed = 0
for line in sys.stdin:
    schema, document = json.loads(line)
    try:
        validators[schema](document)
    except fastjsonschema.JsonSchemaException as error:
        failed += 1
        print(f"{schema}: {error}: {document}", file=sys.stderr)
sys.exit(1 if failed else 0)
