// The API's documentation, drawn from /openapi.json.

import { byId, element } from "./dom.js";

const METHODS = ["get", "post", "put", "patch", "delete"];

const box = await (await fetch("/openapi.json")).json();
byId("about").textContent = box.info.description;
const list = element("ul");
byId("contents").append(list);
for (const [path, operations] of Object.entries(box.paths)) {
  for (const method of METHODS) {
    if (operations[method]) show(method, path, operations[method]);
  }
}

function show(method, path, operation) {
  const link = element("a", { text: `${method.toUpperCase()} ${path}` });
  link.href = `#${operation.operationId}`;
  list.append(element("li", { children: [link] }));
  const verb = element("span", { className: "method", text: method.toUpperCase() });
  const title = element("h2", { children: [verb, path] });
  const section = element("section", { children: [title, element("p", { text: operation.summary })] });
  section.id = operation.operationId;
  const parameters = (operation.parameters ?? []).map((p) => [p.name, p.in, words(p.schema)]);
  if (parameters.length) section.append(element("h3", { text: "Parameters" }), table(parameters));
  for (const [kind, { schema }] of Object.entries(operation.requestBody?.content ?? {})) {
    section.append(element("h3", { text: `Body: ${kind}` }), table(fields(schema)));
  }
  const answers = Object.entries(operation.responses).map(([code, { description, content }]) => [
    code,
    description,
    Object.keys(content ?? {}).join(", "),
  ]);
  section.append(element("h3", { text: "Answers" }), table(answers));
  section.append(element("pre", { text: curl(method, path, operation) }));
  byId("operations").append(section);
}

function table(rows) {
  const cells = rows.map(([name, ...rest]) => {
    const head = element("th", { text: name });
    head.scope = "row";
    return element("tr", { children: [head, ...rest.map((text) => element("td", { text }))] });
  });
  return element("table", { children: [element("tbody", { children: cells })] });
}

function fields(schema) {
  const required = new Set(schema.required ?? []);
  const rows = Object.entries(schema.properties ?? {}).map(([name, field]) => [
    name,
    required.has(name) ? "required" : "",
    words(field),
  ]);
  return rows.length ? rows : [["body", "", words(schema)]];
}

function words(schema = {}) {
  const choice = schema.enum ?? schema.items?.enum;
  const kind = [schema.type, schema.format].filter(Boolean).join(", ");
  const parts = [kind, schema.description, choice && `one of ${choice.join(", ")}`];
  if (schema.default !== undefined) parts.push(`default ${schema.default}`);
  return parts.filter(Boolean).join("; ");
}

function curl(method, path, operation) {
  const parts = ["curl"];
  if (method !== "get") parts.push("-X", method.toUpperCase());
  const kinds = Object.keys(operation.requestBody?.content ?? {});
  if (kinds.includes("multipart/form-data")) parts.push("-F file=@talk.mp3", "-F model=whisper-1");
  else if (kinds.includes("application/json")) parts.push("--json '{}'");
  else if (kinds.length) parts.push("--data-binary @bundle.tar");
  parts.push(location.origin + path);
  return parts.join(" ");
}
