// The HTTP API of `samlet serve`. Every refusal becomes an ApiError with the server's own sentence.

export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

const BASE = new URL("v1/", document.baseURI);

let token = null; // in this page's memory only
let asking = null;
let askForToken = async () => null;

/** Say how the visitor is asked for the server's token, if it wants one: a function that gives it, or null. */
export function whenTokenIsWanted(ask) {
  askForToken = ask;
}

/** Models by id: {id: {display_name, object_head, text, default, ...}}. */
export async function models() {
  return (await (await call("models")).json()).data;
}

/** Encode a picture; gives {id, model, width, height, milliseconds}. */
export async function embed(picture, model) {
  const type = picture.type.startsWith("image/") ? picture.type : "application/octet-stream";
  const path = `embeddings?model=${encodeURIComponent(model)}`;
  return (await call(path, { method: "POST", body: picture, headers: { "Content-Type": type } })).json();
}

/** The embedding itself: {data: Float32Array, shape, frame}. */
export async function embedding(id) {
  const response = await call(`embeddings/${id}/array`);
  return {
    data: new Float32Array(await response.arrayBuffer()),
    shape: response.headers.get("X-Shape").split(",").map(Number),
    frame: JSON.parse(response.headers.get("X-Frame")),
  };
}

/** Forget a picture; also works while the page closes. */
export function forget(id) {
  return ask(new URL(`embeddings/${id}`, BASE), { method: "DELETE", keepalive: true }).catch(() => {});
}

/** Masks for one prompt {points, labels, boxes, multimask}. */
export async function segment(id, prompt) {
  return (await call(`embeddings/${id}/segment`, json({ ...prompt, format: "rle" }))).json();
}

/** Masks of what words name. */
export async function text(id, find) {
  return (await call(`embeddings/${id}/text`, json({ find, format: "rle" }))).json();
}

/** All masks of a picture; `progress(done, total)` is called on the way. */
export async function everything(id, progress, signal) {
  const response = await call(`embeddings/${id}/everything`, { ...json({ format: "rle" }), signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let answer = null;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    const lines = (rest + part.value).split("\n");
    rest = lines.pop();
    for (const line of lines.filter(Boolean)) answer = note(JSON.parse(line), progress) ?? answer;
  }
  if (rest.trim()) answer = note(JSON.parse(rest), progress) ?? answer;
  if (!answer) throw new ApiError("The answer broke off; try again.", 0);
  return answer;
}

function note(line, progress) {
  if (line.error) throw new ApiError(line.error, 500);
  if (line.progress) progress(...line.progress);
  return line.masks ? line : null;
}

/** The files of a model's encoder or decoder, or null if the server has none to give. */
export async function networkFiles(model, role) {
  const folder = new URL(`models/${encodeURIComponent(model)}/`, BASE);
  const [graph, weights] = await Promise.all(
    [`${role}.onnx`, `${role}.bin`].map((name) => ask(new URL(name, folder)).catch(() => null)),
  );
  if (!graph?.ok || !weights?.ok) return null;
  return {
    graph: await graph.arrayBuffer(),
    weights: await weights.arrayBuffer(),
    location: graph.headers.get("X-Weights-Location"),
  };
}

function json(body) {
  return { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
}

function ask(url, options = {}) {
  const shown = token === null ? {} : { Authorization: `Bearer ${token}` };
  return fetch(url, { ...options, headers: { ...options.headers, ...shown } });
}

async function call(path, options) {
  let response;
  try {
    response = await ask(new URL(path, BASE), options);
    while (response.status === 401) {
      asking ??= askForToken().finally(() => { asking = null; }); // one question, however many calls wait for it
      token = await asking;
      if (token === null) break;
      response = await ask(new URL(path, BASE), options);
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached; is samlet serve still running?", 0);
  }
  if (response.ok) return response;
  const told = await response.json().then((body) => body.error, () => null);
  throw new ApiError(typeof told === "string" ? told : sentence(response), response.status);
}

function sentence({ status }) {
  if (status === 401) return "This server wants a token; load the page again and enter it.";
  if (status === 413) return "The picture is too large for this server; scale it down.";
  if (status === 429 || status === 503) return "The server is busy; try again in a moment.";
  return `The server answered with status ${status}; try again, or look at its log.`;
}
