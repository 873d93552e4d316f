// Shows /api/openapi.json. Texts are set as text, never as markup.

const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
};

// Words between backquotes are code.
const prose = (text) =>
  (text ?? "").split("`").map((part, index) => (index % 2 ? make("code", {}, part) : part));

const json = (value) => make("pre", { tabindex: "0" }, typeof value === "string" ? value : JSON.stringify(value, null, 2));

class Description {
  constructor(document) {
    this.document = document;
  }

  schema(schema) {
    const name = schema?.$ref?.split("/").pop();
    return name ? this.document.components.schemas[name] : schema;
  }

  // A name for people: the schema's, or its type.
  nameOf(schema) {
    if (!schema) return "";
    if (schema.$ref) return schema.$ref.split("/").pop();
    if (schema.oneOf || schema.anyOf) return (schema.oneOf ?? schema.anyOf).map((one) => this.nameOf(one)).join(" or ");
    if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(", ");
    const type = [schema.type ?? "anything"].flat().join(" or ");
    if (schema.items) return `list of ${this.nameOf(schema.items)}`;
    return schema.format ? `${type} (${schema.format})` : type;
  }

  // The first example that stands with a body, or with its schema.
  exampleOf(content) {
    const first = Object.values(content.examples ?? {})[0];
    const own = first?.value ?? content.example;
    const schema = this.schema(content.schema);
    return own ?? schema?.examples?.[0] ?? schema?.example;
  }

  *operations() {
    for (const [path, item] of Object.entries(this.document.paths)) {
      for (const [method, operation] of Object.entries(item)) yield { path, method, ...operation };
    }
  }
}

const row = (...cells) => make("tr", {}, ...cells.map((cell) => make("td", {}, ...[cell].flat())));

const table = (headings, rows) =>
  make(
    "table",
    {},
    make("thead", {}, make("tr", {}, ...headings.map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...rows),
  );

const parametersOf = (description, operation) => {
  const rows = (operation.parameters ?? []).map((parameter) =>
    row(
      make("code", {}, parameter.name),
      parameter.required ? `${parameter.in}, needed` : parameter.in,
      description.nameOf(parameter.schema),
      prose(parameter.description),
    ),
  );
  return rows.length ? [make("h3", {}, "Parameters"), table(["name", "in", "type", "meaning"], rows)] : [];
};

const fieldsOf = (description, schema) => {
  const { properties, required = [] } = description.schema(schema) ?? {};
  const rows = Object.entries(properties ?? {}).map(([name, field]) =>
    row(
      make("code", {}, name),
      description.nameOf(field) + (required.includes(name) ? "" : ", optional"),
      prose(field.description),
    ),
  );
  return rows.length ? [table(["field", "type", "meaning"], rows)] : [];
};

const bodyOf = (description, content) =>
  Object.entries(content ?? {}).flatMap(([kind, body]) => {
    const example = description.exampleOf(body);
    const name = body.schema?.$ref ? `, ${description.nameOf(body.schema)}` : "";
    return [
      make("p", { class: "quiet" }, make("code", {}, kind), name),
      ...fieldsOf(description, body.schema),
      ...(example === undefined ? [] : [json(example)]),
    ];
  });

const answersOf = (description, operation) => {
  const answers = Object.entries(operation.responses).map(([status, answer]) => {
    const isProblem = Boolean(answer.content?.["application/problem+json"]);
    const body = isProblem ? [] : bodyOf(description, answer.content);
    return row(make("code", {}, status), [...prose(answer.description), ...body]);
  });
  return [make("h3", {}, "Answers"), table(["status", "meaning"], answers)];
};

const needsOf = (operation) => {
  const ways = (operation.security ?? []).map((way) => {
    const scopes = way.token ?? way.session;
    if (!scopes) return "nothing";
    if (way.token) return `a token with scope ${scopes.join(", ")}`;
    return scopes.includes("admin") ? "a session of an administrator" : "a session";
  });
  return make("p", { class: "quiet" }, `Needs ${ways.join(", or ") || "nothing"}. Operation ${operation.operationId}.`);
};

const card = (description, operation) =>
  make(
    "details",
    { class: "operation", id: operation.operationId },
    make(
      "summary",
      {},
      make("span", { class: "method" }, operation.method.toUpperCase()),
      make("span", { class: "path" }, operation.path),
      make("span", { class: "what" }, ...prose(operation.summary)),
    ),
    make(
      "div",
      { class: "body" },
      make("p", {}, ...prose(operation.description)),
      needsOf(operation),
      ...parametersOf(description, operation),
      ...(operation.requestBody ? [make("h3", {}, "Body"), ...bodyOf(description, operation.requestBody.content)] : []),
      ...answersOf(description, operation),
    ),
  );

const show = (document_) => {
  const description = new Description(document_);
  const all = [...description.operations()];
  const about = `${document_.info.description} Version ${document_.info.version}.`;
  document.getElementById("about").replaceChildren(...prose(about));
  const main = document.getElementById("operations");
  const contents = document.getElementById("contents");
  contents.append(make("p", {}, make("a", { href: "/api/openapi.json" }, "openapi.json")));
  for (const tag of document_.tags) {
    const those = all.filter((operation) => operation.tags?.includes(tag.name));
    if (!those.length) continue;
    main.append(make("h2", { id: `tag-${tag.name}` }, tag.name), make("p", { class: "quiet" }, tag.description ?? ""));
    main.append(...those.map((operation) => card(description, operation)));
    const links = those.map((operation) =>
      make("li", {}, make("a", { href: `#${operation.operationId}` }, ...prose(operation.summary ?? operation.path))),
    );
    contents.append(make("h2", {}, tag.name), make("ul", {}, ...links));
  }
  reveal();
};

// The operation of the address is opened.
const reveal = () => {
  const wanted = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (wanted instanceof HTMLDetailsElement) {
    wanted.open = true;
    wanted.scrollIntoView();
  }
};

addEventListener("hashchange", reveal);
try {
  const answer = await fetch("/api/openapi.json");
  if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
  show(await answer.json());
} catch (error) {
  document.getElementById("about").textContent = `The description cannot be read: ${error.message}`;
}
